// needs: norm_scales numerics once
// What gradients are multiplied with so that their norm is at most `max_norm`; NaN if the norm is, or with the guard if a gradient is
// NaN or infinite. The factor has two elements, a factor each, because the factor of a huge norm or a tiny bound is subnormal. Bindings: total (the partial result
// of `grad_norm`), factor, norm, skipped (one element each).

// The position of a gradient where there is none.
const NONE: u32 = 0xffffffffu;

// The root of a^2 + b^2, where a is not much smaller than b unless it is 0, and neither is squared.
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
    // Times DOWN: of finite gradients it is finite, whether the norm is or not.
    let norm_of_large = hypotenuse(sqrt(large), norm_of_usual * DOWN);
    let norm = select(norm_of_large * UP, norm_of_usual, is_zero(large));
    let huge = norm >= HUGE;
    let bounded = norm + 1e-6;
    let clipped = bounded > params.max_norm;
    // Too small for one factor: 2^100 times smaller than the norm.
    let tiny_bound = !huge && params.max_norm < bounded * 0x1p-100f;
    let bound = params.max_norm * select(1.0, UP, tiny_bound);
    let factor = select(1.0, bound / select(bounded, norm_of_large, huge), clipped);
    let skipped = bad && params.guard == 1u;
    store_factor(0u, select(factor, nan(), skipped || is_nan(norm)));
    store_factor(1u, select(1.0, DOWN, (huge || tiny_bound) && clipped));
    store_norm(0u, norm);
    store_skipped(0u, u32(skipped));
}
