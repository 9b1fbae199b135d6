// The difference of inputs and targets as a slope, for shaders that need `elementwise_loss`.

const SLOPE_LIFT: i32 = 126;

// x * 2^126, also for subnormal x: a subnormal x is its bits, read as an integer, times 2^-149.
fn lifted4(x: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(x);
    let magnitude = bits & vec4<u32>(0x7fffffffu);
    let units = bitcast<vec4<u32>>(vec4<f32>(bitcast<vec4<i32>>(magnitude)) * 0x1p-23f) | (bits & vec4<u32>(0x80000000u));
    return select(x * 0x1p126f, bitcast<vec4<f32>>(units), magnitude < vec4<u32>(0x00800000u));
}

// x - y as a slope. If `careful`, lifted where both numbers are below 2^-63 in magnitude, because
// they or their difference can be subnormal.
fn difference_slope(x: vec4<f32>, y: vec4<f32>, careful: bool) -> Slope {
    if (!careful) {
        return Slope(x - y, vec4<bool>());
    }
    let magnitude = max(bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu), bitcast<vec4<u32>>(y) & vec4<u32>(0x7fffffffu));
    let small = magnitude < vec4<u32>(0x20000000u);
    let lifted = lifted4(x) - lifted4(y);
    return Slope(select(x - y, lifted, small), small);
}
