// needs: rows sum_across
// Sums rows: output[outer, inner] = sum of input[outer, classes, inner] over the classes.
// Bindings: input, output, lanes [lanes, 2] (the state of each lane between dispatches; absent if
// one dispatch processes all blocks).

// The sum of the lane's blocks begin..end, a nonempty run. Padding is 0.
fn run_sum(row: Row, begin: u32, end: u32) -> f32 {
    var sum = vec4<f32>();
    var i = begin;
    loop {
        var block = vec4<f32>();
        var j = 0u;
        loop {
            let c = quad_start(row, i, j);
            let at = row.start + c * inner();
            block += load_quad_input(at, inner(), room_at(false, c), 0.0);
            continuing {
                j += 1u;
                break if j >= 4u;
            }
        }
        sum += block;
        continuing {
            i += 1u;
            break if i >= end;
        }
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}

// LANES threads share a row. All threads of a workgroup take part in the reduction; the first lane
// stores the result, or each lane its state.
fn body(group: u32, thread: u32) {
    let row = row_of(group, thread);
    let at = 2u * lane_index(row);
    var mine = Sum(0.0, 0.0);
    if (row.begin > 0u) {
        mine = Sum(load_lanes(at), load_lanes(at + 1u));
    }
    for (var run = row.begin; run < row.end; run += RUN) {
        mine = plus(mine, run_sum(row, run, min(run + RUN, row.end)));
    }
    let sum = value_of(sum_across(thread, mine));
    if (row.surplus) {
        return;
    }
    if (row.end < row.blocks) {
        store_lanes(at, mine.high);
        store_lanes(at + 1u, mine.low);
    } else if (row.lane == 0u) {
        store_output(row.index, sum);
    }
}
