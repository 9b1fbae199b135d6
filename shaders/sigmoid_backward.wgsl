// upstream * y * (1 - y)

fn map_backward(y: f32, upstream: f32) -> f32 {
    return upstream * (y * (1.0 - y));
}
