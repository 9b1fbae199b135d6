// Sums a tensor's values by blocks. Bindings: values, partials (two words a block).

struct Params {
    // Values of this dispatch.
    count: u32,
    // Values of a block: what a workgroup sums.
    block: u32,
    values_base: u32,
    partials_base: u32,
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
    var sum = 0.0;
    for (var i = start + thread; i < end; i += WORKGROUP) {
        sum += load_values(params.values_base + i);
    }
    let partial = combine(thread, sum, NONE);
    if (thread == 0u && start < end) {
        store_partials(params.partials_base + 2u * block, partial.x);
        store_partials(params.partials_base + 2u * block + 1u, partial.y);
    }
}
