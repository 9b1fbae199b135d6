// Sums values, or partial results, by blocks; where a single block is left, turns it into a loss as well.
// Bindings: input, denominator (a partial result; absent if there is none), partials (absent if there is no input), loss (one element; absent
// before the last block).
//
// A partial result is SUMS sums of two words each, and a position.

// 0: the input is values; else that of partial results with so many sums.
override INPUTS: u32;
override SUMS: u32;
// 1: the loss is divided by the denominator.
override DENOMINATOR: u32;

const WORDS: u32 = 2u * SUMS + 1u;

var<private> sums: array<Sum, SUMS>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let block = group_index(group, groups);
    let start = min(block * params.block, params.count);
    let end = min(start + params.block, params.count);
    for (var k = 0u; k < SUMS; k++) { // unrolled
        sums[k] = Sum(0.0, 0.0);
    }
    var bad = NONE;
    for (var i = start + thread; i < end; i += WORKGROUP) {
        if (INPUTS == 0u) {
            sums[0] = plus(sums[0], bitcast<f32>(load_input(i)));
        } else {
            let at = WORDS * i;
            for (var k = 0u; k < SUMS; k++) { // unrolled
                let part = Sum(bitcast<f32>(load_input(at + 2u * k)), bitcast<f32>(load_input(at + 2u * k + 1u)));
                sums[k] = plus_sum(sums[k], part);
            }
            bad = min(bad, load_input(at + WORDS - 1u));
        }
    }
    for (var k = 0u; k < SUMS; k++) { // unrolled
        sums[k] = normal(sum_across(thread, sums[k], WORKGROUP));
    }
    bad = first_across(thread, bad);
    if (thread != 0u) {
        return;
    }
    if (start < end) {
        let to = WORDS * block;
        for (var k = 0u; k < SUMS; k++) { // unrolled
            store_partials(to + 2u * k, bitcast<u32>(sums[k].high));
            store_partials(to + 2u * k + 1u, bitcast<u32>(sums[k].low));
        }
        store_partials(to + WORDS - 1u, bad);
    }
    if (block == 0u) {
        var divisor = params.divisor;
        if (DENOMINATOR == 1u) {
            divisor = bitcast<f32>(load_denominator(0u));
        }
        // A mean over nothing is 0 / 0.
        store_loss(0u, quotient(sums[0].high, divisor));
    }
}
