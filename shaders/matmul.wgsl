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

// The number of threads that load a tile of op(a) or op(b), a square of 4 x 4 each.
const LOADERS: u32 = DEPTH_QUADS * TILE_QUADS;

// SIDE rows of op(a), then SIDE columns of op(b), at DEPTH depths, in workgroup memory: for each
// depth, quads of 4 rows or 4 columns, in the order of `permuted`.
var<workgroup> tiles: array<array<vec4<f32>, TILE_QUADS>, 2u * DEPTH>;

// The square that the thread has loaded for the next tiles: a quad of rows or columns at 4 depths.
var<private> square: array<vec4<f32>, 4>;
// The sums of the current run, and of earlier runs, for the thread's squares.
var<private> sums: array<vec4<f32>, SUMS>;
var<private> totals: array<vec4<f32>, SUMS>;
var<private> a_quads: array<vec4<f32>, ROW_QUADS>;
var<private> b_quads: array<vec4<f32>, COLUMN_QUADS>;

// The position of quad q among the quads of each depth of a group of 4. Threads that transpose
// while loading write at a stride of 4 depths; permuting the quads of each group differently avoids
// bank conflicts.
fn permuted(group: u32, q: u32) -> u32 {
    return q ^ ((group * 2u) % TILE_QUADS);
}

// The square of a tile that loader i loads: its group of depths, and its quad. Neighbouring loaders
// load neighbouring quads of the stored matrix.
fn square_of(i: u32, stored_by_depth: bool) -> vec2<u32> {
    return select(vec2<u32>(i / TILE_QUADS, i % TILE_QUADS), vec2<u32>(i % DEPTH_QUADS, i / DEPTH_QUADS), stored_by_depth);
}

// Loads the thread's square of SIDE rows of op(a) from `row` on or of SIDE columns of op(b) from
// `column` on, at DEPTH depths from `depth` on. All threads take part: the first half loads op(a).
fn load_square(thread: u32, row: u32, column: u32, depth: u32) {
    if (thread < LOADERS) {
        let at = square_of(thread, A_TRANSPOSED == 0u);
        let d = depth + at.x * 4u;
        let r = row + at.y * 4u;
        if (A_TRANSPOSED == 1u) {
            for (var e = 0u; e < 4u; e++) { // unrolled
                square[e] = a_column(r, d + e);
            }
        } else {
            let by_depth = transpose(mat4x4<f32>(a_row(r, d), a_row(r + 1u, d), a_row(r + 2u, d), a_row(r + 3u, d)));
            for (var e = 0u; e < 4u; e++) { // unrolled
                square[e] = by_depth[e];
            }
        }
    } else {
        let at = square_of(thread - LOADERS, B_TRANSPOSED == 1u);
        let d = depth + at.x * 4u;
        let c = column + at.y * 4u;
        if (B_TRANSPOSED == 0u) {
            for (var e = 0u; e < 4u; e++) { // unrolled
                square[e] = b_row(c, d + e);
            }
        } else {
            let by_depth = transpose(mat4x4<f32>(b_column(c, d), b_column(c + 1u, d), b_column(c + 2u, d), b_column(c + 3u, d)));
            for (var e = 0u; e < 4u; e++) { // unrolled
                square[e] = by_depth[e];
            }
        }
    }
}

// Stores the thread's square in its tile.
fn store_square(thread: u32) {
    let of_b = thread >= LOADERS;
    let at = square_of(thread % LOADERS, select(A_TRANSPOSED == 0u, B_TRANSPOSED == 1u, of_b));
    for (var e = 0u; e < 4u; e++) { // unrolled
        tiles[select(0u, DEPTH, of_b) + at.x * 4u + e][permuted(at.x, at.y)] = square[e];
    }
}

// The first row quad and the first column quad of a thread in the tile. 32 consecutive threads
// share 4 row quads and 8 column quads, so that few of their reads of workgroup memory differ.
fn position_of(thread: u32) -> vec2<u32> {
    const ACROSS: u32 = max(COLUMN_THREADS / 8u, 1u);
    let block = thread / 32u;
    return vec2<u32>(block / ACROSS * 4u + thread % 32u / 8u, block % ACROSS * 8u + thread % 8u);
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
        tiles[thread / TILE_QUADS][thread % TILE_QUADS].x = select(0.0, 1.0, holds_something(thread, row, depth));
        workgroupBarrier();
        if (thread < FINDERS) {
            var found = 0.0;
            for (var i = thread; i < WORKGROUP; i += FINDERS) {
                found += tiles[i / TILE_QUADS][i % TILE_QUADS].x;
            }
            tiles[DEPTH + thread / TILE_QUADS][thread % TILE_QUADS].x = found;
        }
        workgroupBarrier();
        if (thread == 0u) {
            var found = 0.0;
            for (var i = 0u; i < FINDERS; i++) {
                found += tiles[DEPTH + i / TILE_QUADS][i % TILE_QUADS].x;
            }
            tiles[0][0].x = found;
        }
        if (workgroupUniformLoad(&tiles[0][0]).x > 0.0) {
            break;
        }
        depth += DEPTH;
    }
    return depth;
}

// Adds the products of the tiles in workgroup memory to the thread's sums.
fn multiply_tiles(thread: u32) {
    let at = position_of(thread);
    for (var group = 0u; group < DEPTH_QUADS; group++) { // unrolled
        for (var d = 0u; d < 4u; d++) { // unrolled
            for (var x = 0u; x < ROW_QUADS; x++) { // unrolled
                a_quads[x] = tiles[group * 4u + d][permuted(group, at.x + x * ROW_THREADS)];
            }
            for (var y = 0u; y < COLUMN_QUADS; y++) { // unrolled
                b_quads[y] = tiles[DEPTH + group * 4u + d][permuted(group, at.y + y * COLUMN_THREADS)];
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

// Adds the summands start..end to the sums of the tile of SIDE x SIDE elements at (row, column).
// All threads of the workgroup take part. Unless depths are skipped, the squares at `start` are
// loaded beforehand, and those of the next tiles while these are multiplied, up to `last`.
fn add_summands(thread: u32, row: u32, column: u32, start: u32, end: u32, last: u32) {
    for (var depth = next_depth(thread, row, start, end); depth < end; depth = next_depth(thread, row, depth + DEPTH, end)) {
        if (SPARSE == 1u) {
            load_square(thread, row, column, depth);
        }
        workgroupBarrier();
        store_square(thread);
        workgroupBarrier();
        if (SPARSE == 0u && depth + DEPTH < last) {
            load_square(thread, row, column, depth + DEPTH);
        }
        multiply_tiles(thread);
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
    let position = position_of(thread);
    let first_row = position.x;
    let first_column = position.y;
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
    if (SPARSE == 0u && start < end) {
        load_square(thread, row, column, start);
    }
    if (RUNS == 0u) {
        add_summands(thread, row, column, start, end, end);
        for (var i = 0u; i < SUMS; i++) { // unrolled
            totals[i] = add_run(totals[i], sums[i], 0u);
        }
    } else {
        for (var first = start; first < end; first += params.run) {
            add_summands(thread, row, column, first, min(first + params.run, end), end);
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
