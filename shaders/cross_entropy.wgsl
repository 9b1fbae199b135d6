// needs: row_stats row_sums scaled_logits
// Cross-entropy of logits and targets: the losses of all rows and, if requested, their gradient
// (possibly in place of the logits) and statistics.
//
// A row has a weight v, and a coefficient a_c for each class (see below), which depends on the
// class weights w, the target t or its probabilities q, the label smoothing s and the number of
// classes C. A is the sum of the coefficients. With the scaled and capped logits z
// (`scaled_logits`), their maximum m, p = softmax(z) and L = m + log(sum of exp(z - m)):
//
//   loss = v (A log(sum of exp(z - m)) - (sum of a_c (z_c - m)) + z_loss L^2)
//   grad_c = factor v (A p_c - a_c + 2 z_loss L p_c) dz_c/dx_c
//
// TARGETS 0, class indices:       a_c = w_t [c = t]
// TARGETS 1, indices, smoothed:   a_c = (1 - s) w_t [c = t] + s / C w_c
// TARGETS 2, probabilities q:     a_c = w_c ((1 - s) q_c + s / C)
//
// Bindings: logits [outer, classes, inner]; targets [outer, inner] (absent for probabilities);
// probabilities, like logits (absent for indices); weight (scalar, or [classes], with TARGETS 1
// followed by the sum); position_weight (scalar, or [outer, inner]); factor (the same, or two
// factors if `factor_form` is 2); losses [outer, inner]; grad, like logits; statistics [outer,
// inner, 5]: L, the log-probability of the target, the entropy, the predicted class or -1, and the
// outcome (0: the row is ignored or its target is not a class, 1: the prediction is wrong, 2: it is
// right), or with STATISTICS 2 the row state; parts as in `row_stats`, or with STATISTICS 3 the row
// state [outer, inner, 5]; lanes as in `row_sums`.

// A dispatch that writes the gradient of only some classes or blocks (STATISTICS 3) needs the
// statistics and A of the whole row. Another dispatch (STATISTICS 2) has stored this row state in
// five words: the row maximum, the number of elements that equal it, the lifted sum of the other
// exponentials, flags (1: the softmax is undefined, 2: A is lifted), and A.

override TARGETS: u32;
// 1: write the statistics. 2: store the row state for other dispatches. 3: load the row state from
// `parts`.
override STATISTICS: u32;

const HOLD_EXP: bool = true;

// Whether this dispatch loads the row state that another dispatch stored.
const ROW_STATE_LOADED: bool = STATISTICS == 3u;

fn first_class() -> u32 {
    if (ROW_STATE_LOADED) {
        return params.first_class;
    }
    return 0u;
}

fn all_classes() -> u32 {
    if (ROW_STATE_LOADED) {
        return params.all_classes;
    }
    return classes();
}

fn load_row_stats(row: Row) -> RowStats {
    let at = 5u * row.index;
    return RowStats(load_parts(at), load_parts(at + 1u), load_parts(at + 2u), u32(load_parts(at + 3u)) & 1u);
}

// The sum of the coefficients in the row state.
fn load_sum_of_coefficients(row: Row) -> Wide {
    let at = 5u * row.index;
    let lifted = (u32(load_parts(at + 3u)) & 2u) != 0u;
    return Wide(load_parts(at + 4u), select(0, -LIFTED_BY, lifted));
}

// The sum of all class weights: stored after the weights, unless there is one weight for all.
fn total_class_weight() -> f32 {
    if (params.weight_stride == 0u) {
        return load_weight(0u) * f32(params.all_classes);
    }
    return load_weight(params.all_classes);
}

// A product that is 0 if the coefficient is 0, even if the value is infinite. (Rows with NaN are
// handled separately.)
fn weighted(coefficient: f32, value: f32) -> f32 {
    return select(coefficient * value, 0.0, coefficient == 0.0);
}

fn within(room: u32) -> vec4<bool> {
    return vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(room);
}

// The weights of 4 classes from c on, by one lane; 0 beyond the first `room`.
fn class_weights(c: u32, room: u32) -> vec4<f32> {
    let stride = params.weight_stride;
    return load_quad_weight((first_class() + c) * stride, stride, room, 0.0);
}

// The probabilities of 4 classes from c on; 0 beyond the first `room`.
fn probabilities4(c: u32, room: u32, at: u32) -> vec4<f32> {
    return load_quad_probabilities(at + c * inner(), inner(), room, 0.0);
}

// The factors of the weights in the coefficients of 4 classes from c on, if none is an index target.
fn shares4(c: u32, room: u32, at: u32) -> vec4<f32> {
    if (TARGETS == 2u) {
        return params.target_share * probabilities4(c, room, at) + params.uniform_share;
    }
    return vec4<f32>(params.uniform_share);
}

// Coefficients, the products of weights and shares, times a scale of any size, which is given as
// two factors. A small weight is multiplied by the scale first, a large weight by its share of the
// target, so that no intermediate product is subnormal or infinite unless the result is.
fn scaled_coefficients(weights: vec4<f32>, shares: vec4<f32>, scale: vec2<f32>) -> vec4<f32> {
    if (FACTORS == 0u) {
        return scale.x * (weights * shares) * scale.y;
    }
    let small = abs(weights) < vec4<f32>(1.0);
    let first = weights * select(shares, vec4<f32>(scale.x), small);
    return first * select(vec4<f32>(scale.x), shares, small) * scale.y;
}

// The sum of the coefficients of a smoothed target, which can be subnormal.
fn wide_smoothed_sum(weight: f32) -> Wide {
    let total = total_class_weight();
    let tiny = max(abs(weight), abs(total)) < 1.0;
    let lift = select(1.0, LIFT, tiny);
    let sum = wide(params.target_share * (weight * lift) + params.uniform_share * (total * lift));
    return Wide(sum.significand, sum.exponent - select(0, LIFTED_BY, tiny));
}

// A sum of coefficients as one number, which may be subnormal; its exponent is 0 or -LIFTED_BY.
fn unlifted(w: Wide) -> f32 {
    return select(w.significand, w.significand * LOWER, w.exponent != 0);
}

// The gradient of a row is share * exp(z_c - m) - scale * a_c, with lifted exponentials; a cap
// multiplies it by dz/dx. The gradient of an index target is computed apart and stored last.
// Share and scale are pairs of factors, to be multiplied one after the other (`multipliers`).
struct RowGrad {
    max: f32,
    share: vec2<f32>,
    scale: vec2<f32>,
    probabilities_start: u32,
    // The gradient of a row that is poisoned or ignored.
    constant: f32,
    is_constant: bool,
    // The bits of the smallest magnitude that is not replaced by 0.
    threshold_bits: u32,
}

// The bits of the threshold times the row's factor; 0 if that is NaN, so that nothing is small.
fn threshold_bits_of(factor: f32) -> u32 {
    let bits = bitcast<u32>(params.threshold * factor) & 0x7fffffffu;
    return select(bits, 0u, bits > 0x7f800000u);
}

// Replaces elements whose magnitude is below the threshold by 0, if requested. Compares bits, so
// that NaN is never small.
fn zero_below_threshold(g: vec4<f32>, threshold_bits: u32) -> vec4<f32> {
    if (GRAD != 2u) {
        return g;
    }
    let small = (bitcast<vec4<u32>>(g) & vec4<u32>(0x7fffffffu)) < vec4<u32>(threshold_bits);
    return select(g, vec4<f32>(), small);
}

// Writes the gradient of the 16 elements of block i, by one lane.
fn grad_block(row: Row, i: u32, inside: bool, grad: RowGrad) {
    var e = last_sweep_block(row, i, inside, grad.max);
    for (var j = 0u; j < 4u; j++) { // unrolled if WHOLE
        let c = quad_start(row, i, j);
        let room = room_at(inside, c);
        var g = grad.share.x * e[j] * grad.share.y;
        if (TARGETS != 0u) {
            let shares = shares4(c, room, grad.probabilities_start);
            g -= scaled_coefficients(row_weights(i, j, c, room), shares, grad.scale);
        }
        if (LOGITS == 2u) {
            g = times_slope4(g, logits_quad(row, i, j, inside));
        }
        g = zero_below_threshold(g, grad.threshold_bits);
        g = select(g, vec4<f32>(grad.constant), grad.is_constant);
        store_quad_grad(row.start + c * inner(), inner(), room, g);
    }
}

// LANES threads share a row of [outer, classes, inner], or one of its parts. All threads of a
// workgroup take part in the reductions; each lane writes the gradient of its own blocks. SWEEP 1
// returns as soon as each lane has stored its sums; SWEEP 2 loads them.
fn body(group: u32, thread: u32) {
    let row = row_of(group, thread);
    hold_logits(row);
    hold_weights(row);
    let probabilities_start = select(row.start, row.index * all_classes(), ROW_STATE_LOADED && all_classes() != classes());

    let row_weight = position_weight(row.index);
    var ignored = is_zero(row_weight);
    var valid = true;
    var t = 0u;
    var weight = 0.0;
    var target_logit = 0.0;
    if (TARGETS != 2u) {
        let target_class = load_targets(row.index);
        ignored |= target_class == params.ignored;
        valid = target_class >= 0 && u32(target_class) < all_classes();
        if (valid) {
            // If the target is not among the classes of this dispatch, t (which can wrap around) is
            // beyond the end of the row.
            t = u32(target_class) - first_class();
            weight = class_weight(u32(target_class));
            // In place, only the thread that overwrites the logit may read it.
            if (processes(row, t) && (!ROW_STATE_LOADED || t < classes())) {
                target_logit = one_logit(row, t);
            }
        }
    }

    var stats: RowStats;
    if (ROW_STATE_LOADED) {
        stats = load_row_stats(row);
    } else {
        stats = row_stats(row, thread);
    }
    var sums = no_sums();
    if (SUMMED) {
        sums = lane_sums(row, stats.max, probabilities_start);
        if (SWEEP == 1u) {
            if (!row.surplus) {
                store_lane_sums(row, sums);
            }
            return;
        }
        sums = all_sums(sums, thread);
    }
    let log_total = log_sum(stats);
    let log_sum_exp = scaled4(vec4<f32>(stats.max)).x + log_total;
    let target_gap = gap(target_logit, stats.max);
    var terms = vec2<f32>(weight, weighted(weight, target_gap));
    var sum_of_all = Wide(0.0, 0);
    if (ROW_STATE_LOADED) {
        sum_of_all = load_sum_of_coefficients(row);
        terms.x = unlifted(sum_of_all);
    } else if (TARGETS == 1u) {
        terms.x = params.target_share * weight + params.uniform_share * total_class_weight();
        terms.y = weighted(params.target_share, terms.y) + weighted(params.uniform_share, value_of(sums.gaps));
    } else if (TARGETS == 2u) {
        sum_of_all = sum_of_coefficients(sums);
        terms = vec2<f32>(unlifted(sum_of_all), value_of(sums.gaps));
    }
    let undefined = no_softmax(stats);
    // Without classes, probabilities have loss 0, and no index is valid.
    let poison = !ignored && (!valid || (classes() > 0u && undefined));
    // The thread that has the target's logit writes the loss; if the targets are probabilities, or
    // the target is not a class, the first thread of the row does.
    let first = row.part == 0u && row.lane == 0u && row.begin == 0u;
    let writes_loss = select(first, processes(row, t), valid && TARGETS != 2u);
    if (!row.surplus && writes_loss) {
        // Without z-loss, log_sum_exp may overflow.
        let z_loss_term = select(params.z_loss * log_sum_exp * log_sum_exp, 0.0, params.z_loss == 0.0);
        let loss = row_weight * (weighted(terms.x, log_total) - terms.y + select(z_loss_term, 0.0, undefined));
        store_losses(row.index, select(select(loss, nan(), poison), 0.0, ignored));
    }
    if (STATISTICS == 2u && !row.surplus && first) {
        let at = 5u * row.index;
        store_statistics(at, bitcast<u32>(stats.max));
        store_statistics(at + 1u, bitcast<u32>(stats.ties));
        store_statistics(at + 2u, bitcast<u32>(stats.rest));
        let lifted = TARGETS == 2u && sum_of_all.exponent != 0;
        store_statistics(at + 3u, bitcast<u32>(f32(stats.poison | select(0u, 2u, lifted))));
        store_statistics(at + 4u, bitcast<u32>(select(terms.x, sum_of_all.significand, lifted)));
    }
    if (STATISTICS == 1u) {
        let s = sums;
        var statistics_class = t;
        var log_prob = target_gap - log_total;
        var writes = writes_loss;
        if (TARGETS == 2u) {
            statistics_class = s.target_argmax;
            log_prob = nan();
            if (s.target_argmax != NONE) {
                writes = processes(row, s.target_argmax);
                if (writes) {
                    log_prob = gap(one_logit(row, s.target_argmax), stats.max) - log_total;
                }
            }
        }
        if (!row.surplus && writes) {
            let at = 5u * row.index;
            store_statistics(at, bitcast<u32>(select(log_sum_exp, nan(), undefined)));
            store_statistics(at + 1u, bitcast<u32>(select(select(log_prob, nan(), undefined || !valid), 0.0, ignored)));
            let entropy_term = value_of(s.entropy_sum) / sum_of_exp(stats);
            // If log(1 + rest) equals the rest, the rest and that term can each be subnormal while
            // their sum is not.
            let tiny = stats.ties == 1.0 && stats.rest * LOWER < 0x1p-24f;
            let entropy = select(log_total + entropy_term * LOWER, (stats.rest + entropy_term) * LOWER, tiny);
            store_statistics(at + 2u, bitcast<u32>(select(entropy, nan(), undefined)));
            store_statistics(at + 3u, select(s.predicted, NONE, undefined));
            let right = !undefined && s.predicted == statistics_class;
            store_statistics(at + 4u, select(select(1u, 2u, right), 0u, ignored || !valid));
        }
    }
    if (GRAD == 0u || row.surplus) {
        return;
    }

    let total = sum_of_exp(stats);
    let z_loss_slope = weighted(2.0 * params.z_loss, log_sum_exp);
    // p - 1 cancels if p is close to 1; the lifted sum over the other classes does not.
    let target_is_sole_max = stats.ties == 1.0 && target_logit == stats.max;
    let p = exp_nonpositive(target_gap) / total;
    let rest_probability_lifted = stats.rest / total;
    let target_slope = weight * select(p - 1.0, -rest_probability_lifted * LOWER, target_is_sole_max) + z_loss_slope * p;
    var grad = RowGrad(stats.max, vec2<f32>(), vec2<f32>(), probabilities_start, select(nan(), 0.0, ignored), poison || ignored, 0u);
    var target_grad = 0.0;
    if (FACTORS == 0u) {
        // Without huge factors, a subnormal result may be flushed.
        let factor = plain_factor(row.index);
        target_grad = factor * target_slope;
        grad.scale = vec2<f32>(factor, 1.0);
        grad.share = vec2<f32>(LOWER, factor * terms.x / total);
        grad.threshold_bits = threshold_bits_of(factor);
    } else {
        // In this order, factors of 1 cause no rounding. (Adding a z-loss slope of 0 could flush a
        // subnormal sum.)
        let factor = wide_factor(row.index, row_weight);
        let scale = times(factor, wide(select(1.0, params.logit_scale, LOGITS == 1u)));
        let no_z_loss = is_zero(z_loss_slope);
        let p_minus_one = Wide(select(p - 1.0, -rest_probability_lifted, target_is_sole_max), select(0, -LIFTED_BY, target_is_sole_max));
        let slope = times(wide(select(target_slope, weight, no_z_loss)), Wide(select(1.0, p_minus_one.significand, no_z_loss), select(0, p_minus_one.exponent, no_z_loss)));
        let target_factors = multipliers(times(scale, slope));
        target_grad = target_factors.x * target_factors.y;
        var sum = wide(select(terms.x + z_loss_slope, terms.x, no_z_loss));
        if (TARGETS == 1u && no_z_loss) {
            sum = wide_smoothed_sum(weight);
        }
        if (TARGETS == 2u && no_z_loss) {
            sum = times(wide(sum_of_all.significand), Wide(1.0, sum_of_all.exponent));
        }
        let all = times(scale, sum);
        grad.scale = multipliers(scale);
        grad.share = multipliers(Wide(all.significand / total, all.exponent - LIFTED_BY));
        let by_row = multipliers(factor);
        grad.threshold_bits = threshold_bits_of(by_row.x * by_row.y);
    }
    if (HELD > 0u) {
        for (var i = 0u; i < HELD; i++) { // unrolled
            grad_block(row, i, i < row.whole, grad);
        }
    } else {
        for (var i = row.begin; i < row.whole; i++) {
            grad_block(row, i, true, grad);
        }
        for (var i = row.whole; i < row.end; i++) {
            grad_block(row, i, false, grad);
        }
    }
    // Overwrites the gradient that this thread has just stored for the target.
    if (TARGETS != 2u && !grad.is_constant && processes(row, t) && (!ROW_STATE_LOADED || t < classes())) {
        var g = target_grad;
        if (TARGETS == 1u) {
            let share = params.uniform_share + params.target_share;
            g = grad.share.x * lifted_exp4(vec4<f32>(target_gap)).x * grad.share.y;
            g -= scaled_coefficients(vec4<f32>(weight), vec4<f32>(share), grad.scale).x;
        }
        if (LOGITS == 2u) {
            g = times_slope4(vec4<f32>(g), vec4<f32>(target_logit)).x;
        }
        store_grad(row.start + t * inner(), zero_below_threshold(vec4<f32>(g), grad.threshold_bits).x);
    }
}
