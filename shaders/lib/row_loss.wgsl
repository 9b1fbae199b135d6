// What the losses of rows share: their parameters, and the coefficient of a row's gradient.

struct Params {
    rows: u32,
    classes: u32,
    inner: u32,
    input_base: u32,
    grad_base: u32,
    targets_base: u32,
    losses_base: u32,
    upstream_base: u32,
    // 0: one upstream gradient for all rows; 1: one for each.
    upstream_stride: u32,
    ignore_index: i32,
    // 1: the gradient is divided by the number of valid targets.
    mean: u32,
}

// 1: write the gradient.
override GRAD: u32;

// The coefficient of a row's gradient.
fn row_scale(index: u32) -> f32 {
    let upstream = load_upstream(params.upstream_base + index * params.upstream_stride);
    if (params.mean == 1u) {
        return upstream / f32(load_counts(0u));
    }
    return upstream;
}
