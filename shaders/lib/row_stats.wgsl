// needs: softmax
// The softmax statistics of a row, computed here, or merged from the statistics of its parts that
// `row_parts` has computed.
// Binding: parts [rows, PARTS, 4] (the RowStats of each part; absent if they are computed here).

// 1: `row_parts` has computed the statistics of the parts.
override PART_STATS_STORED: u32;

// The number of threads that load different parts.
const LOADERS: u32 = min(PARTS, NEAR);

// The statistics of the whole row. All lanes of the row get the result; all threads of the
// workgroup take part.
fn row_stats(row: Row, thread: u32) -> RowStats {
    if (HELD > 0u) {
        return held_stats(row, thread);
    }
    if (PART_STATS_STORED == 0u) {
        return part_stats(lane_stats(row), thread);
    }
    // Each thread loads one or two parts.
    let first = row.index * PARTS + thread % LOADERS;
    var all = stored_stats(first);
    if (PARTS > NEAR) {
        all = merge(all, stored_stats(first + NEAR));
    }
    for (var distance = LOADERS / 2u; distance > 0u; distance /= 2u) { // unrolled
        all = merge(all, stats_from(across(thread, bits_of(all), distance)));
    }
    return all;
}

fn stored_stats(part: u32) -> RowStats {
    let at = 4u * part;
    return RowStats(load_parts(at), load_parts(at + 1u), load_parts(at + 2u), u32(load_parts(at + 3u)));
}
