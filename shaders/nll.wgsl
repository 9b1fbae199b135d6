// needs: lanes row_loss rows
// Negative log-likelihood of log-probabilities and class indices, and its gradient.
//
//   loss = -v w_t log_probs_t        grad_c = -factor v w_t [c = t]        with the row's weight v
//
// Bindings: log_probs [outer, classes, inner]; targets [outer, inner]; weight (scalar, or
// [classes]); position_weight (scalar, or [outer, inner]); factor (the same, or two factors if
// `factor_form` is 2); losses [outer, inner]; grad, like log_probs.

fn fill_block(row: Row, i: u32, inside: bool, value: f32) {
    for (var j = 0u; j < 4u; j++) { // unrolled if WHOLE
        let c = quad_start(row, i, j);
        let to = row.start + c * inner();
        store_quad_grad(to, inner(), room_at(inside, c), vec4<f32>(value));
    }
}

// LANES threads share a row. The loss is written by the lane whose blocks include the target, or by
// the first lane if no class is the target; each lane writes the gradient of its own blocks.
fn body(group: u32, thread: u32) {
    let row = row_of(group, thread);
    if (row.surplus) {
        return;
    }
    let target_class = load_targets(row.index);
    let row_weight = position_weight(row.index);
    let ignored = target_class == params.ignored || is_zero(row_weight);
    let valid = target_class >= 0 && u32(target_class) < classes();
    let t = select(0u, u32(target_class), valid);
    let has_target = valid && !ignored;
    if (has_target) {
        // In place, only the thread that overwrites the log-probability may read it.
        if (processes(row, t)) {
            let log_prob = load_log_probs(row.start + t * inner());
            let weight = row_weight * class_weight(t);
            // With a weight of 0 the loss is 0 even if the log-probability is infinite, but not if
            // it is NaN.
            store_losses(row.index, select(-(weight * log_prob), 0.0, is_zero(weight) && !is_nan(log_prob)));
        }
    } else if (row.lane == 0u && row.begin == 0u) {
        store_losses(row.index, select(nan(), 0.0, ignored));
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
    let others = select(nan(), 0.0, valid || ignored);
    for (var i = row.begin; i < row.whole; i++) {
        fill_block(row, i, true, others);
    }
    for (var i = row.whole; i < row.end; i++) {
        fill_block(row, i, false, others);
    }
    // Overwrites the gradient that this thread has just stored for the target.
    if (has_target && processes(row, t)) {
        store_grad(row.start + t * inner(), -scale);
    }
}
