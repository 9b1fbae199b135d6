// needs: numerics row_map_backward
// y * (g - (sum of y g))
//
// The y sum to 1, so g may be counted from anywhere. Counted from a first approximation of the sum, the sum is nearly 0, its rounding
// hardly shows, and neither does what the y lack of 1.

const REFINE: bool = true;

// y * g. The bits of a subnormal y, which hardware takes for 0, count units of 2^-149: 100 of the twos go to g.
fn product(y: vec4<f32>, g: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(y);
    let subnormal = bits < vec4<u32>(0x00800000u);
    let factor = select(y, vec4<f32>(bitcast<vec4<i32>>(y)) * 0x1p-49f, subnormal);
    return factor * (g * select(vec4<f32>(1.0), vec4<f32>(0x1p-100f), subnormal));
}

fn row_term(y: vec4<f32>, g: vec4<f32>) -> vec4<f32> {
    return product(y, g);
}

fn row_grad(y: vec4<f32>, g: vec4<f32>, sum: f32) -> vec4<f32> {
    return product(y, g - sum);
}
