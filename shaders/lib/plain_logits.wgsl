// needs: sum
// Logits without scale or cap.

fn prepare4(x: vec4<f32>, room: u32) -> vec4<f32> {
    return x;
}

fn gap4(x: vec4<f32>, m: f32) -> vec4<f32> {
    return x - m;
}

// The rounding error of the difference that `gap4` returns.
fn gap_error(x: f32, m: f32) -> f32 {
    return plus(Sum(x, 0.0), -m).low;
}
