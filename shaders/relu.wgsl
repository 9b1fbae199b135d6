// max(x, 0); NaN stays NaN. By bits: hardware may flush subnormals when it compares.

fn map(x: f32) -> f32 {
    return select(0.0, x, bitcast<i32>(x) > 0 || is_nan(x));
}
