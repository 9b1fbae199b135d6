// needs: once wide
// factor = upstream / denominator as two factors, because the quotient can overflow or be
// subnormal.
// Bindings: upstream (scalar), denominator (a partial result), factor (2 elements).

fn once() {
    let divisor = wide(bitcast<f32>(load_denominator(0u)));
    let factors = multipliers(divide(wide(load_upstream(0u)), divisor));
    store_factor(0u, factors.x);
    store_factor(1u, factors.y);
}
