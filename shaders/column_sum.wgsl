// needs: grid sum
// Sums columns over blocks of rows. Dispatches start and end between runs of rows.
// Bindings: input [rows, columns], sums [blocks, columns], lows, like sums (the rounding errors of
// blocks that several dispatches sum; absent if there are none).

// The number of rows in a run; 1 if rows arrive a few at a time.
override RUN: u32;
// 1: a block can have millions of rows.
override LONG: u32;
// 1: the number of columns is a multiple of 4.
override WHOLE: u32;

var<private> sums: array<Sum, 4>;

// Adds a run of rows, summed by column, to the sums of the thread's columns.
fn add_run(run: vec4<f32>) {
    for (var c = 0u; c < 4u; c++) { // unrolled
        sums[c] = plus(sums[c], run[c]);
    }
}

// A thread adds a quad of columns of one block, in the order of the rows, in runs of RUN rows.
// Neighbouring threads add neighbouring quads.
fn body(index: u32, thread: u32) {
    let per_block = (params.end_column - params.first_column + 4u * WORKGROUP - 1u) / (4u * WORKGROUP);
    let block = index / per_block;
    let column = params.first_column + 4u * ((index % per_block) * WORKGROUP + thread);
    let start = max(block * params.block, params.first);
    let end = min((block + 1u) * params.block, params.first + params.rows);
    if (column >= params.end_column || (start >= end && params.rows > 0u) || (block > 0u && params.rows == 0u)) {
        return;
    }
    let room = select(params.end_column - column, 4u, WHOLE == 1u);
    let at = block * params.columns + column;
    // An earlier dispatch has summed the first rows of the block.
    let resumed = select(0u, room, start > block * params.block);
    let high = load_quad_sums(at, 1u, resumed, 0.0);
    let low = load_quad_lows(at, 1u, resumed, 0.0);
    for (var c = 0u; c < 4u; c++) { // unrolled
        sums[c] = Sum(high[c], low[c]);
    }
    var i = (start - params.first) * params.columns + column;
    for (var row = start; row < start + (end - start) / RUN * RUN; row += RUN) {
        var run = load_quad_input(i, 1u, room, 0.0);
        for (var k = 1u; k < RUN; k++) { // unrolled
            run += load_quad_input(i + k * params.columns, 1u, room, 0.0);
        }
        add_run(run);
        if (LONG == 1u) {
            for (var c = 0u; c < 4u; c++) { // unrolled
                sums[c] = normalised_sum(sums[c]);
            }
        }
        i += RUN * params.columns;
    }
    let rest = (end - start) % RUN;
    if (rest > 0u) {
        var run = vec4<f32>();
        for (var k = 0u; k < rest; k++) {
            run += load_quad_input(i + k * params.columns, 1u, room, 0.0);
        }
        add_run(run);
    }
    let last = end == (block + 1u) * params.block || end == params.last;
    var highs: vec4<f32>;
    var rounding: vec4<f32>;
    for (var c = 0u; c < 4u; c++) { // unrolled
        highs[c] = select(sums[c].high, value_of(sums[c]), last);
        rounding[c] = sums[c].low;
    }
    store_quad_sums(at, 1u, room, highs);
    store_quad_lows(at, 1u, room, rounding);
}
