// needs: map_backward rectifier
// The upstream gradient if the output is positive or NaN, else 0.

fn map_backward(y: f32, upstream: f32) -> f32 {
    return select(0.0, upstream, passes(y));
}
