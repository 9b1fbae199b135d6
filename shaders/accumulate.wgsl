// needs: by_quad sum
// Adds `values` to `total`.
// Bindings: values, total, lows (the rounding errors of `total`; absent unless PRECISE).

// 1: keeps the rounding errors of the total.
override PRECISE: u32;

fn begin() -> bool {
    return true;
}

// Adds the quad at element i, with n elements left, by one thread.
fn quad(i: u32, n: u32) {
    let total = load_quad_total(i, 1u, n, 0.0);
    let value = load_quad_values(i, 1u, n, 0.0);
    if (PRECISE == 0u) {
        store_quad_total(i, 1u, n, total + value);
        return;
    }
    let lacking = select(load_quad_lows(i, 1u, n, 0.0), vec4<f32>(), params.fresh == 1u);
    var high = vec4<f32>();
    var low = vec4<f32>();
    for (var k = 0u; k < 4u; k++) { // unrolled
        let sum = normalised_sum(plus(Sum(total[k], lacking[k]), value[k]));
        high[k] = sum.high;
        low[k] = sum.low;
    }
    store_quad_total(i, 1u, n, high);
    store_quad_lows(i, 1u, n, low);
}
