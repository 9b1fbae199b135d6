// A gradient as an update takes it: without the loss's scale, and clipped by value.

fn settled(grad: vec4<f32>) -> vec4<f32> {
    let g = params.sign * params.inverse_loss_scale * grad;
    // Not by `clamp`, which may drop NaN.
    let low = select(g, vec4<f32>(-params.clip_value), g < vec4<f32>(-params.clip_value));
    return select(low, vec4<f32>(params.clip_value), low > vec4<f32>(params.clip_value));
}
