// needs: numerics row_map_backward
// grad = g - exp(y) * (sum of g)

const REFINE: bool = false;

fn row_term(y: vec4<f32>, g: vec4<f32>) -> vec4<f32> {
    return g;
}

// The gradient of 4 elements of a row, by one thread.
fn row_grad(y: vec4<f32>, g: vec4<f32>, sum: f32) -> vec4<f32> {
    // exp(y) can be subnormal or overflow while the product does not: for y far from 0 it is scaled
    // by 2^80 or 2^-80 before the multiplication, and back afterwards.
    let low = y < vec4<f32>(-56.0);
    let high = y > vec4<f32>(56.0);
    let lift = f32(LIFTED_BY);
    let shift = select(select(vec4<f32>(0.0), vec4<f32>(-lift), high), vec4<f32>(lift), low);
    let back = select(select(vec4<f32>(1.0), vec4<f32>(LIFT), high), vec4<f32>(LOWER), low);
    // The next lines replace the results for very small and very large y and for NaN.
    var e = scaled_exp4(y, shift);
    e = select(e, vec4<f32>(0.0), y < vec4<f32>(-142.7));
    e = select(e, vec4<f32>(infinity()), y > vec4<f32>(89.0));
    let not_a_number = (bitcast<vec4<u32>>(y) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
    return g - select(e, vec4<f32>(nan()), not_a_number) * sum * back;
}
