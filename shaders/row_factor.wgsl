// What the gradients of rows are multiplied with, one upstream gradient over the mean's divisor, as two factors: their product need not be an
// ordinary number. Bindings: upstream, denominator (a partial result), factor (two elements).

struct Params {
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
    if (group_index(group, groups) + thread != 0u) {
        return;
    }
    let divisor = wide(bitcast<f32>(load_denominator(params.denominator_base)));
    let factors = multipliers(over(wide(load_upstream(params.upstream_base)), divisor));
    store_factor(params.factor_base, factors.x);
    store_factor(params.factor_base + 1u, factors.y);
}
