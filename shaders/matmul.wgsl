// c = op(a) op(b) + bias, by tiles in workgroup memory: 32 x 32 of c a workgroup, 4 x 4 a thread.
//
// op(a) is [m, k], op(b) is [k, n]; A_TRANSPOSED and B_TRANSPOSED say that the stored matrix is the transpose. Every element
// of c is one sum over k in its order, so cutting k into dispatches does not change it.
// Bindings: a, b, bias [n] (absent if there is none), c [m, n].

const TILE: u32 = 32u;
const DEPTH: u32 = 16u;

// Element (row, depth) of op(a)'s tile lies at depth * TILE + row, and (depth, column) of op(b)'s at depth * TILE + column.
var<workgroup> a_tile: array<f32, 512>;
var<workgroup> b_tile: array<f32, 512>;

fn load_tiles(thread: u32, row: u32, column: u32, depth: u32) {
    for (var i = thread; i < TILE * DEPTH; i += WORKGROUP) {
        // Neighbouring threads read neighbouring elements of the stored matrix.
        var r = i / DEPTH;
        var d = i % DEPTH;
        if (A_TRANSPOSED == 1u) {
            r = i % TILE;
            d = i / TILE;
        }
        var a = 0.0;
        if (row + r < params.m && depth + d < params.k) {
            if (A_TRANSPOSED == 1u) {
                a = load_a(params.a_base + (depth + d) * params.a_stride + row + r);
            } else {
                a = load_a(params.a_base + (row + r) * params.a_stride + depth + d);
            }
        }
        a_tile[d * TILE + r] = a;

        var q = i % TILE;
        var e = i / TILE;
        if (B_TRANSPOSED == 1u) {
            q = i / DEPTH;
            e = i % DEPTH;
        }
        var b = 0.0;
        if (column + q < params.n && depth + e < params.k) {
            if (B_TRANSPOSED == 1u) {
                b = load_b(params.b_base + (column + q) * params.b_stride + depth + e);
            } else {
                b = load_b(params.b_base + (depth + e) * params.b_stride + column + q);
            }
        }
        b_tile[e * TILE + q] = b;
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let columns = (params.n + TILE - 1u) / TILE;
    let index = group_index(group, groups);
    let tile_row = (index / columns) * TILE;
    let tile_column = (index % columns) * TILE;
    let row = tile_row + thread / 8u * 4u;
    let column = tile_column + thread % 8u * 4u;
    var c0 = resume_row(row, column);
    var c1 = resume_row(row + 1u, column);
    var c2 = resume_row(row + 2u, column);
    var c3 = resume_row(row + 3u, column);
    for (var depth = 0u; depth < params.k; depth += DEPTH) {
        workgroupBarrier();
        load_tiles(thread, tile_row, tile_column, depth);
        workgroupBarrier();
        for (var d = 0u; d < min(DEPTH, params.k - depth); d++) {
            let from_a = d * TILE + thread / 8u * 4u;
            let from_b = d * TILE + thread % 8u * 4u;
            let b = vec4<f32>(b_tile[from_b], b_tile[from_b + 1u], b_tile[from_b + 2u], b_tile[from_b + 3u]);
            c0 += a_tile[from_a] * b;
            c1 += a_tile[from_a + 1u] * b;
            c2 += a_tile[from_a + 2u] * b;
            c3 += a_tile[from_a + 3u] * b;
        }
    }
    finish_row(row, column, c0);
    finish_row(row + 1u, column, c1);
    finish_row(row + 2u, column, c2);
    finish_row(row + 3u, column, c3);
}
