// needs: grid sum
// Sums columns over blocks of rows. Dispatches start and end between runs of rows.
// Bindings: input [rows, columns], sums [blocks, columns], lows, like sums (the rounding errors of
// blocks that several dispatches sum; absent if there are none).

// The number of rows in a run; 1 if rows arrive a few at a time.
override RUN: u32;
// 1: a block can have millions of rows.
override LONG: u32;

// A thread adds one column of one block, in the order of the rows, in runs of RUN rows.
// Neighbouring threads add neighbouring columns.
fn body(index: u32, thread: u32) {
    let per_block = (params.end_column - params.first_column + WORKGROUP - 1u) / WORKGROUP;
    let block = index / per_block;
    let column = params.first_column + (index % per_block) * WORKGROUP + thread;
    let start = max(block * params.block, params.first);
    let end = min((block + 1u) * params.block, params.first + params.rows);
    if (column >= params.end_column || (start >= end && params.rows > 0u) || (block > 0u && params.rows == 0u)) {
        return;
    }
    let at = block * params.columns + column;
    var sum = Sum(0.0, 0.0);
    if (start > block * params.block) {
        // An earlier dispatch has summed the first rows of the block.
        sum = Sum(load_sums(at), load_lows(at));
    }
    var i = (start - params.first) * params.columns + column;
    for (var row = start; row < start + (end - start) / RUN * RUN; row += RUN) {
        var run = 0.0;
        for (var k = 0u; k < RUN; k++) { // unrolled
            run += load_input(i + k * params.columns);
        }
        sum = plus(sum, run);
        if (LONG == 1u) {
            sum = normalised_sum(sum);
        }
        i += RUN * params.columns;
    }
    let rest = (end - start) % RUN;
    if (rest > 0u) {
        var run = 0.0;
        for (var k = 0u; k < rest; k++) {
            run += load_input(i + k * params.columns);
        }
        sum = plus(sum, run);
    }
    if (end == (block + 1u) * params.block || end == params.last) {
        sum.high = value_of(sum);
    }
    store_sums(at, sum.high);
    store_lows(at, sum.low);
}
