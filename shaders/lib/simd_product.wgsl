// needs: grid product product_loads
// Matrix products on SIMD vectors: a workgroup is one vector and computes ROWS rows of c in
// registers, each thread 4 columns, without workgroup memory and barriers. A shader that needs this
// defines how rows of op(a) reach the threads:
//   const BROUGHT: u32
//       the number of rows per load, a divisor of ROWS
//   fn a_part(row: u32, depth: u32, thread: u32) -> mat4x4<f32>
//       loads BROUGHT rows from `row` on, at 4 depths
//   fn row_of_part(part: mat4x4<f32>, r: u32) -> vec4<f32>
//       row r of a load, at the 4 depths
//   fn any_thread(x: bool) -> bool
//       whether x is true in any thread of the workgroup
//
// Bindings: a, b, bias [n], gate and runs like c (each absent if unused), c [m, n] or
// [parts * m, n].

override ROWS: u32;

// The number of rows that are stored at once.
const AT_ONCE: u32 = min(2u, ROWS);

// Every load of 4 depths begins at a valid depth.
const PAST_THE_LAST: bool = false;

// The sums of the current run, and of earlier runs, at the thread's 4 columns of each row.
var<private> sums: array<vec4<f32>, ROWS>;
var<private> totals: array<vec4<f32>, ROWS>;

// op(b) at 4 depths (one vector each) and the thread's 4 columns, loaded by one thread.
fn b_block(column: u32, depth: u32) -> mat4x4<f32> {
    if (B_TRANSPOSED == 1u) {
        return transpose(mat4x4<f32>(
            b_column(column, depth),
            b_column(column + 1u, depth),
            b_column(column + 2u, depth),
            b_column(column + 3u, depth),
        ));
    }
    return mat4x4<f32>(
        b_row(column, depth),
        b_row(column, depth + 1u),
        b_row(column, depth + 2u),
        b_row(column, depth + 3u),
    );
}

// c + a * b over 4 depths, in order.
fn multiply_add(c: vec4<f32>, a: vec4<f32>, b: mat4x4<f32>) -> vec4<f32> {
    return (((c + a.x * b[0]) + a.y * b[1]) + a.z * b[2]) + a.w * b[3];
}

// The next depth from `first` on, in steps of 4, at which one of the ROWS rows of op(a) has a
// nonzero element within 4 depths; at least `end` if there is none. All threads of the workgroup
// take part. This is a separate loop, because drivers for CPUs execute the body of an `if` anyway.
fn next_depth(row: u32, first: u32, end: u32, thread: u32) -> u32 {
    var depth = first;
    var zero = true;
    while (zero && depth < end) {
        var bits = vec4<u32>();
        for (var r = 0u; r < ROWS; r++) { // unrolled
            if (r % BROUGHT == 0u) {
                let part = a_part(row + r, depth, thread);
                bits |= bitcast<vec4<u32>>(part[0]) | bitcast<vec4<u32>>(part[1]);
                bits |= bitcast<vec4<u32>>(part[2]) | bitcast<vec4<u32>>(part[3]);
            }
        }
        // The shift drops the sign bit of zeros.
        zero = !any_thread(any((bits << vec4<u32>(1u)) != vec4<u32>()));
        depth += select(0u, 4u, zero);
    }
    return depth;
}

// Adds the summands of 4 depths to the sums.
fn add_depths(row: u32, column: u32, depth: u32, thread: u32) {
    let b = b_block(column, depth);
    var part = mat4x4<f32>();
    for (var r = 0u; r < ROWS; r++) { // unrolled
        if (r % BROUGHT == 0u) {
            part = a_part(row + r, depth, thread);
        }
        sums[r] = multiply_add(sums[r], row_of_part(part, r % BROUGHT), b);
    }
}

// Adds the summands start..end, at least one, to the sums of ROWS rows and the thread's 4 columns.
// All threads of the workgroup take part. The main loop tests its condition after the body, because
// llvmpipe executes the body of other loops once more, with all threads inactive.
fn add_summands(row: u32, column: u32, start: u32, end: u32, thread: u32) {
    if (SPARSE == 0u) {
        var depth = start;
        loop {
            add_depths(row, column, depth, thread);
            continuing {
                depth += 4u;
                break if depth >= end;
            }
        }
        return;
    }
    for (var depth = next_depth(row, start, end, thread); depth < end; depth = next_depth(row, depth + 4u, end, thread)) {
        add_depths(row, column, depth, thread);
    }
}

// A workgroup computes ROWS rows and 4 * WORKGROUP columns of a part of c; all its threads take
// part.
fn body(index: u32, thread: u32) {
    let rows = (params.m + ROWS - 1u) / ROWS;
    let columns = (params.n + 4u * WORKGROUP - 1u) / (4u * WORKGROUP);
    let part = index / (rows * columns);
    let tile = index % (rows * columns);
    let row = tile / columns * ROWS;
    let column = ((tile % columns) * WORKGROUP + thread) * 4u;
    let start = part * params.split;
    let end = min(start + params.split, params.k);
    // Surplus workgroups of the grid would compute a part that does not exist.
    if (start >= max(params.k, 1u)) {
        return;
    }
    for (var r = 0u; r < ROWS; r++) { // unrolled
        sums[r] = begin_row(row + r, column);
        totals[r] = resume_row(row + r, column);
    }
    if (RUNS == 0u) {
        if (start < end) {
            add_summands(row, column, start, end, thread);
        }
        for (var r = 0u; r < ROWS; r++) { // unrolled
            totals[r] = add_run(totals[r], sums[r], 0u);
        }
    } else {
        for (var first = start; first < end; first += params.run) {
            add_summands(row, column, first, min(first + params.run, end), thread);
            for (var r = 0u; r < ROWS; r++) { // unrolled
                totals[r] = add_run(totals[r], sums[r], first - start);
                sums[r] = vec4<f32>();
            }
        }
    }
    let bias = bias_of(part, column);
    // Drivers for CPUs take long to compile stores, so few rows at a time come to the place from
    // which they are stored.
    let last = min(row + ROWS, params.m);
    for (var first = row; first < last; first += AT_ONCE) {
        for (var k = 0u; k < AT_ONCE; k++) { // unrolled
            finish_row(part, first + k, column, totals[k], bias);
        }
        for (var k = AT_ONCE; k < ROWS; k++) { // unrolled
            totals[k - AT_ONCE] = totals[k];
        }
    }
}
