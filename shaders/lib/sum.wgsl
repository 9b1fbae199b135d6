// Sums of many numbers: short runs are added up as they are, and the runs' sums go into two numbers, so that what an addition
// rounds off is not lost. The error of such a sum does not grow with its length.

struct Sum {
    high: f32,
    // What `high` lacks.
    low: f32,
}

// The same number. `params.zero` is 0, which no compiler knows: it can not simplify differences of sums to what they would be
// without rounding, as Mesa does.
fn opaque(x: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) ^ params.zero);
}

// s + x. The difference between the rounded sum and the exact one is formed exactly, whichever of the two numbers is larger
// (Knuth, The Art of Computer Programming 2, 4.2.2).
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

// Infinity and NaN are in the first number; the second is of no use then.
fn value_of(s: Sum) -> f32 {
    let finite = (bitcast<u32>(s.high) & 0x7f800000u) != 0x7f800000u;
    return select(s.high, s.high + s.low, finite);
}

// The same sum, of which the second number is as small as can be: it must not become a long sum itself, of what millions of additions have
// rounded off.
fn settled_sum(s: Sum) -> Sum {
    let high = opaque(value_of(s));
    return Sum(high, s.low - opaque(high - s.high));
}
