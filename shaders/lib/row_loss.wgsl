// needs: wide
// What the losses of rows share: their parameters, and the coefficient of a row's gradient.

// 1: write the gradient. 2: and 0 for what is below the threshold.
override GRAD: u32;
// 1: besides the mean's divisor there are factors of any size: an upstream gradient, weights.
override FACTORS: u32;

fn class_weight(class_index: u32) -> f32 {
    return load_weight(class_index * params.weight_stride);
}

fn position_weight(row: u32) -> f32 {
    return load_position_weight(row * params.position_weight_stride);
}

// What the gradient of a row's loss is multiplied with if there are no other factors.
fn plain_factor(row: u32) -> f32 {
    let factor = load_factor(row * params.factor_stride);
    return select(factor / params.divisor, quotient(1.0, factor), params.factor_form == 1u);
}

// What it is multiplied with: the upstream gradient over the mean's divisor, times the row's weight.
fn wide_factor(row: u32, row_weight: f32) -> Wide {
    let at = row * params.factor_stride;
    let factor = load_factor(at);
    let inverse = params.factor_form == 1u;
    var all = over(wide(select(factor, 1.0, inverse)), wide(select(params.divisor, factor, inverse)));
    if (params.factor_form == 2u) {
        all = times(all, wide(load_factor(at + 1u)));
    }
    return times(all, wide(row_weight));
}
