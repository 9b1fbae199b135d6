// needs: rows sum_across
// The gradient of a row map, from its output y and the upstream gradient g. A shader that needs
// this defines
//   const REFINE: bool
//       whether to sum twice: the second time with the first sum, the origin, subtracted from g
//   fn row_term(y: vec4<f32>, g: vec4<f32>) -> vec4<f32>
//       the terms to sum over the row
//   fn row_grad(y: vec4<f32>, g: vec4<f32>, sum: f32) -> vec4<f32>
//       the gradient, given that sum; the origin is subtracted from g
// Bindings: output, upstream and grad [outer, classes, inner]; lanes [lanes, 4] (the state of each
// lane between dispatches: two sums; absent if one dispatch computes everything).

// 0: one dispatch computes everything. 1, 2: this dispatch adds some blocks to the first or second
// sum of the lanes. 3: this dispatch reads the final sums and writes some blocks of the gradient.
override SWEEP: u32;

// Whether both y and g stay in registers; with more blocks, registers would spill.
const BOTH_HELD: bool = HELD > 0u && HELD <= 2u;

var<private> held_output: array<mat4x4<f32>, max(HELD, 1u)>;
var<private> held_upstream: array<mat4x4<f32>, max(HELD, 1u)>;

// Loads the lane's blocks into registers, if they stay there.
fn hold_row(row: Row) {
    if (BOTH_HELD) {
        for (var i = 0u; i < HELD; i++) { // unrolled
            for (var j = 0u; j < 4u; j++) { // unrolled if WHOLE
                held_output[i][j] = loaded_output(row, i, j, i < row.whole);
                held_upstream[i][j] = loaded_upstream(row, i, j, i < row.whole);
            }
        }
    }
}

fn loaded_upstream(row: Row, i: u32, j: u32, inside: bool) -> vec4<f32> {
    let c = quad_start(row, i, j);
    let at = row.start + c * inner();
    return load_quad_upstream(at, inner(), room_at(inside, c), 0.0);
}

fn loaded_output(row: Row, i: u32, j: u32, inside: bool) -> vec4<f32> {
    let c = quad_start(row, i, j);
    let at = row.start + c * inner();
    return load_quad_output(at, inner(), room_at(inside, c), 0.0);
}

fn output_quad(row: Row, i: u32, j: u32, inside: bool) -> vec4<f32> {
    if (BOTH_HELD) {
        return held_output[i][j];
    }
    return loaded_output(row, i, j, inside);
}

fn upstream_quad(row: Row, i: u32, j: u32, inside: bool) -> vec4<f32> {
    if (BOTH_HELD) {
        return held_upstream[i][j];
    }
    return loaded_upstream(row, i, j, inside);
}

// The sum of the terms over the 16 elements of block i.
fn sum_block(row: Row, i: u32, inside: bool, origin: f32) -> f32 {
    var sum = vec4<f32>();
    for (var j = 0u; j < 4u; j++) { // unrolled if WHOLE
        sum += row_term(output_quad(row, i, j, inside), upstream_quad(row, i, j, inside) - origin);
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}

// The sum of the terms over all blocks of the lane, if they form a single run.
fn few_sum(row: Row, origin: f32) -> f32 {
    var sum = 0.0;
    if (BOTH_HELD) {
        for (var i = 0u; i < HELD; i++) { // unrolled
            sum += sum_block(row, i, i < row.whole, origin);
        }
        return sum;
    }
    for (var i = row.begin; i < row.whole; i++) {
        sum += sum_block(row, i, true, origin);
    }
    for (var i = row.whole; i < row.end; i++) {
        sum += sum_block(row, i, false, origin);
    }
    return sum;
}

// The sum of the terms over the lane's blocks begin..end, a nonempty run. `inside` promises that
// all of them lie inside the row.
fn run_sum(row: Row, begin: u32, end: u32, inside: bool, origin: f32) -> f32 {
    var sum = 0.0;
    var i = begin;
    loop {
        sum += sum_block(row, i, inside, origin);
        continuing {
            i += 1u;
            break if i >= end;
        }
    }
    return sum;
}

// The lane's first or second sum (`number`) of the terms, with the origin subtracted from g: over
// the blocks up to the end of this dispatch, or over all blocks if earlier dispatches have
// completed it. By one lane; without barriers, so surplus threads may call it.
fn lane_sum(row: Row, origin: f32, number: u32) -> Sum {
    let at = 4u * lane_index(row) + 2u * (number - 1u);
    var sum = Sum(0.0, 0.0);
    if (SWEEP > number || (SWEEP == number && row.begin > 0u)) {
        sum = Sum(load_lanes(at), load_lanes(at + 1u));
    }
    if (RUNS == 0u && SWEEP == 0u) {
        sum.high = few_sum(row, origin);
    } else if (SWEEP == 0u || SWEEP == number) {
        let inside = runs_inside(row);
        for (var run = row.begin; run < inside; run += RUN) {
            sum = plus(sum, run_sum(row, run, run + RUN, true, origin));
        }
        for (var run = inside; run < row.end; run += RUN) {
            sum = plus(sum, run_sum(row, run, min(run + RUN, row.end), false, origin));
        }
    }
    if (SWEEP == number && !row.surplus) {
        store_lanes(at, sum.high);
        store_lanes(at + 1u, sum.low);
    }
    return sum;
}

fn grad_block(row: Row, i: u32, inside: bool, origin: f32, sum: f32) {
    for (var j = 0u; j < 4u; j++) { // unrolled if WHOLE
        let c = quad_start(row, i, j);
        let grad = row_grad(output_quad(row, i, j, inside), upstream_quad(row, i, j, inside) - origin, sum);
        let to = row.start + c * inner();
        store_quad_grad(to, inner(), room_at(inside, c), grad);
    }
}

// LANES threads share a row. All threads of a workgroup take part in the sums; then each lane
// writes the gradient of its own blocks.
fn body(group: u32, thread: u32) {
    let row = row_of(group, thread);
    hold_row(row);
    var origin = 0.0;
    // Softmax outputs in halves do not add up to 1 accurately enough for an origin.
    if (REFINE && !HALVES) {
        let sum = value_of(sum_across(thread, lane_sum(row, 0.0, 1u)));
        // An origin must not make g overflow.
        origin = select(0.0, sum, (bitcast<u32>(sum) & 0x7fffffffu) < 0x71800000u);
    }
    if (SWEEP == 1u) {
        return;
    }
    let sum = value_of(sum_across(thread, lane_sum(row, origin, 2u)));
    if (SWEEP == 2u) {
        return;
    }
    if (row.surplus) {
        return;
    }
    if (BOTH_HELD) {
        for (var i = 0u; i < HELD; i++) { // unrolled
            grad_block(row, i, i < row.whole, origin, sum);
        }
        return;
    }
    for (var i = row.begin; i < row.whole; i++) {
        grad_block(row, i, true, origin, sum);
    }
    for (var i = row.whole; i < row.end; i++) {
        grad_block(row, i, false, origin, sum);
    }
}
