// Products by SIMD vectors: a workgroup is one, and computes ROWS rows of c in registers, each thread 4 columns. No workgroup
// memory, no barriers. The shader that uses this says how rows of op(a) reach the threads:
//   const BROUGHT: u32                                                           rows that one load brings, a divisor of ROWS
//   fn a_part(row: u32, depth: u32, thread: u32) -> mat4x4<f32>                  that load, for four depths
//   fn row_of_part(part: mat4x4<f32>, r: u32) -> vec4<f32>                       row r of those, at the four depths
//   fn any_thread(x: bool) -> bool                                               whether it is so for a thread of the workgroup
//
// Bindings: a, b, bias [n] (absent if there is none), gate like c (absent if there is none), c [m, n].

override ROWS: u32;

// Depths are gone through by four.
const PAST_THE_LAST: bool = false;

var<private> sums: array<vec4<f32>, ROWS>;

// op(b) at four columns, one vector of them for each of four depths.
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

// c + a * b over four depths, in their order.
fn multiply_add(c: vec4<f32>, a: vec4<f32>, b: mat4x4<f32>) -> vec4<f32> {
    return (((c + a.x * b[0]) + a.y * b[1]) + a.z * b[2]) + a.w * b[3];
}

// The next four depths from these on at which a row of op(a) is not 0. Left out here, in a loop of their own, because drivers for CPUs
// run what is inside an `if` anyway.
fn next_depth(row: u32, first: u32, thread: u32) -> u32 {
    var depth = first;
    var zero = SPARSE == 1u;
    while (zero && depth < params.k) {
        var bits = vec4<u32>();
        for (var r = 0u; r < ROWS; r += BROUGHT) {
            let part = a_part(row + r, depth, thread);
            bits |= bitcast<vec4<u32>>(part[0]) | bitcast<vec4<u32>>(part[1]);
            bits |= bitcast<vec4<u32>>(part[2]) | bitcast<vec4<u32>>(part[3]);
        }
        // Zeros have a sign at most.
        zero = !any_thread(any((bits << vec4<u32>(1u)) != vec4<u32>()));
        depth += select(0u, 4u, zero);
    }
    return depth;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let columns = (params.n + 4u * WORKGROUP - 1u) / (4u * WORKGROUP);
    let index = group_index(group, groups);
    let row = (index / columns) * ROWS;
    let column = ((index % columns) * WORKGROUP + thread) * 4u;
    if (row >= params.m) {
        return;
    }
    for (var r = 0u; r < ROWS; r++) { // unrolled
        sums[r] = resume_row(row + r, column);
    }
    for (var depth = next_depth(row, 0u, thread); depth < params.k; depth = next_depth(row, depth + 4u, thread)) {
        let b = b_block(column, depth);
        var part = mat4x4<f32>();
        for (var r = 0u; r < ROWS; r++) { // unrolled
            if (r % BROUGHT == 0u) {
                part = a_part(row + r, depth, thread);
            }
            sums[r] = multiply_add(sums[r], row_of_part(part, r % BROUGHT), b);
        }
    }
    let bias = bias_of(0u, column);
    for (var r = 0u; r < ROWS; r++) { // unrolled
        finish_row(0u, row + r, column, sums[r], bias);
    }
}
