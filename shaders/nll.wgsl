// Negative log-likelihood of log-probabilities and class indices, and its gradient.
//
//   loss = -v w_t log_probs_t        grad_c = -factor v w_t [c = t]        with the row's weight v
//
// Bindings: log_probs [outer, classes, inner], targets [outer, inner], weight (one element, or one a class),
// position_weight and factor (one element, or one a row), losses [outer, inner], grad like log_probs.

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group_index(group, groups), thread, params.classes, params.inner);
    if (row.index >= params.rows) {
        return;
    }
    let target_class = load_targets(params.targets_base + row.index);
    let row_weight = position_weight(row.index);
    let ignored = target_class == params.ignore_index || is_zero(row_weight);
    let valid = target_class >= 0 && u32(target_class) < params.classes;
    let t = select(0u, u32(target_class), valid);
    if (row.lane == 0u) {
        var loss = nan();
        if (ignored) {
            loss = 0.0;
        } else if (valid) {
            let log_prob = load_log_probs(params.input_base + row.start + t * params.inner);
            let weight = row_weight * class_weight(t);
            // A weight of 0 wins over an infinite log-probability, but not over NaN.
            loss = select(-(weight * log_prob), 0.0, weight == 0.0 && !is_nan(log_prob));
        }
        store_losses(params.losses_base + row.index, loss);
    }
    if (GRAD == 0u) {
        return;
    }
    let scale = grad_factor(row.index) * row_weight * class_weight(t);
    let to = params.grad_base + row.start;
    for (var c = row.lane * 4u; c < params.classes; c += LANES * 4u) {
        let at = vec4<u32>(c, c + 1u, c + 2u, c + 3u);
        var g = select(vec4<f32>(0.0), vec4<f32>(-scale), at == vec4<u32>(t));
        g = select(vec4<f32>(nan()), g, valid);
        g = select(g, vec4<f32>(0.0), ignored);
        if (whole_quad(c, params.classes, params.inner)) {
            store4_grad(to + c, g);
        } else {
            for (var k = 0u; k < min(4u, params.classes - c); k++) {
                store_grad(to + (c + k) * params.inner, g[k]);
            }
        }
    }
}
