// What the losses of rows share: their parameters, and the coefficient of a row's gradient.

struct Params {
    rows: u32,
    classes: u32,
    inner: u32,
    input_base: u32,
    grad_base: u32,
    targets_base: u32,
    weight_base: u32,
    losses_base: u32,
    upstream_base: u32,
    denominator_base: u32,
    // 0: one weight for all classes; 1: one for each.
    weight_stride: u32,
    // 0: one upstream gradient for all rows; 1: one for each.
    upstream_stride: u32,
    ignore_index: i32,
    // What the gradient is divided by. 0: nothing; 1: `count`; 2: the denominator.
    divisor: u32,
    count: f32,
    // How much of a target is spread over all classes.
    label_smoothing: f32,
}

// 1: write the gradient.
override GRAD: u32;

fn class_weight(class_index: u32) -> f32 {
    return load_weight(params.weight_base + class_index * params.weight_stride);
}

// What every coefficient of a row's gradient is multiplied with.
fn row_scale(index: u32) -> f32 {
    let upstream = load_upstream(params.upstream_base + index * params.upstream_stride);
    if (params.divisor == 0u) {
        return upstream;
    }
    if (params.divisor == 1u) {
        return upstream / params.count;
    }
    let denominator = bitcast<f32>(load_denominator(params.denominator_base));
    // Valid rows whose weights are all 0: 0 / 0.
    return select(upstream / denominator, nan(), denominator == 0.0);
}
