// y * (g - (sum of y g))
//
// The y sum to 1, so g may be counted from anywhere. Counted from a first approximation of the sum, the sum is nearly 0, its rounding
// hardly shows, and neither does what the y lack of 1.

const REFINE: bool = true;

fn row_term(y: vec4<f32>, g: vec4<f32>) -> vec4<f32> {
    return y * g;
}

fn row_grad(y: vec4<f32>, g: vec4<f32>, sum: f32) -> vec4<f32> {
    return y * (g - sum);
}
