// needs: sum_across
// Partial results of reductions in a fixed order. A workgroup reduces a block of values to
// 2 * SUMS + 1 words: SUMS compensated sums (`lib/sum.wgsl`), and the first position of bad data
// (an element out of range, or an invalid target; NONE if there is none). A shader that needs this
// defines SUMS.

const NONE: u32 = 0xffffffffu;

// The minimum of the positions of all threads. All threads of the workgroup take part.
fn first_across(thread: u32, position: u32) -> u32 {
    var first = position;
    for (var distance = WORKGROUP / 2u; distance > 0u; distance /= 2u) {
        first = min(first, across(thread, vec4<u32>(first, 0u, 0u, 0u), distance).x);
    }
    return first;
}

// The sums and the first position of bad data of the thread; after `combine_sums`, of the
// workgroup.
var<private> sums: array<Sum, SUMS>;
var<private> bad: u32;

const PARTIAL_WORDS: u32 = 2u * SUMS + 1u;

fn begin_sums() {
    for (var k = 0u; k < SUMS; k++) { // unrolled
        sums[k] = Sum(0.0, 0.0);
    }
    bad = NONE;
}

// Combines the results of all threads; all threads of the workgroup take part and get the result.
fn combine_sums(thread: u32) {
    for (var k = 0u; k < SUMS; k++) { // unrolled
        sums[k] = normalised_partial(sum_across(thread, sums[k], WORKGROUP));
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

// Normalises a sum, so that `high` is the rounded sum; `low` is 0 if that is infinite or NaN.
fn normalised_partial(s: Sum) -> Sum {
    let rounded = value_of(s);
    let finite = (bitcast<u32>(rounded) & 0x7f800000u) != 0x7f800000u;
    return Sum(rounded, select(0.0, plus(Sum(s.high, 0.0), s.low).low, finite));
}
