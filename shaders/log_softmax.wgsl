// needs: plain_logits row_map sum_across
// output = (x - m) - log(sum of exp(x - m)) with the row maximum m

const HOLD_EXP: bool = false;

fn row_scalar(stats: RowStats) -> f32 {
    return log_sum(stats);
}

fn row_value(x: vec4<f32>, m: f32, log_total: f32) -> vec4<f32> {
    return (x - m) - log_total;
}
