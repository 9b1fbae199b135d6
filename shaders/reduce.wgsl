// needs: numerics sum_blocks
// Sums values or partial results by blocks. If there is a single block, the kernel can also compute
// a loss: the block's sum divided by a divisor.
// Bindings: input, denominator (a partial result; absent if there is none), partials (absent
// without input), loss (scalar; absent if not requested).

// 0: the input consists of values; else of partial results with this many sums.
override INPUTS: u32;
// The number of sums of a partial result.
override SUMS: u32;
// 0: the divisor is a parameter; 1: it is the denominator.
override DENOMINATOR: u32;

// Adds value or partial result i to the thread's sums.
fn add_element(i: u32) {
    if (INPUTS == 0u) {
        sums[0] = plus(sums[0], bitcast<f32>(load_input(i)));
        return;
    }
    let at = PARTIAL_WORDS * i;
    for (var k = 0u; k < SUMS; k++) { // unrolled
        let part = Sum(bitcast<f32>(load_input(at + 2u * k)), bitcast<f32>(load_input(at + 2u * k + 1u)));
        sums[k] = plus_sum(sums[k], part);
    }
    bad = min(bad, load_input(at + PARTIAL_WORDS - 1u));
}

fn end_block(block: u32, thread: u32) {
    if (thread == 0u && block == 0u) {
        var divisor = params.divisor;
        if (DENOMINATOR == 1u) {
            divisor = bitcast<f32>(load_denominator(0u));
        }
        // A mean over no elements is 0 / 0.
        store_loss(0u, quotient(sums[0].high, divisor));
    }
}
