// needs: grid product product_loads
// c = op(a) op(b) + bias, by tiles in workgroup memory.
//
// op(a) is [m, k] and op(b) is [k, n]; A_TRANSPOSED and B_TRANSPOSED say that the stored matrix is
// the transpose. A workgroup computes a tile of SIDE x SIDE elements of c. A thread computes
// ROW_QUADS x COLUMN_QUADS squares of 4 x 4, spread over the tile so that neighbouring threads load
// neighbouring quads. An element of c is the sum of its runs in order, and a run is the sum of its
// summands in the order of k, so splitting k into dispatches does not change the result.
//
// Each part of `params.split` depths has a partial result in rows of c of its own; the caller adds
// the partial results.
// Bindings: a, b, bias [n], gate and runs like c (each absent if unused), c [m, n] or
// [parts * m, n].

// params stay uniform

// The number of quads along a side of the tile, and along the depths that are loaded at a time.
override TILE_QUADS: u32;
override DEPTH_QUADS: u32;
// The number of squares of a thread, down and across.
override ROW_QUADS: u32;
override COLUMN_QUADS: u32;

// The last load can extend beyond the last depth.
const PAST_THE_LAST: bool = true;

const SIDE: u32 = 4u * TILE_QUADS;
const DEPTH: u32 = 4u * DEPTH_QUADS;
// The number of threads along each side.
const ROW_THREADS: u32 = TILE_QUADS / ROW_QUADS;
const COLUMN_THREADS: u32 = TILE_QUADS / COLUMN_QUADS;
const SUMS: u32 = 4u * ROW_QUADS * COLUMN_QUADS;
// The number of threads that combine the results of the search for nonzero elements.
const FINDERS: u32 = 16u;

// SIDE rows of op(a) and SIDE columns of op(b) at DEPTH depths, in workgroup memory. Quad q of
// depth d, with 4 rows of op(a) or 4 columns of op(b), is at `place(d, q)`.
var<workgroup> a_tile: array<vec4<f32>, DEPTH * TILE_QUADS>;
var<workgroup> b_tile: array<vec4<f32>, DEPTH * TILE_QUADS>;

// The sums of the current run, and of earlier runs, for the thread's squares.
var<private> sums: array<vec4<f32>, SUMS>;
var<private> totals: array<vec4<f32>, SUMS>;
var<private> a_quads: array<vec4<f32>, ROW_QUADS>;
var<private> b_quads: array<vec4<f32>, COLUMN_QUADS>;

// Threads that transpose while loading write at a stride of 4 depths. From one group of 4 depths to
// the next, the quads are permuted, which avoids bank conflicts.
fn place(d: u32, q: u32) -> u32 {
    return d * TILE_QUADS + (q ^ ((d / 4u * 2u) % TILE_QUADS));
}

// Loads SIDE rows of op(a) from `row` on and SIDE columns of op(b) from `column` on, at DEPTH
// depths from `depth` on, into workgroup memory. All threads of the workgroup take part.
fn load_tiles(thread: u32, row: u32, column: u32, depth: u32) {
    if (A_TRANSPOSED == 1u) {
        for (var i = thread; i < DEPTH * TILE_QUADS; i += WORKGROUP) {
            a_tile[place(i / TILE_QUADS, i % TILE_QUADS)] = a_column(row + i % TILE_QUADS * 4u, depth + i / TILE_QUADS);
        }
    } else {
        for (var i = thread; i < DEPTH_QUADS * TILE_QUADS; i += WORKGROUP) {
            let d = i % DEPTH_QUADS * 4u;
            let q = i / DEPTH_QUADS;
            let r = row + q * 4u;
            var by_depth = transpose(mat4x4<f32>(
                a_row(r, depth + d),
                a_row(r + 1u, depth + d),
                a_row(r + 2u, depth + d),
                a_row(r + 3u, depth + d),
            ));
            for (var e = 0u; e < 4u; e++) { // unrolled
                a_tile[place(d + e, q)] = by_depth[e];
            }
        }
    }
    if (B_TRANSPOSED == 0u) {
        for (var i = thread; i < DEPTH * TILE_QUADS; i += WORKGROUP) {
            b_tile[place(i / TILE_QUADS, i % TILE_QUADS)] = b_row(column + i % TILE_QUADS * 4u, depth + i / TILE_QUADS);
        }
    } else {
        for (var i = thread; i < DEPTH_QUADS * TILE_QUADS; i += WORKGROUP) {
            let d = i % DEPTH_QUADS * 4u;
            let q = i / DEPTH_QUADS;
            let c = column + q * 4u;
            var by_depth = transpose(mat4x4<f32>(
                b_column(c, depth + d),
                b_column(c + 1u, depth + d),
                b_column(c + 2u, depth + d),
                b_column(c + 3u, depth + d),
            ));
            for (var e = 0u; e < 4u; e++) { // unrolled
                b_tile[place(d + e, q)] = by_depth[e];
            }
        }
    }
}

// Whether the thread's share of SIDE rows and DEPTH depths of op(a) has a nonzero element.
fn holds_something(thread: u32, row: u32, depth: u32) -> bool {
    var bits = vec4<u32>();
    if (A_TRANSPOSED == 1u) {
        for (var i = thread; i < DEPTH * TILE_QUADS; i += WORKGROUP) {
            bits |= bitcast<vec4<u32>>(a_column(row + i % TILE_QUADS * 4u, depth + i / TILE_QUADS));
        }
    } else {
        for (var i = thread; i < DEPTH_QUADS * SIDE; i += WORKGROUP) {
            bits |= bitcast<vec4<u32>>(a_row(row + i / DEPTH_QUADS, depth + i % DEPTH_QUADS * 4u));
        }
    }
    // The shift drops the sign bit of zeros.
    return any((bits << vec4<u32>(1u)) != vec4<u32>());
}

// The next depth from `first` on, in steps of DEPTH, at which SIDE rows of op(a) have a nonzero
// element within DEPTH depths; at least `end` if there is none. All threads of the workgroup take
// part and get the result. Uses the memory of the tiles, which is free between two loads.
fn next_depth(thread: u32, row: u32, first: u32, end: u32) -> u32 {
    if (SPARSE == 0u) {
        return first;
    }
    var depth = first;
    while (depth < end) {
        workgroupBarrier();
        a_tile[thread].x = select(0.0, 1.0, holds_something(thread, row, depth));
        workgroupBarrier();
        if (thread < FINDERS) {
            var found = 0.0;
            for (var i = thread; i < WORKGROUP; i += FINDERS) {
                found += a_tile[i].x;
            }
            b_tile[thread].x = found;
        }
        workgroupBarrier();
        if (thread == 0u) {
            var found = 0.0;
            for (var i = 0u; i < FINDERS; i++) {
                found += b_tile[i].x;
            }
            a_tile[0].x = found;
        }
        if (workgroupUniformLoad(&a_tile[0]).x > 0.0) {
            break;
        }
        depth += DEPTH;
    }
    return depth;
}

// Adds the summands start..end to the sums of the tile of SIDE x SIDE elements at (row, column).
// All threads of the workgroup take part.
fn add_summands(thread: u32, row: u32, column: u32, start: u32, end: u32) {
    let first_row = thread / COLUMN_THREADS;
    let first_column = thread % COLUMN_THREADS;
    for (var depth = next_depth(thread, row, start, end); depth < end; depth = next_depth(thread, row, depth + DEPTH, end)) {
        workgroupBarrier();
        load_tiles(thread, row, column, depth);
        workgroupBarrier();
        for (var d = 0u; d < DEPTH; d++) {
            for (var x = 0u; x < ROW_QUADS; x++) { // unrolled
                a_quads[x] = a_tile[place(d, first_row + x * ROW_THREADS)];
            }
            for (var y = 0u; y < COLUMN_QUADS; y++) { // unrolled
                b_quads[y] = b_tile[place(d, first_column + y * COLUMN_THREADS)];
            }
            for (var x = 0u; x < ROW_QUADS; x++) { // unrolled
                for (var e = 0u; e < 4u; e++) { // unrolled
                    for (var y = 0u; y < COLUMN_QUADS; y++) { // unrolled
                        sums[(x * 4u + e) * COLUMN_QUADS + y] += a_quads[x][e] * b_quads[y];
                    }
                }
            }
        }
    }
}

// A workgroup computes one tile of one part of c. All its threads take part in loading; each stores
// its own squares.
fn body(index: u32, thread: u32) {
    let rows = (params.m + SIDE - 1u) / SIDE;
    let columns = (params.n + SIDE - 1u) / SIDE;
    let part = index / (rows * columns);
    let tile = index % (rows * columns);
    let row = tile / columns * SIDE;
    let column = tile % columns * SIDE;
    // The first quad of the thread in the tile, down and across.
    let first_row = thread / COLUMN_THREADS;
    let first_column = thread % COLUMN_THREADS;
    for (var x = 0u; x < ROW_QUADS; x++) { // unrolled
        for (var e = 0u; e < 4u; e++) { // unrolled
            for (var y = 0u; y < COLUMN_QUADS; y++) { // unrolled
                let r = row + (first_row + x * ROW_THREADS) * 4u + e;
                let c = column + (first_column + y * COLUMN_THREADS) * 4u;
                sums[(x * 4u + e) * COLUMN_QUADS + y] = begin_row(r, c);
                totals[(x * 4u + e) * COLUMN_QUADS + y] = resume_row(r, c);
            }
        }
    }
    let start = part * params.split;
    let end = min(start + params.split, params.k);
    if (RUNS == 0u) {
        add_summands(thread, row, column, start, end);
        for (var i = 0u; i < SUMS; i++) { // unrolled
            totals[i] = add_run(totals[i], sums[i], 0u);
        }
    } else {
        for (var first = start; first < end; first += params.run) {
            add_summands(thread, row, column, first, min(first + params.run, end));
            for (var i = 0u; i < SUMS; i++) { // unrolled
                totals[i] = add_run(totals[i], sums[i], first - start);
                sums[i] = vec4<f32>();
            }
        }
    }
    // Surplus workgroups of the grid have computed a part that does not exist.
    if (start >= max(params.k, 1u)) {
        return;
    }
    for (var y = 0u; y < COLUMN_QUADS; y++) { // unrolled
        b_quads[y] = bias_of(part, column + (first_column + y * COLUMN_THREADS) * 4u);
    }
    for (var x = 0u; x < ROW_QUADS; x++) { // unrolled
        for (var e = 0u; e < 4u; e++) { // unrolled
            for (var y = 0u; y < COLUMN_QUADS; y++) { // unrolled
                let r = row + (first_row + x * ROW_THREADS) * 4u + e;
                let c = column + (first_column + y * COLUMN_THREADS) * 4u;
                finish_row(part, r, c, totals[(x * 4u + e) * COLUMN_QUADS + y], b_quads[y]);
            }
        }
    }
}
