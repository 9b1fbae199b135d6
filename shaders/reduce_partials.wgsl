// Combines partial results by blocks. Bindings: input, partials (both two words each).

struct Params {
    // Partial results of this dispatch.
    count: u32,
    // Partial results of a block: what a workgroup combines.
    block: u32,
    input_base: u32,
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
    var bad = NONE;
    for (var i = start + thread; i < end; i += WORKGROUP) {
        sum += bitcast<f32>(load_input(params.input_base + 2u * i));
        bad = min(bad, load_input(params.input_base + 2u * i + 1u));
    }
    let partial = combine(thread, sum, bad);
    if (thread == 0u && start < end) {
        store_partials(params.partials_base + 2u * block, partial.x);
        store_partials(params.partials_base + 2u * block + 1u, partial.y);
    }
}
