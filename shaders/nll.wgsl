// needs: lanes row_loss rows
// Negative log-likelihood of log-probabilities and class indices, and its gradient.
//
//   loss = -v w_t log_probs_t        grad_c = -factor v w_t [c = t]        with the row's weight v
//
// Bindings: log_probs [outer, classes, inner]; targets [outer, inner]; weight (scalar, or
// [classes]); position_weight and factor (scalar, or [outer, inner]); losses [outer, inner]; grad,
// like log_probs.

fn fill_block(row: Row, i: u32, inside: bool, value: f32) {
    for (var j = 0u; j < 4u; j++) { // unrolled if WHOLE
        let c = quad_start(row, i, j);
        let to = row.start + c * params.inner;
        store_quad_grad(to, params.inner, room_at(inside, c), vec4<f32>(value));
    }
}

// LANES threads share a row: the first lane writes its loss, and each lane the gradient of its own
// blocks.
@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group_index(group, groups), thread);
    if (row.surplus) {
        return;
    }
    let target_class = load_targets(row.index);
    let row_weight = position_weight(row.index);
    let ignored = target_class == params.ignored || is_zero(row_weight);
    let valid = target_class >= 0 && u32(target_class) < classes();
    let t = select(0u, u32(target_class), valid);
    if (row.lane == 0u && row.begin == 0u) {
        var loss = nan();
        if (ignored) {
            loss = 0.0;
        } else if (valid) {
            let log_prob = load_log_probs(row.start + t * params.inner);
            let weight = row_weight * class_weight(t);
            // With a weight of 0 the loss is 0 even if the log-probability is infinite, but not if
            // it is NaN.
            loss = select(-(weight * log_prob), 0.0, weight == 0.0 && !is_nan(log_prob));
        }
        store_losses(row.index, loss);
    }
    if (GRAD == 0u) {
        return;
    }
    var scale = 0.0;
    if (FACTORS == 0u) {
        scale = plain_factor(row.index);
    } else {
        let factors = multipliers(times(wide_factor(row.index, row_weight), wide(class_weight(t))));
        scale = factors.x * factors.y;
    }
    let special = select(select(nan(), 0.0, valid), 0.0, ignored);
    for (var i = row.begin; i < row.whole; i++) {
        fill_block(row, i, true, special);
    }
    for (var i = row.whole; i < row.end; i++) {
        fill_block(row, i, false, special);
    }
    // Overwrites the gradient that this thread has just stored for the target.
    if (valid && !ignored && goes_through(row, t)) {
        store_grad(row.start + t * params.inner, -scale);
    }
}
