// needs: scaled_logits softmax
// The softmax statistics of parts of rows.
// Bindings: logits [outer, classes, inner], parts [rows, PARTS, 4] (RowStats), lanes [lanes, 7]
// (the state of each lane between dispatches; absent if one dispatch processes all blocks).

const HOLD_EXP: bool = true;

// Rows that stay in registers have no parts.
fn add_held_sums(row: Row, i: u32, m: f32) {
}

// LANES threads share a part of a row of [outer, classes, inner]. All threads of a workgroup take
// part in the reduction. The first lane stores the result in `parts` [rows, PARTS, 4]; if blocks
// are left for a later dispatch, each lane stores its state in `lanes` [lanes, 7] instead.
fn body(group: u32, thread: u32) {
    let row = row_of(group, thread);
    let at = 7u * lane_index(row);
    var lane = no_stats();
    if (row.begin > 0u) {
        lane.max = load_lanes(at);
        lane.ties = load_lanes(at + 1u);
        lane.origin = load_lanes(at + 2u);
        lane.exp_max = load_lanes(at + 3u);
        lane.rest = Sum(load_lanes(at + 4u), load_lanes(at + 5u));
        lane.poison = u32(load_lanes(at + 6u));
    }
    var mine: RowStats;
    if (RUNS == 0u) {
        mine = single_run_stats(row, row.begin, row.end);
    } else {
        lane = add_blocks(row, lane);
        mine = relative_to_max(lane);
    }
    let stats = part_stats(mine, thread);
    if (row.surplus) {
        return;
    }
    if (row.end < row.blocks) {
        store_lanes(at, lane.max);
        store_lanes(at + 1u, lane.ties);
        store_lanes(at + 2u, lane.origin);
        store_lanes(at + 3u, lane.exp_max);
        store_lanes(at + 4u, lane.rest.high);
        store_lanes(at + 5u, lane.rest.low);
        store_lanes(at + 6u, f32(lane.poison));
    } else if (row.lane == 0u) {
        let to = 4u * (row.index * PARTS + row.part);
        store_parts(to, stats.max);
        store_parts(to + 1u, stats.ties);
        store_parts(to + 2u, stats.rest);
        store_parts(to + 3u, f32(stats.poison));
    }
}
