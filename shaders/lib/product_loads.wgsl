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
    let first = min(row, params.m - 1u) * params.a_stride + depth;
    return load_quad_a(first, 1u, depths_from(depth), 0.0);
}

// A depth that there is, and whether the one that was asked for is that. Chosen afterwards: both sides of an `if` would run anyway.
fn depth_inside(depth: u32) -> u32 {
    return min(depth, params.k - 1u);
}

// op(a) at four rows and one depth, for the stored transpose.
fn a_column(row: u32, depth: u32) -> vec4<f32> {
    let first = depth_inside(depth) * params.a_stride;
    var column: vec4<f32>;
    if (BY_QUAD) {
        column = load4_a(first + min(row, params.m - 4u));
    } else {
        let last = params.m - 1u;
        column = vec4<f32>(
            load_a(first + min(row, last)),
            load_a(first + min(row + 1u, last)),
            load_a(first + min(row + 2u, last)),
            load_a(first + min(row + 3u, last)),
        );
    }
    return select(vec4<f32>(), column, depth < params.k);
}

// op(b) at one depth and four columns.
fn b_row(column: u32, depth: u32) -> vec4<f32> {
    let first = depth_inside(depth) * params.b_stride;
    var row: vec4<f32>;
    if (BY_QUAD) {
        row = load4_b(first + min(column, params.n - 4u));
    } else {
        let last = params.n - 1u;
        row = vec4<f32>(
            load_b(first + min(column, last)),
            load_b(first + min(column + 1u, last)),
            load_b(first + min(column + 2u, last)),
            load_b(first + min(column + 3u, last)),
        );
    }
    return select(vec4<f32>(), row, depth < params.k);
}

// op(b) at one column and four depths, for the stored transpose.
fn b_column(column: u32, depth: u32) -> vec4<f32> {
    let first = min(column, params.n - 1u) * params.b_stride + depth;
    return load_quad_b(first, 1u, depths_from(depth), 0.0);
}
