// needs: lanes sum
// Partial results of reductions in a fixed order. A workgroup reduces a block of values to
// 2 * SUMS + 1 words: SUMS compensated sums (`lib/sum.wgsl`), and the first position of bad data
// (an element out of range, or an invalid target; NONE if there is none). A shader that needs this
// defines SUMS.

const NONE: u32 = 0xffffffffu;

const TEAM: u32 = WORKGROUP;

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
        for (var stage = TEAM / 2u; stage > 0u; stage /= 2u) { // unrolled
            let bits = bitcast<vec2<u32>>(vec2<f32>(sums[k].high, sums[k].low));
            let pair = exchanged(thread, vec4<u32>(bits, bad, 0u), stage);
            let a = bitcast<vec2<f32>>(pair.mine.xy);
            let b = bitcast<vec2<f32>>(pair.other.xy);
            sums[k] = plus_sum(Sum(a.x, a.y), Sum(b.x, b.y));
            bad = min(pair.mine.z, pair.other.z);
        }
        sums[k] = normalised_partial(sums[k]);
    }
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
