// Cross-entropy of logits and targets: the loss of every row and, if wanted, the gradient, which may overwrite the logits.
//
// A row has a coefficient a_c for each class and their sum A. With p = softmax(x) and the row's maximum m:
//
//   loss = A log(sum of exp(x - m)) - (sum of a_c (x_c - m))        grad_c = scale * (A p_c - a_c)
//
// TARGETS 0, class indices:       a_c = w_t [c = t]
// TARGETS 1, indices, smoothed:   a_c = (1 - s) w_t [c = t] + s / C w_c
// TARGETS 2, probabilities q:     a_c = w_c ((1 - s) q_c + s / C)
//
// Bindings: logits [outer, classes, inner], targets [outer, inner] (absent with probabilities), probabilities like logits
// (absent with indices), weight (one element, or one a class), denominator (a partial result), upstream (one element, or one
// a row), losses [outer, inner], grad like logits.

override TARGETS: u32;

var<workgroup> shared_terms: array<vec2<f32>, WORKGROUP>;

// A product in which a coefficient of 0 wins over an infinite value. (Rows with NaN are set apart.)
fn weighted(coefficient: f32, value: f32) -> f32 {
    return select(coefficient * value, 0.0, coefficient == 0.0);
}

// The coefficients of classes c .. c + 4, 0 past the last. `weight` is the target's, and `at` where a row's probabilities begin.
fn coefficients(c: u32, t: u32, weight: f32, at: u32) -> vec4<f32> {
    let spread = params.label_smoothing / f32(params.classes);
    var a = vec4<f32>();
    for (var k = 0u; k < min(4u, params.classes - c); k++) {
        let class_index = c + k;
        if (TARGETS == 2u) {
            let q = load_probabilities(at + class_index * params.inner);
            a[k] = class_weight(class_index) * ((1.0 - params.label_smoothing) * q + spread);
        } else {
            a[k] = class_weight(class_index) * spread;
            if (class_index == t) {
                a[k] += (1.0 - params.label_smoothing) * weight;
            }
        }
    }
    return a;
}

// The sums of a_c and of a_c (x_c - m) over a row, the same for all its threads. Every thread of the workgroup takes part.
fn row_terms(row: Row, thread: u32, classes: u32, m: f32, t: u32, weight: f32, at: u32) -> vec2<f32> {
    var terms = vec2<f32>();
    for (var c = row.lane * 4u; c < classes; c += LANES * 4u) {
        let a = coefficients(c, t, weight, at);
        let d = logits_quad(row.start, c, classes, params.inner) - m;
        let product = vec4<f32>(weighted(a.x, d.x), weighted(a.y, d.y), weighted(a.z, d.z), weighted(a.w, d.w));
        terms += vec2<f32>((a.x + a.y) + (a.z + a.w), (product.x + product.y) + (product.z + product.w));
    }
    if (LANES == 1u) {
        return terms;
    }
    shared_terms[thread] = terms;
    for (var distance = LANES / 2u; distance > 0u; distance /= 2u) {
        workgroupBarrier();
        if (row.lane < distance) {
            shared_terms[thread] += shared_terms[thread + distance];
        }
    }
    workgroupBarrier();
    return shared_terms[thread - row.lane];
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    var row = row_of(group_index(group, groups), thread, params.classes, params.inner);
    let inside = row.index < params.rows;
    let grad_start = params.grad_base + row.start;
    let probabilities_start = params.targets_base + row.start;
    row.start += params.input_base;
    // Surplus rows take part in the barriers with no elements.
    let classes = select(0u, params.classes, inside);

    var ignored = false;
    var valid = inside;
    var t = 0u;
    var weight = 0.0;
    var target_logit = 0.0;
    if (TARGETS != 2u && inside) {
        let target_class = load_targets(params.targets_base + row.index);
        ignored = target_class == params.ignore_index;
        valid = target_class >= 0 && u32(target_class) < classes;
        if (valid) {
            t = u32(target_class);
            weight = class_weight(t);
            // Before the gradient may overwrite it: the barriers of `row_stats` lie between.
            target_logit = load_logits(row.start + t * params.inner);
        }
    }

    let stats = row_stats(row, thread, classes, params.inner);
    var terms = vec2<f32>(weight, weighted(weight, target_logit - stats.max));
    if (TARGETS != 0u) {
        terms = row_terms(row, thread, classes, stats.max, t, weight, probabilities_start);
    }
    // Probabilities of no classes cost nothing; an index of no classes is not valid.
    let poison = !ignored && (!valid || (classes > 0u && no_softmax(stats)));
    if (inside && row.lane == 0u) {
        let loss = select(weighted(terms.x, log_sum(stats)) - terms.y, nan(), poison);
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
    let target_grad = scale * (weight * select(p - 1.0, -(stats.rest * inverse), certain));
    for (var c = row.lane * 4u; c < classes; c += LANES * 4u) {
        let x = logits_quad(row.start, c, classes, params.inner);
        let at = vec4<u32>(c, c + 1u, c + 2u, c + 3u);
        let probability = exp4_nonpositive(x - stats.max) * inverse;
        var g = terms.x * probability * scale;
        if (TARGETS == 0u) {
            g = select(g, vec4<f32>(target_grad), at == vec4<u32>(t));
        } else {
            g = scale * (terms.x * probability - coefficients(c, t, weight, probabilities_start));
        }
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
