// Binary cross-entropy of logits x and targets y, with weights w and weights v of the positive targets.
//
//   loss = w (v y softplus(-x) + (1 - y) softplus(x))        grad = w ((v y + 1 - y) sigmoid(x) - v y)
//
// A term with the factor 0 is 0 even where softplus is infinite: at x = +-infinity the loss takes its limit.
// Further bindings: pos_weight (absent if there is none).

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

fn bce_with_logits_grad(x: f32, y: f32, i: u32) -> f32 {
    // (v y + 1 - y) sigmoid(x) - v y cancels where a confident x is right; with exp(-|x|) each term keeps its digits.
    let e = exp_minus_abs(x);
    let positive = element_pos_weight(i) * y;
    let negative = 1.0 - y;
    let slope = select(negative * e - positive, negative - positive * e, x >= 0.0);
    return element_weight(i) * select(slope / (1.0 + e), nan(), is_nan(x) || is_nan(y));
}

fn element_grad(x: vec4<f32>, y: vec4<f32>, i: u32) -> vec4<f32> {
    return vec4<f32>(
        bce_with_logits_grad(x.x, y.x, i),
        bce_with_logits_grad(x.y, y.y, i + 1u),
        bce_with_logits_grad(x.z, y.z, i + 2u),
        bce_with_logits_grad(x.w, y.w, i + 3u),
    );
}

fn in_range(x: vec4<f32>, y: vec4<f32>) -> vec4<bool> {
    return vec4<bool>(true);
}
