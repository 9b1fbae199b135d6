// needs: simd_product
// c = op(a) op(b) + bias for software adapters on which a workgroup is a subgroup: each thread
// loads some rows of op(a), and the threads exchange elements by subgroup operations.

const BROUGHT: u32 = min(select(WORKGROUP, 4u * WORKGROUP, A_TRANSPOSED == 1u), ROWS);

// The thread's share of BROUGHT rows: 4 depths of one row, or of 4 rows if their elements are
// contiguous in memory.
fn a_part(row: u32, depth: u32, thread: u32) -> mat4x4<f32> {
    if (A_TRANSPOSED == 1u) {
        let mine = row + (4u * thread) % BROUGHT;
        return transpose(mat4x4<f32>(
            a_column(mine, depth),
            a_column(mine, depth + 1u),
            a_column(mine, depth + 2u),
            a_column(mine, depth + 3u),
        ));
    }
    return mat4x4<f32>(a_row(row + thread % BROUGHT, depth), vec4<f32>(), vec4<f32>(), vec4<f32>());
}

fn any_thread(x: bool) -> bool {
    return subgroupAny(x);
}

fn row_of_part(part: mat4x4<f32>, r: u32) -> vec4<f32> {
    var rows = part;
    if (A_TRANSPOSED == 1u) {
        return subgroupShuffle(rows[r % 4u], r / 4u);
    }
    return subgroupShuffle(rows[0], r);
}
