// needs: numerics row_map_backward
// grad = y * (g - (sum of y g))
//
// y sums to 1, so subtracting a constant from g does not change the result. With a first
// approximation of the sum subtracted, the sum is nearly 0, and so are the effects of its rounding
// and of the deviation of sum(y) from 1.

const REFINE: bool = true;

// y * g. Hardware can flush a subnormal y, but the bits of y are the integer y * 2^149. That
// integer is scaled by 2^-49, and g by the other 2^-100.
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
