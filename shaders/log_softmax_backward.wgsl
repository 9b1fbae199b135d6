// g - exp(y) * (sum of g)

const REFINE: bool = false;

fn row_term(y: vec4<f32>, g: vec4<f32>) -> vec4<f32> {
    return g;
}

fn row_grad(y: vec4<f32>, g: vec4<f32>, sum: f32) -> vec4<f32> {
    return g - vec4<f32>(exp_f32(y.x), exp_f32(y.y), exp_f32(y.z), exp_f32(y.w)) * sum;
}
