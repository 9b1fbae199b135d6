// Compensated sums: short runs are added up in f32, and their sums are added to a pair of numbers
// that keeps the rounding error. The error of such a sum hardly grows with its length (for millions
// of numbers, see `normalised_sum`).

struct Sum {
    high: f32,
    // The rounding error of `high`.
    low: f32,
}

// Returns x. Compilers do not know that `params.zero` is 0, and so cannot simplify differences of
// sums algebraically, as Mesa otherwise does.
fn opaque(x: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) ^ params.zero);
}

// s + x. The rounding error is computed exactly, whichever of the two numbers is larger (Knuth, The
// Art of Computer Programming 2, 4.2.2).
fn plus(s: Sum, x: f32) -> Sum {
    let high = opaque(s.high + x);
    let arrived = opaque(high - s.high);
    let before = opaque(high - arrived);
    return Sum(high, s.low + (opaque(s.high - before) + opaque(x - arrived)));
}

fn plus_sum(s: Sum, other: Sum) -> Sum {
    let sum = plus(s, other.high);
    return Sum(sum.high, sum.low + other.low);
}

// high + low. An infinite or NaN `high` is returned as it is.
fn value_of(s: Sum) -> f32 {
    let finite = (bitcast<u32>(s.high) & 0x7f800000u) != 0x7f800000u;
    return select(s.high, s.high + s.low, finite);
}

// Normalises a sum, so that `low` is at most half an ulp of `high`. Otherwise the errors of
// millions of additions would make `low` a long f32 sum itself.
fn normalised_sum(s: Sum) -> Sum {
    let high = opaque(value_of(s));
    return Sum(high, s.low - opaque(high - s.high));
}
