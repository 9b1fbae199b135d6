// Takes the rows' statistics, as `cross_entropy` writes them, apart, and counts by blocks the right predictions and the counted rows.
// Bindings: statistics (five words a row), log_sum_exp, target_log_prob, entropy, predicted (one element a row), partials (two
// words a block).

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let block = group_index(group, groups);
    let start = min(block * params.block, params.count);
    let end = min(start + params.block, params.count);
    var counts = vec2<u32>();
    for (var i = start + thread; i < end; i += WORKGROUP) {
        let at = 5u * i;
        store_log_sum_exp(i, bitcast<f32>(load_statistics(at)));
        store_target_log_prob(i, bitcast<f32>(load_statistics(at + 1u)));
        store_entropy(i, bitcast<f32>(load_statistics(at + 2u)));
        store_predicted(i, bitcast<i32>(load_statistics(at + 3u)));
        let outcome = load_statistics(at + 4u);
        counts += vec2<u32>(u32(outcome == 2u), u32(outcome != 0u));
    }
    counts = combine_counts(thread, counts);
    if (thread == 0u && start < end) {
        store_partials(2u * block, counts.x);
        store_partials(2u * block + 1u, counts.y);
    }
}
