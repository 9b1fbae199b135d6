// needs: count_blocks
// Splits the statistics that `cross_entropy` writes into one tensor per statistic, and counts by
// blocks the rows of outcome 2 (the prediction is right) and of an outcome other than 0.
// Bindings: statistics [rows, 5]; log_sum_exp, target_log_prob, entropy and predicted [rows].

fn counts_of(i: u32) -> vec2<u32> {
    let at = 5u * i;
    store_log_sum_exp(i, bitcast<f32>(load_statistics(at)));
    store_target_log_prob(i, bitcast<f32>(load_statistics(at + 1u)));
    store_entropy(i, bitcast<f32>(load_statistics(at + 2u)));
    store_predicted(i, bitcast<i32>(load_statistics(at + 3u)));
    let outcome = load_statistics(at + 4u);
    return vec2<u32>(u32(outcome == 2u), u32(outcome != 0u));
}
