// Binary cross-entropy of logits x and targets y, with weights w and weights v of the positive targets.
//
//   loss = w (v y softplus(-x) + (1 - y) softplus(x))        slope = (v y + 1 - y) sigmoid(x) - v y
//
// A term with the factor 0 is 0 even where softplus is infinite: at x = +-infinity the loss takes its limit.
// Further bindings: pos_weight (absent if there is none).

const SLOPE_LIFT: i32 = 126;

// 1: there are weights of the positive targets.
override POS_WEIGHTED: u32;

fn element_pos_weight(i: u32) -> f32 {
    if (POS_WEIGHTED == 0u) {
        return 1.0;
    }
    let index = ((params.pos_weight_first + i) / params.pos_weight_inner) % params.pos_weight_size;
    return load_pos_weight(params.pos_weight_base + index);
}

fn term(factor: f32, value: f32) -> f32 {
    return select(factor * value, 0.0, factor == 0.0);
}

fn bce_with_logits_loss(x: f32, y: f32, i: u32) -> f32 {
    // softplus(u) = max(u, 0) + log(1 + exp(-|u|)), the last part the same for x and -x.
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

// From 44 to 174 in magnitude, by bits.
fn far_from_0(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) - 0x42300000u <= 0x432e0000u - 0x42300000u;
}

fn bce_with_logits_slope(x: f32, y: f32, i: u32, careful: bool) -> ElementSlope {
    // (v y + 1 - y) sigmoid(x) - v y cancels where a confident x is right; with exp(-|x|) each term keeps its digits. Far from 0 one term is
    // small. It is lifted, because it may be subnormal, if it is not added to a number that is not, and does not overflow by that.
    let e = exp_minus_abs(x);
    let lifted_e = lifted_exp_minus_abs(x);
    let positive = element_pos_weight(i) * y;
    let negative = 1.0 - y;
    let right = x >= 0.0;
    let factor = select(negative, positive, right);
    let far = far_from_0(x);
    let alone = select(positive, negative, right) == 0.0;
    let lifted = careful && far && alone && (POS_WEIGHTED == 0u || abs(factor * lifted_e) < 0x1p126f);
    // A large weight may make an ordinary number of a subnormal e. (Without one the other term is as large.)
    let large = POS_WEIGHTED == 1u && far && abs(factor) >= 1.0;
    let small = select(factor * e, (factor * 0x1p-126f) * lifted_e, large);
    let falling = select(small, factor * lifted_e, lifted);
    let slope = select(falling - positive, negative - falling, right) / (1.0 + e);
    return ElementSlope(select(slope, nan(), is_nan(x) || is_nan(y)), lifted);
}

fn element_slope(x: vec4<f32>, y: vec4<f32>, i: u32, careful: bool) -> Slope {
    let a = bce_with_logits_slope(x.x, y.x, i, careful);
    let b = bce_with_logits_slope(x.y, y.y, i + 1u, careful);
    let c = bce_with_logits_slope(x.z, y.z, i + 2u, careful);
    let d = bce_with_logits_slope(x.w, y.w, i + 3u, careful);
    return Slope(vec4<f32>(a.value, b.value, c.value, d.value), vec4<bool>(a.lifted, b.lifted, c.lifted, d.lifted));
}

fn in_range(x: vec4<f32>, y: vec4<f32>) -> vec4<bool> {
    return vec4<bool>(true);
}
