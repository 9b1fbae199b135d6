// Gradients as the optimizer uses them: unscaled (divided by the loss scale) and clipped by value.

fn unscaled_and_clipped(grad: vec4<f32>) -> vec4<f32> {
    let g = params.inverse_loss_scale * grad;
    let limit = vec4<f32>(params.clip_value);
    let clipped = select(select(g, -limit, g < -limit), limit, g > limit);
    // Comparisons with NaN differ between drivers.
    let is_number = (bitcast<vec4<u32>>(g) & vec4<u32>(0x7fffffffu)) <= vec4<u32>(0x7f800000u);
    return select(g, clipped, is_number);
}
