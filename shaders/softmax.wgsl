// exp(x - m) / (sum of exp(x - m))

fn row_scalar(stats: RowStats) -> f32 {
    return stats.ties + stats.rest;
}

fn row_value(x: vec4<f32>, m: f32, total: f32) -> vec4<f32> {
    return exp4_nonpositive(x - m) / total;
}
