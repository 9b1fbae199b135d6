// Elementary functions with at most 2 ulp of error over the whole range (sigmoid, softplus and
// tanh: 3 ulp), on any driver.
//
// Drivers may optimise NaN tests away, flush subnormals, and have an `exp` with errors of 64 ulp.
// Therefore special values are tested and produced as integers, scaling manipulates exponent bits,
// and no result depends on whether operations are fused.
//
// Pure functions of one thread's values; no exchange between threads.

// Runtime values, because WGSL constant expressions must not be NaN or infinite.
var<private> infinity_bits: u32 = 0x7f800000u;
var<private> nan_bits: u32 = 0x7fc00000u;

const LOWEST: f32 = -3.4028234e38;
const LOG2_E: f32 = 1.44269502;
// ln 2 as the sum of two numbers. The product of the first and an integer below 2^14 is exact.
const LN2_HIGH: f32 = 0.693359375;
const LN2_LOW: f32 = -2.12194440e-4;

fn infinity() -> f32 {
    return bitcast<f32>(infinity_bits);
}

fn nan() -> f32 {
    return bitcast<f32>(nan_bits);
}

fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// True for 0 and -0, false for NaN, independent of the hardware's comparisons.
fn is_zero(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) == 0u;
}

// a / b. Division by 0 returns NaN if a is 0 or NaN, else a signed infinity.
fn quotient(a: f32, b: f32) -> f32 {
    let sign = (bitcast<u32>(a) ^ bitcast<u32>(b)) & 0x80000000u;
    let limit = select(bitcast<f32>(infinity_bits | sign), nan(), is_zero(a) || is_nan(a));
    return select(a / b, limit, is_zero(b));
}

fn is_infinite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u;
}

// x - n * ln(2). The first difference is exact. With `fma`, Mesa would merge the two parts of ln 2
// into one product, with an error of 67 ulp.
fn reduce_argument(x: f32, n: f32) -> f32 {
    return (x - n * LN2_HIGH) - n * LN2_LOW;
}

// exp(r) for |r| <= ln(2)/2.
fn exp_reduced(r: f32) -> f32 {
    var p = 1.9875691e-4;
    p = p * r + 1.3981999e-3;
    p = p * r + 8.3334519e-3;
    p = p * r + 4.1665796e-2;
    p = p * r + 1.6666666e-1;
    p = p * r + 5.0000001e-1;
    return 1.0 + (r + r * r * p);
}

// exp(x) * 2^k for integer k, unless the result is subnormal. Unspecified for NaN, which callers
// handle separately.
fn scaled_exp4(x: vec4<f32>, k: vec4<f32>) -> vec4<f32> {
    let n = round(x * LOG2_E);
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    var p = vec4<f32>(1.9875691e-4);
    p = p * r + 1.3981999e-3;
    p = p * r + 8.3334519e-3;
    p = p * r + 4.1665796e-2;
    p = p * r + 1.6666666e-1;
    p = p * r + 5.0000001e-1;
    let y = 1.0 + (r + r * r * p);
    // Adding 1.5 * 2^23 puts a small integer into the low bits of the sum: the exponent of
    // 2^(n + k), which is shifted into place. (12583039 is 1.5 * 2^23 plus the bias of 127.)
    return y * bitcast<vec4<f32>>(bitcast<vec4<u32>>(n + (k + 12583039.0)) << vec4<u32>(23u));
}

// exp(x) for x <= 0; 0 if the result is below 2^-126.
fn exp4_nonpositive(x: vec4<f32>) -> vec4<f32> {
    return select(scaled_exp4(x, vec4<f32>()), vec4<f32>(), x < vec4<f32>(-87.33654));
}

fn exp_nonpositive(x: f32) -> f32 {
    return exp4_nonpositive(vec4<f32>(x)).x;
}

// LIFT (2^LIFTED_BY) lifts very small numbers out of the subnormal range. A sum of 2^32 numbers up
// to 1, each lifted, does not overflow.
const LIFTED_BY: i32 = 80;
const LIFT: f32 = 0x1p80f;
const LOWER: f32 = 0x1p-80f;

// LIFT * exp(x) for x <= 30; 0 for x < -142.7, where exp(x) is below about 2^-206.
fn lifted_exp4(x: vec4<f32>) -> vec4<f32> {
    return select(scaled_exp4(x, vec4<f32>(f32(LIFTED_BY))), vec4<f32>(), x < vec4<f32>(-142.7));
}

fn lifted_exp(x: f32) -> f32 {
    return lifted_exp4(vec4<f32>(x)).x;
}

// exp(-|x|), including subnormal results, which are composed as integers because hardware may flush
// products. Unspecified for NaN.
fn exp_minus_abs(x: f32) -> f32 {
    let t = max(-abs(x), -174.0);
    let n = round(t * LOG2_E);
    let bits = bitcast<u32>(exp_reduced(reduce_argument(t, n)));
    let k = i32(n);
    let exponent = i32(bits >> 23u) + k;
    let shift = u32(clamp(1 - exponent, 0, 25));
    let subnormal = (((bits & 0x007fffffu) | 0x00800000u) + ((1u << shift) >> 1u)) >> shift;
    return bitcast<f32>(select(bits + (bitcast<u32>(k) << 23u), subnormal, exponent < 1));
}

// 2^126 * exp(-|x|) for |x| <= 174. Compilers merge most of it with `exp_minus_abs`.
fn lifted_exp_minus_abs(x: f32) -> f32 {
    let t = max(-abs(x), -174.0);
    let n = round(t * LOG2_E);
    let bits = bitcast<u32>(exp_reduced(reduce_argument(t, n)));
    return bitcast<f32>((bits + (bitcast<u32>(i32(n)) << 23u)) + (126u << 23u));
}

// log((1 + f) * 2^k) for 1 + f in [sqrt(1/2), sqrt(2)].
fn log_reduced(f: f32, k: f32) -> f32 {
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = w * (0.40000972 + w * 0.24279079);
    let odd = z * (0.66666663 + w * 0.28498787);
    let half_square = 0.5 * f * f;
    let correction = s * (half_square + (even + odd)) + k * LN2_LOW;
    return k * LN2_HIGH + (f - (half_square - correction));
}

// log(x); -infinity for 0 and -0, NaN for other negative numbers.
fn log_f32(x: f32) -> f32 {
    var bits = bitcast<u32>(x);
    var k = -127;
    if (bits < 0x00800000u && bits != 0u) {
        // Subnormal: move the leading bit to the position of the implicit one.
        let shift = countLeadingZeros(bits) - 8u;
        bits = bits << shift;
        k = -127 - i32(shift);
    }
    // Move the range of the significand from [1, 2) to [sqrt(1/2), sqrt(2)).
    let moved = bits + (0x3f800000u - 0x3f3504f3u);
    let mantissa = bitcast<f32>((moved & 0x007fffffu) + 0x3f3504f3u);
    let y = log_reduced(mantissa - 1.0, f32(k + i32(moved >> 23u)));
    let original = bitcast<u32>(x);
    var special = y;
    special = select(special, infinity(), original == 0x7f800000u);
    special = select(special, -infinity(), (original & 0x7fffffffu) == 0u);
    return select(special, nan(), (original > 0x7f800000u && original != 0x80000000u));
}

// log(1 + x); -infinity for -1, NaN below.
fn log1p_f32(x: f32) -> f32 {
    // The rounded 1 + x only selects the scale 2^-k; f = (1 + x) * 2^-k - 1 is rounded once.
    let moved = bitcast<u32>(1.0 + x) + (0x3f800000u - 0x3f3504f3u);
    let k = i32(moved >> 23u) - 127;
    let scale = bitcast<f32>(u32(127 - min(k, 64)) << 23u);
    // From 2^25 on, 1 + x rounds to x, and f follows from its bits as in `log_f32`.
    let mantissa = bitcast<f32>((moved & 0x007fffffu) + 0x3f3504f3u);
    let f = select(x * scale + (scale - 1.0), mantissa - 1.0, k > 25);
    let bits = bitcast<u32>(x);
    var special = log_reduced(f, f32(k));
    // Below 2^-24 in magnitude the result is x, even if the hardware flushes subnormals.
    special = select(special, x, (bits & 0x7fffffffu) < 0x33800000u);
    special = select(special, -infinity(), bits == 0xbf800000u);
    special = select(special, infinity(), bits == 0x7f800000u);
    return select(special, nan(), is_nan(x) || (bits > 0xbf800000u));
}

// 1 / (1 + exp(-x)).
fn sigmoid_f32(x: f32) -> f32 {
    let e = exp_minus_abs(x);
    let ratio = select(e, 1.0, x >= 0.0) / (1.0 + e);
    // Far below 0 the result is e itself, which can be subnormal.
    let y = select(ratio, e, x < -20.0);
    return select(y, nan(), is_nan(x));
}

// log(1 + exp(-|x|)), the common part of softplus(x) and softplus(-x).
fn softplus_tail_f32(x: f32) -> f32 {
    let e = exp_minus_abs(x);
    let large = e > 0.41421356;
    let y = log_reduced(select(e, 0.5 * e - 0.5, large), select(0.0, 1.0, large));
    // Below 2^-24 the result is e, which can be subnormal.
    return select(y, e, e < 5.9604645e-8);
}

// log(1 + exp(x)).
fn softplus_f32(x: f32) -> f32 {
    let tail = softplus_tail_f32(x);
    // For x <= 0 the result is the tail, which can be subnormal: an addition could flush it.
    let y = select(tail, x + tail, x > 0.0);
    return select(y, nan(), is_nan(x));
}

// tanh(x): a polynomial up to 0.625, else by exp(-2 |x|).
fn tanh_f32(x: f32) -> f32 {
    let e = exp_nonpositive(-2.0 * abs(x));
    let far = (1.0 - e) / (1.0 + e);
    let z = x * x;
    var p = -5.7052323e-3;
    p = p * z + 2.0639298e-2;
    p = p * z - 5.3739775e-2;
    p = p * z + 1.3331443e-1;
    p = p * z - 3.3333281e-1;
    let y = select(x + x * (z * p), select(far, -far, x < 0.0), abs(x) > 0.625);
    // Below 2^-12 in magnitude the result is x, which can be subnormal.
    let tiny = (bitcast<u32>(x) & 0x7fffffffu) < 0x39800000u;
    return select(select(y, x, tiny), nan(), is_nan(x));
}
