// needs: wide
// Weights and gradient factors of the losses of rows.

// 1: write the gradient. 2: also replace elements whose magnitude is below the threshold by 0.
override GRAD: u32;
// 1: besides the divisor of the mean, the gradient has factors of arbitrary size: an upstream
// gradient, weights, a z-loss or a logit scale.
override FACTORS: u32;

fn class_weight(class_index: u32) -> f32 {
    return load_weight(class_index * params.weight_stride);
}

fn position_weight(row: u32) -> f32 {
    return load_position_weight(row * params.position_weight_stride);
}

// The factor of a row's gradient when there is neither an upstream gradient nor a weight (FACTORS
// 0).
fn plain_factor(row: u32) -> f32 {
    let factor = load_factor(row * params.factor_stride);
    return select(factor / params.divisor, quotient(1.0, factor), params.factor_form == 1u);
}

// The factor of a row's gradient: upstream gradient / divisor of the mean * weight of the row.
fn wide_factor(row: u32, row_weight: f32) -> Wide {
    let at = row * params.factor_stride;
    let factor = load_factor(at);
    let inverse = params.factor_form == 1u;
    var all = divide(wide(select(factor, 1.0, inverse)), wide(select(params.divisor, factor, inverse)));
    if (params.factor_form == 2u) {
        all = times(all, wide(load_factor(at + 1u)));
    }
    return times(all, wide(row_weight));
}
