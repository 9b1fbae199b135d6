// What the gradients of rows are multiplied with: the upstream gradient over the mean's divisor.
// Bindings: upstream, denominator (a partial result), factor like upstream.

struct Params {
    // Elements of this dispatch.
    count: u32,
    // Elements that a workgroup divides.
    block: u32,
    upstream_base: u32,
    denominator_base: u32,
    factor_base: u32,
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let start = min(group_index(group, groups) * params.block, params.count);
    let end = min(start + params.block, params.count);
    let divisor = bitcast<f32>(load_denominator(params.denominator_base));
    for (var i = start + thread; i < end; i += WORKGROUP) {
        let upstream = load_upstream(params.upstream_base + i);
        store_factor(params.factor_base + i, quotient(upstream, divisor));
    }
}
