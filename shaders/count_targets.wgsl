// Counts the targets that are not ignored, by blocks, and finds the first that is no class.
// Bindings: targets, counts (two words a block: valid targets, first bad position).

struct Params {
    // Targets of this dispatch, and where the first of them lies in the whole tensor.
    count: u32,
    first: u32,
    // Targets of a block: what a workgroup counts.
    block: u32,
    targets_base: u32,
    counts_base: u32,
    classes: u32,
    ignore_index: i32,
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let block = group_index(group, groups);
    let start = min(block * params.block, params.count);
    let end = min(start + params.block, params.count);
    var valid = 0u;
    var bad = NONE;
    for (var i = start + thread; i < end; i += WORKGROUP) {
        let t = load_targets(params.targets_base + i);
        if (t != params.ignore_index) {
            if (t >= 0 && u32(t) < params.classes) {
                valid += 1u;
            } else {
                bad = min(bad, params.first + i);
            }
        }
    }
    let counts = combine_counts(thread, valid, bad);
    if (thread == 0u && start < end) {
        store_counts(params.counts_base + 2u * block, counts.x);
        store_counts(params.counts_base + 2u * block + 1u, counts.y);
    }
}
