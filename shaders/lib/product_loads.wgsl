// Quads of the factors of a product. Rows and columns past the last repeat it: their results are not stored. Depths past the last
// are 0. The shader that uses this defines
//   const PAST_THE_LAST: bool                  whether it asks for quads of depths that lie past the last altogether

// How many of the depths depth .. depth + 4 there are.
fn depths_from(depth: u32) -> u32 {
    if (BY_QUAD && !PAST_THE_LAST) {
        return 4u;
    }
    return params.k - min(depth, params.k);
}

// op(a) at one row and four depths.
fn a_row(row: u32, depth: u32) -> vec4<f32> {
    let first = params.a_base + min(row, params.m - 1u) * params.a_stride + depth;
    return load_quad_a(first, 1u, depths_from(depth), 0.0);
}

// op(a) at four rows and one depth, for the stored transpose.
fn a_column(row: u32, depth: u32) -> vec4<f32> {
    let first = params.a_base + depth * params.a_stride;
    if (depths_from(depth) == 0u) {
        return vec4<f32>();
    }
    if (BY_QUAD) {
        return load4_a(first + min(row, params.m - 4u));
    }
    let last = params.m - 1u;
    return vec4<f32>(
        load_a(first + min(row, last)),
        load_a(first + min(row + 1u, last)),
        load_a(first + min(row + 2u, last)),
        load_a(first + min(row + 3u, last)),
    );
}

// op(b) at one depth and four columns.
fn b_row(column: u32, depth: u32) -> vec4<f32> {
    let first = params.b_base + depth * params.b_stride;
    if (depths_from(depth) == 0u) {
        return vec4<f32>();
    }
    if (BY_QUAD) {
        return load4_b(first + min(column, params.n - 4u));
    }
    let last = params.n - 1u;
    return vec4<f32>(
        load_b(first + min(column, last)),
        load_b(first + min(column + 1u, last)),
        load_b(first + min(column + 2u, last)),
        load_b(first + min(column + 3u, last)),
    );
}

// op(b) at one column and four depths, for the stored transpose.
fn b_column(column: u32, depth: u32) -> vec4<f32> {
    let first = params.b_base + min(column, params.n - 1u) * params.b_stride + depth;
    return load_quad_b(first, 1u, depths_from(depth), 0.0);
}
