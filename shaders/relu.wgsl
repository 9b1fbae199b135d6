// needs: map rectifier
fn map(x: f32) -> f32 {
    return select(0.0, x, passes(x));
}
