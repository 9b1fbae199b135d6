// needs: plain_logits row_map sum_across
// output = exp(x - m) / (sum of exp(x - m)) with the row maximum m

const HOLD_EXP: bool = true;

fn row_scalar(stats: RowStats) -> f32 {
    return 1.0 / sum_of_exp(stats);
}

fn row_value(e: vec4<f32>, m: f32, factor: f32) -> vec4<f32> {
    return e * LOWER * factor;
}
