// needs: simd_product
// c = op(a) op(b) + bias for software adapters without subgroups: every thread loads every row of
// op(a).

const BROUGHT: u32 = select(1u, 4u, A_TRANSPOSED == 1u);

// 4 depths of one row, or of 4 rows if their elements are contiguous in memory; the same in all
// threads.
fn a_part(row: u32, depth: u32, thread: u32) -> mat4x4<f32> {
    if (A_TRANSPOSED == 1u) {
        return transpose(mat4x4<f32>(
            a_column(row, depth),
            a_column(row, depth + 1u),
            a_column(row, depth + 2u),
            a_column(row, depth + 3u),
        ));
    }
    return mat4x4<f32>(a_row(row, depth), vec4<f32>(), vec4<f32>(), vec4<f32>());
}

fn any_thread(x: bool) -> bool {
    return x;
}

fn row_of_part(part: mat4x4<f32>, r: u32) -> vec4<f32> {
    var rows = part;
    return rows[r];
}
