// needs: norm_scales numerics once
// The factor that reduces the norm of gradients to `max_norm`. It is NaN if the norm is NaN, or,
// with the guard on, if a gradient is NaN or infinite. It is stored as two factors, because for a
// huge norm or a tiny bound it can be subnormal.
// Bindings: total (the partial result of `grad_norm`), factor (2 elements), norm and skipped
// (scalars).

// The position in `total` if no gradient is NaN or infinite.
const NONE: u32 = 0xffffffffu;

// sqrt(a^2 + b^2) without squaring either number, for an a that is 0 or not much smaller than b.
fn hypotenuse(a: f32, b: f32) -> f32 {
    let ratio = b / a;
    return select(a * sqrt(1.0 + ratio * ratio), b, is_zero(a));
}

// Combines the three sums of squares into the norm, and stores the results, in one thread.
fn once() {
    let large = bitcast<f32>(load_total(0u));
    let usual = bitcast<f32>(load_total(2u));
    let tiny = bitcast<f32>(load_total(4u));
    let bad = load_total(6u) != NONE;
    let norm_of_usual = hypotenuse(sqrt(usual), sqrt(tiny) * DOWN);
    // The norm times DOWN: for finite gradients it is finite even if the norm is not.
    let norm_of_large = hypotenuse(sqrt(large), norm_of_usual * DOWN);
    let norm = select(norm_of_large * UP, norm_of_usual, is_zero(large));
    let huge = norm >= HUGE;
    let bounded = norm + 1e-6;
    let clipped = bounded > params.max_norm;
    // A ratio of bound and norm below 2^-100 is too small for one factor.
    let tiny_bound = !huge && params.max_norm < bounded * 0x1p-100f;
    let bound = params.max_norm * select(1.0, UP, tiny_bound);
    let factor = select(1.0, bound / select(bounded, norm_of_large, huge), clipped);
    let skipped = bad && params.guard == 1u;
    store_factor(0u, select(factor, nan(), skipped || is_nan(norm)));
    store_factor(1u, select(1.0, DOWN, (huge || tiny_bound) && clipped));
    store_norm(0u, norm);
    store_skipped(0u, u32(skipped));
}
