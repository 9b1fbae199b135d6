// needs: numerics row_map_backward
// g - exp(y) * (sum of g)

const REFINE: bool = false;

fn row_term(y: vec4<f32>, g: vec4<f32>) -> vec4<f32> {
    return g;
}

fn row_grad(y: vec4<f32>, g: vec4<f32>, sum: f32) -> vec4<f32> {
    // exp(y) can be subnormal while the product is not; far below 0 it is lifted before the multiplication.
    let low = y < vec4<f32>(-56.0);
    let high = y > vec4<f32>(56.0);
    let lift = f32(LIFTED_BY);
    let shift = select(select(vec4<f32>(0.0), vec4<f32>(-lift), high), vec4<f32>(lift), low);
    let back = select(select(vec4<f32>(1.0), vec4<f32>(LIFT), high), vec4<f32>(LOWER), low);
    // Unspecified where what follows replaces it.
    var e = scaled_exp4(y, shift);
    e = select(e, vec4<f32>(0.0), y < vec4<f32>(-142.7));
    e = select(e, vec4<f32>(infinity()), y > vec4<f32>(89.0));
    let not_a_number = (bitcast<vec4<u32>>(y) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
    return g - select(e, vec4<f32>(nan()), not_a_number) * sum * back;
}
