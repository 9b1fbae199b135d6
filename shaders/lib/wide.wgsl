// needs: numerics
// Products of factors of any size, as significand and exponent. The product of two factors can
// overflow, or be subnormal and flushed by the hardware, although the product with a third factor
// is a normal number. Pure functions of one thread's values; no exchange between threads.

// significand * 2^exponent. `wide` returns a significand in [1, 2) in magnitude, unless x is 0,
// infinite or NaN, so that products of a few significands need no normalisation.
struct Wide {
    significand: f32,
    exponent: i32,
}

// x as significand and exponent. 0, infinity and NaN become the significand, with the exponent 0.
fn wide(x: f32) -> Wide {
    let bits = bitcast<u32>(x);
    let magnitude = bits & 0x7fffffffu;
    // A subnormal x is its bits, read as an integer, times 2^-149.
    let subnormal = magnitude < 0x00800000u;
    let normal = select(magnitude, bitcast<u32>(f32(bitcast<i32>(magnitude))), subnormal);
    let whole = magnitude == 0u || magnitude >= 0x7f800000u;
    let exponent = i32(normal >> 23u) - select(127, 276, subnormal);
    let significand = bitcast<f32>((bits & 0x80000000u) | 0x3f800000u | (normal & 0x007fffffu));
    return Wide(select(significand, x, whole), select(exponent, 0, whole));
}

fn times(a: Wide, b: Wide) -> Wide {
    return Wide(a.significand * b.significand, a.exponent + b.exponent);
}

// a / b, with the special cases of `quotient`.
fn divide(a: Wide, b: Wide) -> Wide {
    return Wide(quotient(a.significand, b.significand), a.exponent - b.exponent);
}

// 2^k for -126 <= k <= 127.
fn power_of_two(k: i32) -> f32 {
    return bitcast<f32>(u32(k + 127) << 23u);
}

// Splits w into two factors, both at least 1 or both at most 1 in magnitude. If a number is
// multiplied by the first and then by the second, the intermediate product is subnormal or infinite
// only if the number or the result is itself subnormal or infinite. The second factor is 1 for
// 2^-126 <= |w| < 2^127 and for 0, infinity and NaN.
fn multipliers(w: Wide) -> vec2<f32> {
    let bits = bitcast<u32>(w.significand);
    let magnitude = bits & 0x7fffffffu;
    let whole = magnitude == 0u || magnitude >= 0x7f800000u;
    let k = w.exponent + i32(magnitude >> 23u) - 127;
    // The significand is in [1, 2), or in [1/2, 1) if |w| is below 1.
    let below = k < 0;
    let significand = bitcast<f32>((bits & 0x80000000u) | (0x3f800000u - (u32(below) << 23u)) | (bits & 0x007fffffu));
    let exponent = k + i32(below);
    let first = clamp(exponent, -125, 126);
    let second = exponent - first;
    // Below 2^-252 the second factor is 0: the product of w and a number up to 2^126 is subnormal.
    let factors = vec2<f32>(
        significand * power_of_two(first),
        select(power_of_two(clamp(second, -126, 127)), 0.0, second < -126),
    );
    return select(factors, vec2<f32>(w.significand, 1.0), whole);
}
