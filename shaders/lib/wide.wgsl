// needs: numerics
// Products of factors of any size. That of three may be an ordinary number where that of two of them is none: past the largest number there
// is infinity, and hardware takes subnormal factors and products for 0. So factors are taken apart, and their exponents added up.

// significand * 2^exponent. What `wide` gives has a significand from 1 to 2 in magnitude, unless it is 0, infinite or NaN; products of a few
// need no more care.
struct Wide {
    significand: f32,
    exponent: i32,
}

fn wide(x: f32) -> Wide {
    let bits = bitcast<u32>(x);
    let magnitude = bits & 0x7fffffffu;
    // The bits of a subnormal number count units of 2^-149.
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

// a / b, by the rules of `quotient`.
fn over(a: Wide, b: Wide) -> Wide {
    return Wide(quotient(a.significand, b.significand), a.exponent - b.exponent);
}

// 2^k for k from -126 to 127.
fn power_of_two(k: i32) -> f32 {
    return bitcast<f32>(u32(k + 127) << 23u);
}

// Two factors whose product it is: both at least 1 in magnitude, or both at most. A number that is multiplied with the first and then with the
// second is never further from 1 than it is itself or the result, so nothing is lost in between. The second is 1 where the first can be all.
fn multipliers(w: Wide) -> vec2<f32> {
    let bits = bitcast<u32>(w.significand);
    let magnitude = bits & 0x7fffffffu;
    let whole = magnitude == 0u || magnitude >= 0x7f800000u;
    let k = w.exponent + i32(magnitude >> 23u) - 127;
    // From 1 to 2, or of what is below 1 from 1/2 to 1.
    let below = k < 0;
    let significand = bitcast<f32>((bits & 0x80000000u) | (0x3f800000u - (u32(below) << 23u)) | (bits & 0x007fffffu));
    let exponent = k + i32(below);
    let first = clamp(exponent, -125, 126);
    let second = exponent - first;
    // Nothing is large enough to make a normal number of what is smaller than that.
    let factors = vec2<f32>(
        significand * power_of_two(first),
        select(power_of_two(clamp(second, -126, 127)), 0.0, second < -126),
    );
    return select(factors, vec2<f32>(w.significand, 1.0), whole);
}
