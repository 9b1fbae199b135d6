// Logits as they are.

fn admit4(x: vec4<f32>, room: u32) -> vec4<f32> {
    return x;
}

fn gap4(x: vec4<f32>, m: f32) -> vec4<f32> {
    return x - m;
}
