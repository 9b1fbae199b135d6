// needs: map numerics
// y = 1 / (1 + exp(-x))

fn map(x: f32) -> f32 {
    return sigmoid_f32(x);
}
