// needs: by_quad numerics sum
// Divides sums of gradients by the denominator of their passes. A gradient of 0 stays 0 for every
// denominator.
// Bindings: values (absent if `total` itself is divided), total, sums (from `window_sum`).

// 0: divides `total`; 1: adds `values` / denominator to `total`.
override ADDED: u32;

fn mean(sum: f32) -> f32 {
    return select(quotient(sum, denominator), sum, is_zero(sum));
}

var<private> denominator: f32;

fn begin() -> bool {
    denominator = value_of(Sum(load_sums(2u), load_sums(3u)));
    return true;
}

// Divides the quad at element i, with n elements left, by one thread.
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
