// c = op(a) op(b) + bias for software adapters: a workgroup is one SIMD vector and computes 8 rows of c in registers, each
// thread 4 columns. No workgroup memory, no barriers.
// Bindings: a, b, bias [n] (absent if there is none), c [m, n].

const ROWS: u32 = 8u;

// op(a) at rows row .. row + 4 and one depth, for the stored transpose; 0 past the last row.
fn a_column(row: u32, depth: u32) -> vec4<f32> {
    let first = params.a_base + depth * params.a_stride + row;
    if (row + 4u <= params.m) {
        return load4_a(first);
    }
    var a = vec4<f32>();
    for (var i = 0u; i < min(4u, params.m - min(row, params.m)); i++) {
        a[i] = load_a(first + i);
    }
    return a;
}

// op(a) at one row and depths depth .. depth + 4. Rows past the last repeat it: their results are not stored.
fn a_row(row: u32, depth: u32) -> vec4<f32> {
    let first = params.a_base + min(row, params.m - 1u) * params.a_stride + depth;
    if (depth + 4u <= params.k) {
        return load4_a(first);
    }
    var a = vec4<f32>();
    for (var i = 0u; i < params.k - depth; i++) {
        a[i] = load_a(first + i);
    }
    return a;
}

// op(b) at one depth and columns column .. column + 4; 0 past the last column.
fn b_row(column: u32, depth: u32) -> vec4<f32> {
    let first = params.b_base + depth * params.b_stride + column;
    if (column + 4u <= params.n) {
        return load4_b(first);
    }
    var b = vec4<f32>();
    for (var j = 0u; j < min(4u, params.n - min(column, params.n)); j++) {
        b[j] = load_b(first + j);
    }
    return b;
}

// op(b) at one column and depths depth .. depth + 4, for the stored transpose. Columns past the last repeat it.
fn b_column(column: u32, depth: u32) -> vec4<f32> {
    let first = params.b_base + min(column, params.n - 1u) * params.b_stride + depth;
    if (depth + 4u <= params.k) {
        return load4_b(first);
    }
    var b = vec4<f32>();
    for (var j = 0u; j < params.k - depth; j++) {
        b[j] = load_b(first + j);
    }
    return b;
}

// op(b) at columns column .. column + 4, one vector for each of the depths depth .. depth + 4; 0 past the last depth.
fn b_block(column: u32, depth: u32) -> mat4x4<f32> {
    if (B_TRANSPOSED == 1u) {
        let by_column = mat4x4<f32>(
            b_column(column, depth),
            b_column(column + 1u, depth),
            b_column(column + 2u, depth),
            b_column(column + 3u, depth),
        );
        return transpose(by_column);
    }
    var by_depth = mat4x4<f32>();
    for (var d = 0u; d < min(4u, params.k - depth); d++) {
        by_depth[d] = b_row(column, depth + d);
    }
    return by_depth;
}

// op(a) at rows row .. row + 4, one vector of depths depth .. depth + 4 for each row; 0 past the last depth.
fn a_block(row: u32, depth: u32) -> mat4x4<f32> {
    if (A_TRANSPOSED == 1u) {
        var by_depth = mat4x4<f32>();
        for (var d = 0u; d < min(4u, params.k - depth); d++) {
            by_depth[d] = a_column(row, depth + d);
        }
        return transpose(by_depth);
    }
    return mat4x4<f32>(
        a_row(row, depth),
        a_row(row + 1u, depth),
        a_row(row + 2u, depth),
        a_row(row + 3u, depth),
    );
}

// c + a * b over four depths, in their order.
fn multiply_add(c: vec4<f32>, a: vec4<f32>, b: mat4x4<f32>) -> vec4<f32> {
    return (((c + a.x * b[0]) + a.y * b[1]) + a.z * b[2]) + a.w * b[3];
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
    if (row >= params.m || column >= params.n) {
        return;
    }
    var c0 = resume_row(row, column);
    var c1 = resume_row(row + 1u, column);
    var c2 = resume_row(row + 2u, column);
    var c3 = resume_row(row + 3u, column);
    var c4 = resume_row(row + 4u, column);
    var c5 = resume_row(row + 5u, column);
    var c6 = resume_row(row + 6u, column);
    var c7 = resume_row(row + 7u, column);
    for (var depth = 0u; depth < params.k; depth += 4u) {
        let b = b_block(column, depth);
        let top = a_block(row, depth);
        let bottom = a_block(row + 4u, depth);
        c0 = multiply_add(c0, top[0], b);
        c1 = multiply_add(c1, top[1], b);
        c2 = multiply_add(c2, top[2], b);
        c3 = multiply_add(c3, top[3], b);
        c4 = multiply_add(c4, bottom[0], b);
        c5 = multiply_add(c5, bottom[1], b);
        c6 = multiply_add(c6, bottom[2], b);
        c7 = multiply_add(c7, bottom[3], b);
    }
    finish_row(row, column, c0);
    finish_row(row + 1u, column, c1);
    finish_row(row + 2u, column, c2);
    finish_row(row + 3u, column, c3);
    finish_row(row + 4u, column, c4);
    finish_row(row + 5u, column, c5);
    finish_row(row + 6u, column, c6);
    finish_row(row + 7u, column, c7);
}
