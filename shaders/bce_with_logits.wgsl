// needs: elementwise_loss
// Binary cross-entropy of logits x and targets y, with weights w and positive weights v.
//
//   loss = w (v y softplus(-x) + (1 - y) softplus(x))        slope = (v y + 1 - y) sigmoid(x) - v y
//
// A term with factor 0 is 0 even if softplus is infinite, so that the loss is the limit at
// x = +-infinity.
// Further binding: pos_weight (absent without positive weights).

const SLOPE_LIFT: i32 = 126;

// 1: there are positive weights.
override POS_WEIGHTED: u32;

fn element_pos_weight(i: u32) -> f32 {
    if (POS_WEIGHTED == 0u) {
        return 1.0;
    }
    let index = ((params.pos_weight_first + i) / params.pos_weight_inner) % params.pos_weight_size;
    return load_pos_weight(index);
}

fn term(factor: f32, value: f32) -> f32 {
    return select(factor * value, 0.0, factor == 0.0);
}

// w * loss; 0 for a weight of 0 even if the loss is infinite.
fn weigh(w: f32, loss: f32) -> f32 {
    return select(w * loss, 0.0, is_zero(w) && is_infinite(loss));
}

fn bce_with_logits_loss(x: f32, y: f32, i: u32) -> f32 {
    // softplus(u) = max(u, 0) + log(1 + exp(-|u|)); the second term is the same for x and -x.
    let tail = softplus_tail_f32(x);
    let positive = element_pos_weight(i) * y;
    let negative = 1.0 - y;
    let loss = term(positive, max(-x, 0.0)) + term(negative, max(x, 0.0)) + (positive + negative) * tail;
    return weigh(element_weight(i), select(loss, nan(), is_nan(x) || is_nan(y)));
}

fn element_loss(x: vec4<f32>, y: vec4<f32>, i: u32) -> vec4<f32> {
    return vec4<f32>(
        bce_with_logits_loss(x.x, y.x, i),
        bce_with_logits_loss(x.y, y.y, i + 1u),
        bce_with_logits_loss(x.z, y.z, i + 2u),
        bce_with_logits_loss(x.w, y.w, i + 3u),
    );
}

struct ElementSlope {
    value: f32,
    lifted: bool,
}

// Whether 44 <= |x| <= 174, by bits.
fn far_from_0(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) - 0x42300000u <= 0x432e0000u - 0x42300000u;
}

// The slope of element i, by one thread. (v y + 1 - y) sigmoid(x) - v y cancels for confident,
// correct x; in terms of exp(-|x|) it does not.
fn bce_with_logits_slope(x: f32, y: f32, i: u32, careful: bool) -> ElementSlope {
    // Far from 0, the term with exp(-|x|) can be subnormal. With `careful`, it is lifted, provided
    // that the other term is 0 and the lifted term does not overflow.
    let e = exp_minus_abs(x);
    let lifted_e = lifted_exp_minus_abs(x);
    let positive = element_pos_weight(i) * y;
    let negative = 1.0 - y;
    let right = x >= 0.0;
    let factor = select(negative, positive, right);
    let far = far_from_0(x);
    let other_term_is_zero = select(positive, negative, right) == 0.0;
    let lifted = careful && far && other_term_is_zero && (POS_WEIGHTED == 0u || abs(factor * lifted_e) < 0x1p126f);
    // A large weight can make the product normal although e is subnormal. (Without positive weights
    // this cannot matter: the two factors add up to 1, so if |factor| >= 1, either factor is 1, or
    // the other term is large enough to hide the small one.)
    let large = POS_WEIGHTED == 1u && far && abs(factor) >= 1.0;
    let small = select(factor * e, (factor * 0x1p-126f) * lifted_e, large);
    let falling = select(small, factor * lifted_e, lifted);
    let slope = select(falling - positive, negative - falling, right) / (1.0 + e);
    return ElementSlope(select(slope, nan(), is_nan(x) || is_nan(y)), lifted);
}

fn element_slope(x: vec4<f32>, y: vec4<f32>, i: u32, careful: bool) -> Slope {
    var value = vec4<f32>();
    var lifted = vec4<bool>();
    for (var k = 0u; k < 4u; k++) { // unrolled
        // Always true. Without the branches, SwiftShader compiles the gradient with both kinds of
        // weights for half a minute.
        if (!OWN_FACTORS || i < params.count) {
            let slope = bce_with_logits_slope(x[k], y[k], i + k, careful);
            value[k] = slope.value;
            lifted[k] = slope.lifted;
        }
    }
    return Slope(value, lifted);
}

fn in_range(x: vec4<f32>, y: vec4<f32>) -> vec4<bool> {
    return vec4<bool>(true);
}
