// needs: sum_across
// Sums in a fixed order, and positions of bad data. A workgroup turns a block of values into a partial result: for each of SUMS sums the
// bits of two numbers (`lib/sum.wgsl`; the first is the rounded sum), and then the first position at which data is out of range (NONE if
// all of it is fine). The shader that uses this defines SUMS.

const NONE: u32 = 0xffffffffu;

// The least of the threads' positions. Every thread of the workgroup takes part.
fn first_across(thread: u32, position: u32) -> u32 {
    var first = position;
    for (var distance = WORKGROUP / 2u; distance > 0u; distance /= 2u) {
        first = min(first, across(thread, vec4<u32>(first, 0u, 0u, 0u), distance).x);
    }
    return first;
}

// The sums of a block, SUMS of them, and the first bad position; first each thread's own, then the workgroup's.
var<private> sums: array<Sum, SUMS>;
var<private> bad: u32;

const PARTIAL_WORDS: u32 = 2u * SUMS + 1u;

fn begin_sums() {
    for (var k = 0u; k < SUMS; k++) { // unrolled
        sums[k] = Sum(0.0, 0.0);
    }
    bad = NONE;
}

// Combines the threads' results; every thread of the workgroup takes part, and gets the workgroup's.
fn combine_sums(thread: u32) {
    for (var k = 0u; k < SUMS; k++) { // unrolled
        sums[k] = normal(sum_across(thread, sums[k], WORKGROUP));
    }
    bad = first_across(thread, bad);
}

fn store_partial(block: u32) {
    let to = PARTIAL_WORDS * block;
    for (var k = 0u; k < SUMS; k++) { // unrolled
        store_partials(to + 2u * k, bitcast<u32>(sums[k].high));
        store_partials(to + 2u * k + 1u, bitcast<u32>(sums[k].low));
    }
    store_partials(to + PARTIAL_WORDS - 1u, bad);
}

// The same sum, of which the first number is all that one number can hold.
fn normal(s: Sum) -> Sum {
    let rounded = value_of(s);
    let finite = (bitcast<u32>(rounded) & 0x7f800000u) != 0x7f800000u;
    return Sum(rounded, select(0.0, plus(Sum(s.high, 0.0), s.low).low, finite));
}
