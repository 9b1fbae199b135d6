// What gradients are multiplied with so that their norm is at most `max_norm`; NaN if the norm is, or with the guard if a gradient is
// NaN or infinite. Bindings: total (a partial result of `grad_norm`), factor, norm, skipped (one element each).

struct Params {
    total_base: u32,
    factor_base: u32,
    norm_base: u32,
    skipped_base: u32,
    // Infinity: no bound.
    max_norm: f32,
    // 1: skip the update if a gradient is not finite.
    guard: u32,
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
    let norm = sqrt(bitcast<f32>(load_total(params.total_base)));
    let bad = load_total(params.total_base + 1u) != NONE;
    let factor = select(1.0, params.max_norm / (norm + 1e-6), norm + 1e-6 > params.max_norm);
    let skipped = bad && params.guard == 1u;
    store_factor(params.factor_base, select(factor, nan(), skipped || is_nan(norm)));
    store_norm(params.norm_base, norm);
    store_skipped(params.skipped_base, u32(skipped));
}
