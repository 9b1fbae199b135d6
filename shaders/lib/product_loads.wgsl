// Loads quads of the factors of a product. Beyond the last row or column, the last one is repeated,
// because those results are not stored. Beyond the last depth, elements are 0. A shader that needs
// this defines
//   const PAST_THE_LAST: bool     whether it loads quads that are entirely beyond the last depth

// The number of depths from `depth` on, possibly more than 4; 4 if every load is whole.
fn depths_from(depth: u32) -> u32 {
    if (BY_QUAD && !PAST_THE_LAST) {
        return 4u;
    }
    return params.k - min(depth, params.k);
}

// op(a) at 1 row and 4 depths.
fn a_row(row: u32, depth: u32) -> vec4<f32> {
    let first = min(row, params.m - 1u) * params.a_stride + depth;
    return load_quad_a(first, 1u, depths_from(depth), 0.0);
}

// The nearest valid depth. Invalid elements are replaced after loading, because drivers for CPUs
// execute both sides of an `if`.
fn depth_inside(depth: u32) -> u32 {
    return min(depth, params.k - 1u);
}

// op(a) at 4 rows and 1 depth, if the transpose is stored; loaded by one thread.
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

// op(b) at 1 depth and 4 columns, loaded by one thread.
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

// op(b) at 1 column and 4 depths, if the transpose is stored.
fn b_column(column: u32, depth: u32) -> vec4<f32> {
    let first = min(column, params.n - 1u) * params.b_stride + depth;
    return load_quad_b(first, 1u, depths_from(depth), 0.0);
}
