// needs: grid sum
// Sums columns over blocks of rows. Dispatches start and end between runs of rows.
// Bindings: input [rows, columns], sums [blocks, columns], lows, like sums (the rounding errors of
// blocks that several dispatches sum; absent if there are none).

// The number of rows in a run; 1 if rows arrive a few at a time.
override RUN: u32;
// 1: a block can have millions of rows.
override LONG: u32;
// The number of columns of a thread: 4, or 1 if quads would straddle two rows.
override COLUMNS: u32;

var<private> sums: array<Sum, COLUMNS>;

// The thread's columns of the input from element i on.
fn columns_at(i: u32) -> vec4<f32> {
    if (COLUMNS == 4u) {
        return load4_input(i);
    }
    return vec4<f32>(load_input(i), 0.0, 0.0, 0.0);
}

// Adds a run of rows, summed by column, to the sums of the thread's columns.
fn add_run(run: vec4<f32>) {
    for (var c = 0u; c < COLUMNS; c++) { // unrolled
        sums[c] = plus(sums[c], run[c]);
    }
}

// A thread adds its columns of one block, in the order of the rows, in runs of RUN rows.
// Neighbouring threads add neighbouring columns.
fn body(index: u32, thread: u32) {
    let per_block = (params.end_column - params.first_column + COLUMNS * WORKGROUP - 1u) / (COLUMNS * WORKGROUP);
    let block = index / per_block;
    let column = params.first_column + COLUMNS * ((index % per_block) * WORKGROUP + thread);
    let start = max(block * params.block, params.first);
    let end = min((block + 1u) * params.block, params.first + params.rows);
    if (column >= params.end_column || (start >= end && params.rows > 0u) || (block > 0u && params.rows == 0u)) {
        return;
    }
    let at = block * params.columns + column;
    // An earlier dispatch may have summed the first rows of the block.
    let resumed = start > block * params.block;
    for (var c = 0u; c < COLUMNS; c++) { // unrolled
        sums[c] = Sum(0.0, 0.0);
        if (resumed) {
            sums[c] = Sum(load_sums(at + c), load_lows(at + c));
        }
    }
    var i = (start - params.first) * params.columns + column;
    for (var row = start; row < start + (end - start) / RUN * RUN; row += RUN) {
        var run = columns_at(i);
        for (var k = 1u; k < RUN; k++) { // unrolled
            run += columns_at(i + k * params.columns);
        }
        add_run(run);
        if (LONG == 1u) {
            for (var c = 0u; c < COLUMNS; c++) { // unrolled
                sums[c] = normalised_sum(sums[c]);
            }
        }
        i += RUN * params.columns;
    }
    let rest = (end - start) % RUN;
    if (rest > 0u) {
        var run = vec4<f32>();
        for (var k = 0u; k < rest; k++) {
            run += columns_at(i + k * params.columns);
        }
        add_run(run);
    }
    let last = end == (block + 1u) * params.block || end == params.last;
    var highs: vec4<f32>;
    var lows: vec4<f32>;
    for (var c = 0u; c < COLUMNS; c++) { // unrolled
        highs[c] = select(sums[c].high, value_of(sums[c]), last);
        lows[c] = sums[c].low;
    }
    if (COLUMNS == 4u) {
        store4_sums(at, highs);
        store4_lows(at, lows);
    } else {
        store_sums(at, highs.x);
        store_lows(at, lows.x);
    }
}
