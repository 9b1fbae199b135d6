// needs: elementwise_loss
// Squared error.
//
//   loss = w (x - y)^2        slope = x - y, the 2 in `params.scale`

const SLOPE_LIFT: i32 = 126;

fn element_loss(x: vec4<f32>, y: vec4<f32>, i: u32) -> vec4<f32> {
    return element_weights(i) * ((x - y) * (x - y));
}

// x * 2^126, also for subnormal x, whose bits are an integer multiple of 2^-149.
fn lifted4(x: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(x);
    let magnitude = bits & vec4<u32>(0x7fffffffu);
    let units = bitcast<vec4<u32>>(vec4<f32>(bitcast<vec4<i32>>(magnitude)) * 0x1p-23f) | (bits & vec4<u32>(0x80000000u));
    return select(x * 0x1p126f, bitcast<vec4<f32>>(units), magnitude < vec4<u32>(0x00800000u));
}

fn element_slope(x: vec4<f32>, y: vec4<f32>, i: u32, careful: bool) -> Slope {
    if (!careful) {
        return Slope(x - y, vec4<bool>());
    }
    // Lifted below 2^-63, because the numbers or their difference can be subnormal.
    let magnitude = max(bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu), bitcast<vec4<u32>>(y) & vec4<u32>(0x7fffffffu));
    let small = magnitude < vec4<u32>(0x20000000u);
    let lifted = lifted4(x) - lifted4(y);
    return Slope(select(x - y, lifted, small), small);
}

fn in_range(x: vec4<f32>, y: vec4<f32>) -> vec4<bool> {
    return vec4<bool>(true);
}
