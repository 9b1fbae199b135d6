// Binary cross-entropy of logits x and targets y.
//
//   loss = y softplus(-x) + (1 - y) softplus(x)        grad = sigmoid(x) - y
//
// A term with the factor 0 is 0 even where softplus is infinite: at x = +-infinity the loss takes its limit.

fn term(factor: f32, value: f32) -> f32 {
    return select(factor * value, 0.0, factor == 0.0);
}

fn bce_with_logits_loss(x: f32, y: f32) -> f32 {
    // softplus(v) = max(v, 0) + log(1 + exp(-|v|)), the last part the same for x and -x.
    let tail = softplus_tail_f32(x);
    let positive = term(y, max(-x, 0.0));
    let negative = term(1.0 - y, max(x, 0.0));
    return select(positive + negative + tail, nan(), is_nan(x) || is_nan(y));
}

fn element_loss(x: vec4<f32>, y: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(
        bce_with_logits_loss(x.x, y.x),
        bce_with_logits_loss(x.y, y.y),
        bce_with_logits_loss(x.z, y.z),
        bce_with_logits_loss(x.w, y.w),
    );
}

fn bce_with_logits_grad(x: f32, y: f32) -> f32 {
    // sigmoid(x) - y cancels where a confident x is right; written with exp(-|x|) each term keeps its digits.
    let e = exp_f32(-abs(x));
    let positive = select((1.0 - y) * e - y, (1.0 - y) - y * e, x >= 0.0);
    return select(positive / (1.0 + e), nan(), is_nan(x) || is_nan(y));
}

fn element_grad(x: vec4<f32>, y: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(
        bce_with_logits_grad(x.x, y.x),
        bce_with_logits_grad(x.y, y.y),
        bce_with_logits_grad(x.z, y.z),
        bce_with_logits_grad(x.w, y.w),
    );
}

fn in_range(x: vec4<f32>, y: vec4<f32>) -> vec4<bool> {
    return vec4<bool>(true);
}
