// Cross-entropy of logits and class indices: the loss of every row and, if wanted, the gradient, which may overwrite the logits.
//
//   loss = log(sum of exp(x - m)) - (x_t - m)        grad_c = scale * (exp(x_c - m) / (sum of exp(x - m)) - [c = t])
//
// Bindings: logits [outer, classes, inner], targets [outer, inner], counts (valid targets, first bad position),
// upstream (one element, or one a row), losses [outer, inner], grad like logits.

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    var row = row_of(group_index(group, groups), thread, params.classes, params.inner);
    let inside = row.index < params.rows;
    let grad_start = params.grad_base + row.start;
    row.start += params.input_base;
    // Surplus rows take part in the barriers with no elements.
    let classes = select(0u, params.classes, inside);

    var target_class = -1;
    var target_logit = 0.0;
    if (inside) {
        target_class = load_targets(params.targets_base + row.index);
    }
    let ignored = target_class == params.ignore_index;
    let valid = target_class >= 0 && u32(target_class) < classes;
    let t = select(0u, u32(target_class), valid);
    if (valid) {
        // Before the gradient may overwrite it: the barriers of `row_stats` lie between.
        target_logit = load_logits(row.start + t * params.inner);
    }

    let stats = row_stats(row, thread, classes, params.inner);
    let poison = !ignored && (!valid || no_softmax(stats));
    if (inside && row.lane == 0u) {
        var loss = log_sum(stats) - (target_logit - stats.max);
        loss = select(loss, nan(), poison);
        store_losses(params.losses_base + row.index, select(loss, 0.0, ignored));
    }
    if (GRAD == 0u || !inside) {
        return;
    }

    let scale = row_scale(row.index);
    let inverse = 1.0 / (stats.ties + stats.rest);
    // p - 1 cancels where p is near 1; the sum over the other classes does not.
    let certain = stats.ties == 1.0 && target_logit == stats.max;
    let p = exp_nonpositive(target_logit - stats.max) * inverse;
    let target_grad = scale * select(p - 1.0, -(stats.rest * inverse), certain);
    for (var c = row.lane * 4u; c < classes; c += LANES * 4u) {
        let x = logits_quad(row.start, c, classes, params.inner);
        let at = vec4<u32>(c, c + 1u, c + 2u, c + 3u);
        var g = exp4_nonpositive(x - stats.max) * inverse * scale;
        g = select(g, vec4<f32>(target_grad), at == vec4<u32>(t));
        g = select(g, vec4<f32>(nan()), poison);
        g = select(g, vec4<f32>(0.0), ignored);
        if (params.inner == 1u && c + 4u <= classes) {
            store4_grad(grad_start + c, g);
        } else {
            for (var k = 0u; k < min(4u, classes - c); k++) {
                store_grad(grad_start + (c + k) * params.inner, g[k]);
            }
        }
    }
}
