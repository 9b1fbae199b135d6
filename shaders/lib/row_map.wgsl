// needs: row_stats
// Maps rows of logits, given their softmax statistics. A shader that needs this defines
//   const HOLD_EXP: bool                      whether it maps exponentials instead of logits
//   fn row_scalar(stats: RowStats) -> f32     a scalar that all elements of the row need
//   fn row_value(x: vec4<f32>, m: f32, scalar: f32) -> vec4<f32>
//                                             the result for 4 logits or exponentials x (as
//                                             `last_sweep_block` returns them), the row maximum m
//                                             and that scalar
// Bindings: logits and output [outer, classes, inner]; parts as in `row_stats`.

fn map_block(row: Row, i: u32, inside: bool, m: f32, scalar: f32, poison: bool) {
    var x = last_sweep_block(row, i, inside, m);
    for (var j = 0u; j < 4u; j++) { // unrolled if WHOLE
        let c = quad_start(row, i, j);
        let y = select(row_value(x[j], m, scalar), vec4<f32>(nan()), poison);
        let to = row.start + c * inner();
        store_quad_output(to, inner(), room_at(inside, c), y);
    }
}

// LANES threads share a row, or one of its parts. All threads of a workgroup take part in the
// statistics; then each lane maps its own blocks.
fn body(group: u32, thread: u32) {
    let row = row_of(group, thread);
    hold_logits(row);
    let stats = row_stats(row, thread);
    let scalar = row_scalar(stats);
    let poison = no_softmax(stats);
    if (row.surplus) {
        return;
    }
    if (HELD > 0u) {
        for (var i = 0u; i < HELD; i++) { // unrolled
            map_block(row, i, i < row.whole, stats.max, scalar, poison);
        }
        return;
    }
    for (var i = row.begin; i < row.whole; i++) {
        map_block(row, i, true, stats.max, scalar, poison);
    }
    for (var i = row.whole; i < row.end; i++) {
        map_block(row, i, false, stats.max, scalar, poison);
    }
}

fn add_held_sums(row: Row, i: u32, m: f32) {
}
