// Adds up counts of targets. Bindings: input, counts (both two words each: valid targets, first bad position).

struct Params {
    // Counts of this dispatch.
    count: u32,
    // Counts of a block: what a workgroup adds up.
    block: u32,
    input_base: u32,
    counts_base: u32,
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
        valid += load_input(params.input_base + 2u * i);
        bad = min(bad, load_input(params.input_base + 2u * i + 1u));
    }
    let counts = combine_counts(thread, valid, bad);
    if (thread == 0u && start < end) {
        store_counts(params.counts_base + 2u * block, counts.x);
        store_counts(params.counts_base + 2u * block + 1u, counts.y);
    }
}
