// needs: difference elementwise_loss
// Huber loss with delta = `params.option_0`; `params.option_1` is delta lifted like differences.
//
//   d = x - y        loss = w d^2 / 2 if |d| <= delta, else w delta (|d| - delta / 2)
//   slope = clamp(d, -delta, delta)
//
// Distances are compared by their bits, which have the order of the numbers, with NaN above them.

fn element_loss(x: vec4<f32>, y: vec4<f32>, i: u32) -> vec4<f32> {
    let delta = vec4<f32>(params.option_0);
    let distance = abs(x - y);
    let far = bitcast<vec4<u32>>(distance) > bitcast<vec4<u32>>(delta);
    return element_weights(i) * select(0.5 * distance * distance, delta * (distance - 0.5 * delta), far);
}

fn element_slope(x: vec4<f32>, y: vec4<f32>, i: u32, careful: bool) -> Slope {
    let d = difference_slope(x, y, careful);
    let delta = bitcast<vec4<u32>>(select(vec4<f32>(params.option_0), vec4<f32>(params.option_1), d.lifted));
    let bits = bitcast<vec4<u32>>(d.value);
    let magnitude = bits & vec4<u32>(0x7fffffffu);
    let far = (magnitude > delta) & (magnitude <= vec4<u32>(0x7f800000u));
    let bound = bitcast<vec4<f32>>(delta | (bits & vec4<u32>(0x80000000u)));
    return Slope(select(d.value, bound, far), d.lifted);
}

fn in_range(x: vec4<f32>, y: vec4<f32>) -> vec4<bool> {
    return vec4<bool>(true);
}
