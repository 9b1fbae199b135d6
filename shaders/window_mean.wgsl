// needs: by_quad numerics sum
// Divides sums of gradients by the denominator of their passes; what is 0 stays 0, whatever the denominator.
// Bindings: values (absent if `total` is divided itself), total (gets what is divided added), sums (as `window_sum` leaves them).

// 1: `total` gets the mean of `values` added; 0: it becomes its own.
override ADDED: u32;

fn mean(sum: f32) -> f32 {
    return select(quotient(sum, denominator), sum, is_zero(sum));
}

var<private> denominator: f32;

fn begin() -> bool {
    denominator = value_of(Sum(load_sums(2u), load_sums(3u)));
    return true;
}

fn quad(i: u32, n: u32) {
    let total = load_quad_total(i, 1u, n, 0.0);
    var sum = total;
    if (ADDED == 1u) {
        sum = load_quad_values(i, 1u, n, 0.0);
    }
    var out = vec4<f32>(
        mean(sum.x),
        mean(sum.y),
        mean(sum.z),
        mean(sum.w),
    );
    if (ADDED == 1u) {
        out += total;
    }
    store_quad_total(i, 1u, n, out);
}
