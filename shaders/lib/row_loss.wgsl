// What the losses of rows share: their parameters, and the coefficient of a row's gradient.

struct Params {
    rows: u32,
    classes: u32,
    inner: u32,
    input_base: u32,
    grad_base: u32,
    targets_base: u32,
    weight_base: u32,
    // 0: one weight for all classes; 1: one for each.
    weight_stride: u32,
    position_weight_base: u32,
    // 0: one weight for all rows; 1: one for each.
    position_weight_stride: u32,
    factor_base: u32,
    // 0: one factor for all rows; 1: one for each.
    factor_stride: u32,
    // 0: the factor is what is bound over the divisor. 1: one over what is bound. 2: the product of two elements that are bound.
    factor_form: u32,
    losses_base: u32,
    statistics_base: u32,
    parts_base: u32,
    ignore_index: i32,
    // How much of a target stays, and how much of it goes to each class.
    kept: f32,
    spread: f32,
    logit_scale: f32,
    softcap: f32,
    z_loss: f32,
    // What the bound factor is divided by.
    divisor: f32,
    // What elements of the gradient count as 0 below, before they are multiplied with the row's factor.
    threshold: f32,
    // Where a row's elements are some of its classes: the first of those, and how many there are in all.
    first_class: u32,
    all_classes: u32,
    // The blocks of this dispatch.
    first_block: u32,
    end_block: u32,
    lanes_base: u32,
    zero: u32,
}

// 1: write the gradient. 2: and 0 for what is below the threshold.
override GRAD: u32;
// 1: besides the mean's divisor there are factors of any size: an upstream gradient, weights.
override FACTORS: u32;

fn class_weight(class_index: u32) -> f32 {
    return load_weight(params.weight_base + class_index * params.weight_stride);
}

// The sum of the weights of all classes, which follows them.
fn total_class_weight() -> f32 {
    if (params.weight_stride == 0u) {
        return load_weight(params.weight_base) * f32(params.all_classes);
    }
    return load_weight(params.weight_base + params.all_classes);
}

fn position_weight(row: u32) -> f32 {
    return load_position_weight(params.position_weight_base + row * params.position_weight_stride);
}

// What the gradient of a row's loss is multiplied with if there are no other factors.
fn plain_factor(row: u32) -> f32 {
    let factor = load_factor(params.factor_base + row * params.factor_stride);
    return select(factor / params.divisor, quotient(1.0, factor), params.factor_form == 1u);
}

// What it is multiplied with: the upstream gradient over the mean's divisor, times the row's weight.
fn wide_factor(row: u32, row_weight: f32) -> Wide {
    let at = params.factor_base + row * params.factor_stride;
    let factor = load_factor(at);
    let inverse = params.factor_form == 1u;
    var all = over(wide(select(factor, 1.0, inverse)), wide(select(params.divisor, factor, inverse)));
    if (params.factor_form == 2u) {
        all = times(all, wide(load_factor(at + 1u)));
    }
    return times(all, wide(row_weight));
}
