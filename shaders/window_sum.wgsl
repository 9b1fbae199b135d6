// needs: numerics once sum
// Adds the loss and the denominator of a pass to the sums over the earlier passes of the window,
// and computes the mean loss of the pass and of all passes.
// Bindings: loss (scalar; absent if there is none), denominator (scalar; absent if it is `count`),
// sums (compensated sums of losses and denominators: 4 elements), means (2 elements).

// 0: no division; 1: the denominator is `count`; 2: the denominator is a tensor.
override DENOMINATOR: u32;

// Updates the 4 sums and the 2 means, in one thread.
fn once() {
    var loss = Sum(0.0, 0.0);
    var all = Sum(0.0, 0.0);
    if (params.first == 0u) {
        loss = Sum(load_sums(0u), load_sums(1u));
        all = Sum(load_sums(2u), load_sums(3u));
    }
    let own_loss = load_loss(0u);
    loss = plus(loss, own_loss);
    // f32 cannot represent every count, but it can represent both 16-bit halves of one.
    var own = plus(Sum(f32(params.count >> 16u) * 65536.0, 0.0), f32(params.count & 0xffffu));
    if (DENOMINATOR == 2u) {
        own = Sum(load_denominator(0u), 0.0);
    }
    all = plus_sum(all, own);
    store_sums(0u, loss.high);
    store_sums(1u, loss.low);
    store_sums(2u, all.high);
    store_sums(3u, all.low);
    var means = vec2<f32>(own_loss, value_of(loss));
    if (DENOMINATOR != 0u) {
        means = vec2<f32>(quotient(own_loss, value_of(own)), quotient(value_of(loss), value_of(all)));
    }
    store_means(0u, means.x);
    store_means(1u, means.y);
}
