// needs: once wide
// What the gradients of rows are multiplied with, one upstream gradient over the mean's divisor, as two factors: their product need not be an
// ordinary number. Bindings: upstream, denominator (a partial result), factor (two elements).

fn once() {
    let divisor = wide(bitcast<f32>(load_denominator(0u)));
    let factors = multipliers(over(wide(load_upstream(0u)), divisor));
    store_factor(0u, factors.x);
    store_factor(1u, factors.y);
}
