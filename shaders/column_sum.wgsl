// Sums of columns, by blocks of rows: one thread adds up one column of one block, in the order of the rows.
// Bindings: input [rows, columns], sums [blocks, columns].

struct Params {
    // Rows of this dispatch are first .. first + rows, counted from its first block's first row; it may begin or end within
    // a block. Without rows, the sums of that block are 0.
    first: u32,
    rows: u32,
    columns: u32,
    // The columns of this dispatch.
    first_column: u32,
    end_column: u32,
    // Rows of a block.
    block: u32,
    input_base: u32,
    sums_base: u32,
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let per_block = (params.end_column - params.first_column + WORKGROUP - 1u) / WORKGROUP;
    let index = group_index(group, groups);
    let block = index / per_block;
    let column = params.first_column + (index % per_block) * WORKGROUP + thread;
    let start = max(block * params.block, params.first);
    let end = min((block + 1u) * params.block, params.first + params.rows);
    if (column >= params.end_column || (start >= end && params.rows > 0u) || (block > 0u && params.rows == 0u)) {
        return;
    }
    let to = params.sums_base + block * params.columns + column;
    var sum = 0.0;
    if (start > block * params.block) {
        // An earlier dispatch summed the block's first rows.
        sum = load_sums(to);
    }
    for (var row = start; row < end; row++) {
        sum += load_input(params.input_base + (row - params.first) * params.columns + column);
    }
    store_sums(to, sum);
}
