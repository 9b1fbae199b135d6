// needs: map
fn map(x: f32) -> f32 {
    return x;
}
