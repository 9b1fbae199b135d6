// Cross-entropy of logits and targets: the loss of every row and, if wanted, the gradient, which may overwrite the logits, and
// what else the softmax says.
//
// A row has a coefficient a_c for each class, their sum A, and a weight v. With the scaled and capped logits z (`scaled_logits`), their
// maximum m, p = softmax(z) and L = m + log(sum of exp(z - m)):
//
//   loss = v (A log(sum of exp(z - m)) - (sum of a_c (z_c - m)) + z_loss L^2)
//   grad_c = factor v (A p_c - a_c + 2 z_loss L p_c) dz_c/dx_c
//
// TARGETS 0, class indices:       a_c = w_t [c = t]
// TARGETS 1, indices, smoothed:   a_c = (1 - s) w_t [c = t] + s / C w_c
// TARGETS 2, probabilities q:     a_c = w_c ((1 - s) q_c + s / C)
//
// Bindings: logits [outer, classes, inner], targets [outer, inner] (absent with probabilities), probabilities like logits
// (absent with indices), weight (one element, or one a class), position_weight and factor (one element, or one a row),
// losses [outer, inner], grad like logits, statistics (five words a row: L, the target's log-probability, the entropy, the predicted
// class or -1, and 0 if the row is not counted, 1 if the prediction is wrong, 2 if it is right).

// The gradient of some of the classes alone takes from the others the row's statistics and A. They are kept by a dispatch that sees
// all classes (STATISTICS 2) and given to those that see some (3).

override TARGETS: u32;
// 1: write the statistics. 2: write what is kept (five words a row: its RowStats and A). 3: read that, as `parts`.
override STATISTICS: u32;

const HOLD_EXP: bool = true;

const SOME: bool = STATISTICS == 3u;

fn first_class() -> u32 {
    if (SOME) {
        return params.first_class;
    }
    return 0u;
}

fn all_classes() -> u32 {
    if (SOME) {
        return params.all_classes;
    }
    return classes();
}

fn kept_stats(row: Row) -> RowStats {
    let at = params.parts_base + 5u * row.index;
    return RowStats(load_parts(at), load_parts(at + 1u), load_parts(at + 2u), u32(load_parts(at + 3u)));
}

// A product in which a coefficient of 0 wins over an infinite value. (Rows with NaN are set apart.)
fn weighted(coefficient: f32, value: f32) -> f32 {
    return select(coefficient * value, 0.0, coefficient == 0.0);
}

// The coefficients of as many classes, from c on, as there is room for, and 0 for the others. `weight` is the target's, and `at`
// where a row's probabilities begin.
fn coefficients(c: u32, room: u32, t: u32, weight: f32, at: u32) -> vec4<f32> {
    var a = vec4<f32>();
    for (var k = 0u; k < min(4u, room); k++) {
        let class_index = c + k;
        if (TARGETS == 2u) {
            let q = load_probabilities(at + class_index * params.inner);
            a[k] = class_weight(first_class() + class_index) * (params.kept * q + params.spread);
        } else {
            a[k] = class_weight(first_class() + class_index) * params.spread;
            if (class_index == t) {
                a[k] += params.kept * weight;
            }
        }
    }
    return a;
}

// The sums of a_c and of a_c (z_c - m) over a row, the same for all its threads. Every thread of the workgroup takes part.
fn row_terms(row: Row, thread: u32, m: f32, t: u32, weight: f32, at: u32) -> vec2<f32> {
    var terms = vec2<f32>();
    for (var i = 0u; i < row.blocks; i++) {
        for (var j = 0u; j < 4u; j++) {
            let c = quad_start(row, i, j);
            let a = coefficients(c, room_at(false, c), t, weight, at);
            let d = gap4(logits_quad(row, i, j, false), m);
            let product = vec4<f32>(weighted(a.x, d.x), weighted(a.y, d.y), weighted(a.z, d.z), weighted(a.w, d.w));
            terms += vec2<f32>((a.x + a.y) + (a.z + a.w), (product.x + product.y) + (product.z + product.w));
        }
    }
    return sum_across(thread, terms, LANES);
}

// What the gradient of a row needs: of exp(z_c - m) a share, from which scale times the coefficient goes off.
struct RowGrad {
    max: f32,
    share: f32,
    scale: f32,
    t: u32,
    weight: f32,
    probabilities_start: u32,
    poison: bool,
    ignored: bool,
    // The bits of what is the least that does not count as 0.
    least: u32,
}

// By bits: NaN is not small, and nothing is where the factor is NaN.
fn least_bits(scale: f32) -> u32 {
    let bits = bitcast<u32>(params.threshold * scale) & 0x7fffffffu;
    return select(bits, 0u, bits > 0x7f800000u);
}

fn not_small(g: vec4<f32>, least: u32) -> vec4<f32> {
    if (GRAD != 2u) {
        return g;
    }
    let small = (bitcast<vec4<u32>>(g) & vec4<u32>(0x7fffffffu)) < vec4<u32>(least);
    return select(g, vec4<f32>(), small);
}

fn grad_block(row: Row, i: u32, inside: bool, grad: RowGrad) {
    var e = again(row, i, inside, grad.max);
    for (var j = 0u; j < 4u; j++) { // unrolled if WHOLE
        let c = quad_start(row, i, j);
        let room = room_at(inside, c);
        var g = grad.share * e[j];
        if (TARGETS != 0u) {
            g -= grad.scale * coefficients(c, room, grad.t, grad.weight, grad.probabilities_start);
        }
        if (LOGITS == 2u) {
            g *= slope4(logits_quad(row, i, j, inside));
        }
        g = not_small(g, grad.least);
        g = select(g, vec4<f32>(nan()), grad.poison);
        g = select(g, vec4<f32>(0.0), grad.ignored);
        store_quad_grad(params.grad_base + row.start + c * params.inner, params.inner, room, g);
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group_index(group, groups), thread);
    let probabilities_start = params.targets_base + select(row.start, row.index * all_classes(), SOME);

    let row_weight = position_weight(row.index);
    var ignored = is_zero(row_weight);
    var valid = true;
    var t = 0u;
    var weight = 0.0;
    var target_logit = 0.0;
    if (TARGETS != 2u) {
        let target_class = load_targets(params.targets_base + row.index);
        ignored |= target_class == params.ignore_index;
        valid = target_class >= 0 && u32(target_class) < all_classes();
        if (valid) {
            // Past the row's end if it is none of some classes.
            t = u32(target_class) - first_class();
            weight = class_weight(u32(target_class));
            // Only the thread that writes the gradient over it may read it.
            if (goes_through(row, t) && (!SOME || t < classes())) {
                target_logit = one_logit(row, t);
            }
        }
    }

    var stats: RowStats;
    if (SOME) {
        stats = kept_stats(row);
    } else {
        stats = row_stats(row, thread);
    }
    let log_total = log_sum(stats);
    let log_sum_exp = scaled4(vec4<f32>(stats.max)).x + log_total;
    let target_gap = gap(target_logit, stats.max);
    var terms = vec2<f32>(weight, weighted(weight, target_gap));
    if (SOME) {
        terms.x = load_parts(params.parts_base + 5u * row.index + 4u);
    } else if (TARGETS != 0u) {
        terms = row_terms(row, thread, stats.max, t, weight, probabilities_start);
    }
    let undefined = no_softmax(stats);
    // Probabilities of no classes cost nothing; an index of no classes is not valid.
    let poison = !ignored && (!valid || (classes() > 0u && undefined));
    // The thread that knows the target's logit, if there is one.
    let first = row.part == 0u && row.lane == 0u;
    let tells_loss = select(first, goes_through(row, t), valid && TARGETS != 2u);
    if (!row.surplus && tells_loss) {
        let normaliser = weighted(params.z_loss * log_sum_exp, log_sum_exp);
        let loss = row_weight * (weighted(terms.x, log_total) - terms.y + select(normaliser, 0.0, undefined));
        store_losses(params.losses_base + row.index, select(select(loss, nan(), poison), 0.0, ignored));
    }
    if (STATISTICS == 2u && !row.surplus && first) {
        let at = params.statistics_base + 5u * row.index;
        store_statistics(at, bitcast<u32>(stats.max));
        store_statistics(at + 1u, bitcast<u32>(stats.ties));
        store_statistics(at + 2u, bitcast<u32>(stats.rest));
        store_statistics(at + 3u, bitcast<u32>(f32(stats.poison)));
        store_statistics(at + 4u, bitcast<u32>(terms.x));
    }
    if (STATISTICS == 1u) {
        let s = class_statistics(row, thread, stats, probabilities_start);
        var statistics_class = t;
        var log_prob = target_gap - log_total;
        var tells = tells_loss;
        if (TARGETS == 2u) {
            statistics_class = s.likely;
            log_prob = nan();
            if (s.likely != NONE) {
                tells = goes_through(row, s.likely);
                if (tells) {
                    log_prob = gap(one_logit(row, s.likely), stats.max) - log_total;
                }
            }
        }
        if (!row.surplus && tells) {
            let at = params.statistics_base + 5u * row.index;
            store_statistics(at, bitcast<u32>(select(log_sum_exp, nan(), undefined)));
            store_statistics(at + 1u, bitcast<u32>(select(select(log_prob, nan(), undefined || !valid), 0.0, ignored)));
            store_statistics(at + 2u, bitcast<u32>(select(log_total + s.spread, nan(), undefined)));
            store_statistics(at + 3u, select(s.predicted, NONE, undefined));
            let right = !undefined && s.predicted == statistics_class;
            store_statistics(at + 4u, select(select(1u, 2u, right), 0u, ignored || !valid));
        }
    }
    if (GRAD == 0u || row.surplus) {
        return;
    }

    let scale = grad_factor(row.index) * row_weight;
    let total = stats.ties + stats.rest;
    let pull = weighted(2.0 * params.z_loss, log_sum_exp);
    // p - 1 cancels where p is near 1; the sum over the other classes does not.
    let certain = stats.ties == 1.0 && target_logit == stats.max;
    let p = exp_nonpositive(target_gap) / total;
    let slope = select(1.0, params.logit_scale, LOGITS == 1u);
    let target_grad = scale * slope * (weight * select(p - 1.0, -(stats.rest / total), certain) + pull * p);
    // In this order the usual factors of 1 cost no rounding.
    let share = scale * slope * (terms.x + pull) * exp_factor(stats.max) / total;
    let least = least_bits(scale);
    let grad = RowGrad(stats.max, share, scale * slope, t, weight, probabilities_start, poison, ignored, least);
    for (var i = 0u; i < row.whole; i++) {
        grad_block(row, i, true, grad);
    }
    for (var i = row.whole; i < row.blocks; i++) {
        grad_block(row, i, false, grad);
    }
    // In place of what the thread has just stored there.
    if (TARGETS == 0u && !poison && !ignored && goes_through(row, t) && (!SOME || t < classes())) {
        let g = select(target_grad, target_grad * slope4(vec4<f32>(target_logit)).x, LOGITS == 2u);
        store_grad(params.grad_base + row.start + t * params.inner, not_small(vec4<f32>(g), least).x);
    }
}
