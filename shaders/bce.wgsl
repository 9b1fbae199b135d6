// needs: elementwise_loss
// Binary cross-entropy of probabilities p and targets y, both in [0, 1].
//
//   loss = -w (y max(log p, -100) + (1 - y) max(log(1 - p), -100))
//   slope = (p - y) / max(p (1 - p), 1e-12)

const SLOPE_LIFT: i32 = 64;

fn bce_loss(p: f32, y: f32) -> f32 {
    let log_p = max(log_f32(p), -100.0);
    let log_q = max(log1p_f32(-p), -100.0);
    return (y - 1.0) * log_q - y * log_p;
}

fn element_loss(p: vec4<f32>, y: vec4<f32>, i: u32) -> vec4<f32> {
    return element_weights(i) * vec4<f32>(bce_loss(p.x, y.x), bce_loss(p.y, y.y), bce_loss(p.z, y.z), bce_loss(p.w, y.w));
}

// p * 2^64. Hardware can flush a subnormal p, but the bits of p are the integer p * 2^149. For a
// normal p, the bits are at most p * 2^149, so the maximum is right for both.
fn lifted_probability(p: vec4<f32>) -> vec4<f32> {
    return max(p * 0x1p64f, vec4<f32>(bitcast<vec4<i32>>(p)) * 0x1p-85f);
}

// Always lifted: probabilities and their differences can be subnormal, and the divisor can be as
// small as 1e-12.
fn element_slope(p: vec4<f32>, y: vec4<f32>, i: u32, careful: bool) -> Slope {
    let slope = (lifted_probability(p) - lifted_probability(y)) / max((1.0 - p) * p, vec4<f32>(1e-12));
    return Slope(slope, vec4<bool>(true));
}

// Whether x is in [0, 1] or -0, tested by the bits.
fn in_unit(x: vec4<f32>) -> vec4<bool> {
    let bits = bitcast<vec4<u32>>(x);
    return (bits <= vec4<u32>(0x3f800000u)) | (bits == vec4<u32>(0x80000000u));
}

fn in_range(p: vec4<f32>, y: vec4<f32>) -> vec4<bool> {
    return in_unit(p) & in_unit(y);
}
