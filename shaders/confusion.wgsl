// Counts which class rows were taken for, and how many logits lie above their target's. Rows whose target is ignored, or no class, are not
// counted. Bindings: targets, predicted and row_ranks [rows], confusion [classes, classes + 1] (a row for each target;
// the last column is for rows without a softmax), ranks [classes + 1] (the last likewise).

struct Params {
    rows: u32,
    classes: u32,
    // Rows that a workgroup counts.
    block: u32,
    targets_base: u32,
    predicted_base: u32,
    row_ranks_base: u32,
    confusion_base: u32,
    ranks_base: u32,
    ignore_index: i32,
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let start = min(group_index(group, groups) * params.block, params.rows);
    let end = min(start + params.block, params.rows);
    for (var row = start + thread; row < end; row += WORKGROUP) {
        let t = load_targets(params.targets_base + row);
        let p = load_predicted(params.predicted_base + row);
        if (t == params.ignore_index || t < 0 || u32(t) >= params.classes) {
            continue;
        }
        let column = select(params.classes, u32(p), p >= 0);
        count_confusion(params.confusion_base + u32(t) * (params.classes + 1u) + column);
        let rank = load_row_ranks(params.row_ranks_base + row);
        count_ranks(params.ranks_base + select(params.classes, rank, p >= 0));
    }
}
