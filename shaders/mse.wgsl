// needs: difference elementwise_loss
// Squared error.
//
//   loss = w (x - y)^2        slope = x - y; the factor 2 is in `params.scale`

fn element_loss(x: vec4<f32>, y: vec4<f32>, i: u32) -> vec4<f32> {
    return element_weights(i) * ((x - y) * (x - y));
}

fn element_slope(x: vec4<f32>, y: vec4<f32>, i: u32, careful: bool) -> Slope {
    return difference_slope(x, y, careful);
}

fn in_range(x: vec4<f32>, y: vec4<f32>) -> vec4<bool> {
    return vec4<bool>(true);
}
