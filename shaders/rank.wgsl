// needs: lanes rows
// The rank of each target: the number of logits of its row above the target's logit, where equal
// logits of later classes count as above. Unspecified if the target is not a class.
// Bindings: logits [outer, classes, inner], targets and ranks [outer, inner], lanes [lanes] (the
// state of each lane between dispatches; absent if one dispatch processes all blocks).

// The number of logits in quad j of block i that are above the target's.
fn above(row: Row, i: u32, j: u32, t: u32, logit: f32) -> u32 {
    let c = quad_start(row, i, j);
    let room = room_at(false, c);
    let x = load_quad_logits(row.start + c * inner(), inner(), room, 0.0);
    let classes = vec4<u32>(c) + vec4<u32>(0u, 1u, 2u, 3u);
    let inside = vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(room);
    let higher = (x > vec4<f32>(logit)) | ((x == vec4<f32>(logit)) & (classes > vec4<u32>(t)));
    let count = select(vec4<u32>(), vec4<u32>(1u), inside & higher);
    return (count.x + count.y) + (count.z + count.w);
}

// LANES threads share a row. All threads of a workgroup take part in the reduction; the first lane
// stores the result, or each lane its state.
fn body(group: u32, thread: u32) {
    let row = row_of(group, thread);
    let target_class = load_targets(row.index);
    let t = min(u32(max(target_class, 0)), params.classes - 1u);
    let logit = load_logits(row.start + t * inner());
    let at = lane_index(row);
    var mine = 0u;
    if (row.begin > 0u) {
        mine = load_lanes(at);
    }
    for (var i = row.begin; i < row.end; i++) {
        for (var j = 0u; j < 4u; j++) {
            mine += above(row, i, j, t, logit);
        }
    }
    var rank = mine;
    for (var stage = TEAM / 2u; stage > 0u; stage /= 2u) { // unrolled
        let pair = exchanged(thread, vec4<u32>(rank, 0u, 0u, 0u), stage);
        rank = pair.mine.x + pair.other.x;
    }
    if (row.surplus) {
        return;
    }
    if (row.end < row.blocks) {
        store_lanes(at, mine);
    } else if (row.lane == 0u) {
        store_ranks(row.index, rank);
    }
}
