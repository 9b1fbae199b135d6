// Sums the squares of gradients by blocks, and finds the first gradient that is NaN or infinite. Bindings: grads, partials (two words
// a block).

struct Params {
    // Gradients of this dispatch, and where the first of them lies in the whole tensor.
    count: u32,
    first: u32,
    // Gradients of a block: what a workgroup sums.
    block: u32,
    grads_base: u32,
    partials_base: u32,
    inverse_loss_scale: f32,
    clip_value: f32,
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
        let grad = load_grads(params.grads_base + i);
        if ((bitcast<u32>(grad) & 0x7fffffffu) >= 0x7f800000u) {
            bad = min(bad, params.first + i);
        }
        let g = settled(vec4<f32>(grad)).x;
        sum += g * g;
    }
    let partial = combine(thread, sum, bad);
    if (thread == 0u && start < end) {
        store_partials(params.partials_base + 2u * block, partial.x);
        store_partials(params.partials_base + 2u * block + 1u, partial.y);
    }
}
