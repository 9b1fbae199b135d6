// needs: numerics sum
// Scaled and soft-capped logits: z = cap * tanh(scale * x / cap). Both factors are positive, so z
// is monotonic in x. Pure functions of one thread's values; no exchange between threads.

// 0: z = x; 1: z = scale * x; 2: scaled and capped.
override LOGITS: u32;

// A quad with `room` elements. A cap makes infinite logits finite, but padding stays -infinity.
fn prepare4(x: vec4<f32>, room: u32) -> vec4<f32> {
    if (LOGITS != 2u) {
        return x;
    }
    let bits = bitcast<vec4<u32>>(x);
    let below = select(x, vec4<f32>(-LOWEST), bits == vec4<u32>(0x7f800000u));
    let finite = select(below, vec4<f32>(LOWEST), bits == vec4<u32>(0xff800000u));
    return select(vec4<f32>(-infinity()), finite, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(room));
}

fn tanh4(x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(tanh_f32(x.x), tanh_f32(x.y), tanh_f32(x.z), tanh_f32(x.w));
}

// The argument of tanh.
fn over_cap(x: vec4<f32>) -> vec4<f32> {
    return params.logit_scale * x / params.softcap;
}

// z for 4 logits x.
fn scaled4(x: vec4<f32>) -> vec4<f32> {
    if (LOGITS == 0u) {
        return x;
    }
    if (LOGITS == 1u) {
        return params.logit_scale * x;
    }
    return params.softcap * tanh4(over_cap(x));
}

// z(x) - z(m) for 4 logits x.
fn gap4(x: vec4<f32>, m: f32) -> vec4<f32> {
    if (LOGITS != 2u) {
        // Subtract before scaling, so that the result is exactly 0 for x = m. If that difference
        // overflows and the scale is below 1, scale first.
        let d = x - m;
        let overflow = (bitcast<vec4<u32>>(d) == vec4<u32>(0xff800000u)) & vec4<bool>(params.logit_scale < 1.0);
        let scaled = select(params.logit_scale * d, params.logit_scale * x - params.logit_scale * m, overflow);
        return select(d, scaled, LOGITS == 1u);
    }
    let z = scaled4(x) - scaled4(vec4<f32>(m)).x;
    return select(z, vec4<f32>(-infinity()), bitcast<vec4<u32>>(x) == vec4<u32>(0xff800000u));
}

// The rounding error of the difference in `gap4`, without the errors of scale and cap; 0 if capped.
fn gap_error(x: f32, m: f32) -> f32 {
    if (LOGITS == 2u) {
        return 0.0;
    }
    let lost = plus(Sum(x, 0.0), -m).low;
    return select(lost, params.logit_scale * lost, LOGITS == 1u);
}

// Multiplies gradients g with respect to z by dz/dx = scale * (1 - tanh^2), computed without
// cancellation. Far beyond the cap the slopes are lifted before the multiplication.
fn times_slope4(g: vec4<f32>, x: vec4<f32>) -> vec4<f32> {
    let distance = 2.0 * abs(over_cap(x));
    let lifted = lifted_exp4(-distance);
    let e = lifted * LOWER;
    let far = distance > vec4<f32>(58.0);
    let slope = params.logit_scale * select(4.0 * e / ((1.0 + e) * (1.0 + e)), 4.0 * lifted, far);
    return g * slope * select(vec4<f32>(1.0), vec4<f32>(LOWER), far);
}
