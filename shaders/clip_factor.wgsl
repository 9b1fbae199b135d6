// needs: norm_scales numerics once
// The factor that reduces the norm of gradients to `max_norm`. It is NaN if the norm is NaN, or, with the guard on, if a gradient is
// NaN or infinite. The factor is stored as two factors, because that of a huge norm or a tiny bound would be subnormal.
// Bindings: total (the partial result of `grad_norm`), factor (2 elements), norm and skipped (scalars).

// The position if there is no such gradient.
const NONE: u32 = 0xffffffffu;

// sqrt(a^2 + b^2) without squaring either, for a that is 0 or not much smaller than b.
fn hypotenuse(a: f32, b: f32) -> f32 {
    let ratio = b / a;
    return select(a * sqrt(1.0 + ratio * ratio), b, is_zero(a));
}

fn once() {
    let large = bitcast<f32>(load_total(0u));
    let usual = bitcast<f32>(load_total(2u));
    let tiny = bitcast<f32>(load_total(4u));
    let bad = load_total(6u) != NONE;
    let norm_of_usual = hypotenuse(sqrt(usual), sqrt(tiny) * DOWN);
    // The norm times DOWN, which is finite for finite gradients even if the norm is not.
    let norm_of_large = hypotenuse(sqrt(large), norm_of_usual * DOWN);
    let norm = select(norm_of_large * UP, norm_of_usual, is_zero(large));
    let huge = norm >= HUGE;
    let bounded = norm + 1e-6;
    let clipped = bounded > params.max_norm;
    // The ratio of bound and norm is below 2^-100: too small for one factor.
    let tiny_bound = !huge && params.max_norm < bounded * 0x1p-100f;
    let bound = params.max_norm * select(1.0, UP, tiny_bound);
    let factor = select(1.0, bound / select(bounded, norm_of_large, huge), clipped);
    let skipped = bad && params.guard == 1u;
    store_factor(0u, select(factor, nan(), skipped || is_nan(norm)));
    store_factor(1u, select(1.0, DOWN, (huge || tiny_bound) && clipped));
    store_norm(0u, norm);
    store_skipped(0u, u32(skipped));
}
