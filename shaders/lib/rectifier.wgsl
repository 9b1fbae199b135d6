// needs: numerics
// max(x, 0); NaN stays NaN.

// Whether the rectifier gives x itself, and its gradient passes. By bits: hardware may flush subnormals when it compares.
fn passes(x: f32) -> bool {
    return bitcast<i32>(x) > 0 || is_nan(x);
}
