// Counts which of two classes elements were taken for: the second where a score lies above the threshold. An element whose target
// is NaN is not counted. Bindings: scores, targets (above 1/2: the second class), confusion [2, 3] (a row for each target; the last
// column is for scores that are NaN), ranks [3] (right, wrong, NaN).

struct Params {
    count: u32,
    // Elements that a workgroup counts.
    block: u32,
    scores_base: u32,
    targets_base: u32,
    confusion_base: u32,
    ranks_base: u32,
    threshold: f32,
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let start = min(group_index(group, groups) * params.block, params.count);
    let end = min(start + params.block, params.count);
    for (var i = start + thread; i < end; i += WORKGROUP) {
        let score = load_scores(params.scores_base + i);
        let y = load_targets(params.targets_base + i);
        if (is_nan(y)) {
            continue;
        }
        let t = u32(y > 0.5);
        let p = u32(score > params.threshold);
        count_confusion(params.confusion_base + 3u * t + select(p, 2u, is_nan(score)));
        count_ranks(params.ranks_base + select(u32(p != t), 2u, is_nan(score)));
    }
}
