// needs: softmax
// The softmax statistics of a row, which `row_parts` may have found.
// Binding: parts (four words a part: its RowStats; absent unless they were found).

// 1: the statistics of the rows' parts were found before.
override FOUND: u32;

// The same for all threads of the row. Every thread of the workgroup takes part.
fn row_stats(row: Row, thread: u32) -> RowStats {
    if (FOUND == 0u) {
        return part_stats(lane_stats(row), thread);
    }
    var all = stored_stats(row.index * PARTS + thread % PARTS);
    for (var distance = PARTS / 2u; distance > 0u; distance /= 2u) {
        all = with_other(all, thread, distance);
    }
    return all;
}

fn stored_stats(part: u32) -> RowStats {
    let at = 4u * part;
    return RowStats(load_parts(at), load_parts(at + 1u), load_parts(at + 2u), u32(load_parts(at + 3u)));
}
