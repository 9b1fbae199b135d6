// y * (g - (sum of y g))

fn row_term(y: vec4<f32>, g: vec4<f32>) -> vec4<f32> {
    return y * g;
}

fn row_grad(y: vec4<f32>, g: vec4<f32>, sum: f32) -> vec4<f32> {
    return y * (g - sum);
}
