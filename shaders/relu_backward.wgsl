// The upstream gradient where the output is positive or NaN. By bits: hardware may flush subnormals when it compares.

fn map_backward(y: f32, upstream: f32) -> f32 {
    return select(0.0, upstream, bitcast<i32>(y) > 0 || is_nan(y));
}
