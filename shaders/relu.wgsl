// max(x, 0); NaN stays NaN.

fn map(x: f32) -> f32 {
    return select(select(0.0, x, x > 0.0), nan(), is_nan(x));
}
