// The softmax statistics of a row that may lie in parts, of which `row_parts` has found the statistics.
// Binding: parts (four words a part: its RowStats; absent unless there are several).

// The same for all threads of the row. Every thread of the workgroup takes part.
fn row_stats(row: Row, thread: u32) -> RowStats {
    if (PARTS == 1u) {
        return part_stats(row, thread);
    }
    var all = stored_stats(row.index * PARTS);
    for (var part = 1u; part < PARTS; part++) {
        all = merge(all, stored_stats(row.index * PARTS + part));
    }
    return all;
}

fn stored_stats(part: u32) -> RowStats {
    let at = params.parts_base + 4u * part;
    return RowStats(load_parts(at), load_parts(at + 1u), load_parts(at + 2u), u32(load_parts(at + 3u)));
}
