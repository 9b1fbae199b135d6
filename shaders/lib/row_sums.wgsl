// needs: row_loss softmax sum_across
// Sums over the classes of a row, computed once the row maximum is known: the sums of coefficients
// and weighted gaps, if every class has a coefficient, and the sums and predictions for statistics.
// They take one sweep over the row, if any is requested.
//
// A shader that needs this defines
//   override TARGETS, STATISTICS: u32      see `cross_entropy`
//   fn within(room: u32) -> vec4<bool>     which of 4 elements are among the first `room`
// and, for the 4 classes from c on (`at` is the position of the row's probabilities),
//   fn class_weights(c: u32, room: u32) -> vec4<f32>
//   fn probabilities4(c: u32, room: u32, at: u32) -> vec4<f32>
//   fn shares4(c: u32, room: u32, at: u32) -> vec4<f32>        factors of the weights
// Binding: lanes [lanes, 11] (the state of each lane between dispatches; absent if one dispatch
// processes all blocks).

// 0: the dispatch uses no stored state of the lanes. 1: this dispatch adds some blocks to the state
// of the lanes. 2: this dispatch reads the final state.
override SWEEP: u32;

struct RowSums {
    // Computed only for probabilities: the sum of the coefficients (with FACTORS only of those of
    // at least 2^-80), and the lifted sum of the smaller ones.
    coefficients: Sum,
    tiny_coefficients: Sum,
    // For probabilities the sum of a_c (z_c - m); for smoothed targets the sum of w_c (z_c - m).
    gaps: Sum,
    // The sum of exp(z_c - m) (m - z_c), lifted. The entropy is log(total) + entropy_sum / total,
    // with the sum `total` of exp(z_c - m).
    entropy_sum: Sum,
    // The first class with the largest logit before scale and cap; NONE if there is none.
    predicted: u32,
    // The first class with the largest target probability, and that probability; NONE if there is
    // none.
    target_argmax: u32,
    target_max: f32,
}

const NONE: u32 = 0xffffffffu;

// Whether any of the sums is needed.
const SUMMED: bool = STATISTICS != 3u && (TARGETS != 0u || STATISTICS == 1u);

fn no_sums() -> RowSums {
    let zero = Sum(0.0, 0.0);
    return RowSums(zero, zero, zero, zero, NONE, NONE, 0.0);
}

fn sum4(x: vec4<f32>) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}

// Products that are 0 if the coefficient is 0, even if the value is infinite. (Rows with NaN are
// handled separately.)
fn weighted4(coefficient: vec4<f32>, value: vec4<f32>) -> vec4<f32> {
    return select(coefficient * value, vec4<f32>(), coefficient == vec4<f32>());
}

// The products e_c * (m - z_c), given d = z_c - m: 0 if e_c is 0, even if z_c is -infinity.
fn entropy_terms4(e: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
    return select(-e * d, vec4<f32>(), e == vec4<f32>());
}

// Updates `target_argmax` with class c of probability q, if the class exists (`counted`).
fn with_class(before: RowSums, c: u32, q: f32, counted: bool) -> RowSums {
    var s = before;
    let larger = s.target_argmax == NONE || q > s.target_max;
    if (counted && !is_nan(q) && larger) {
        s.target_argmax = c;
        s.target_max = q;
    }
    return s;
}

// The first of 4 classes from c on, within the first `room`, whose element equals the maximum m;
// NONE if none does.
fn first_largest(x: vec4<f32>, m: f32, c: u32, room: u32) -> u32 {
    let classes = select(vec4<u32>(NONE), vec4<u32>(c) + vec4<u32>(0u, 1u, 2u, 3u), (x == vec4<f32>(m)) & within(room));
    return min(min(classes.x, classes.y), min(classes.z, classes.w));
}

// The terms of a block. x: coefficients; y: weighted gaps; z: entropy terms; w: tiny coefficients.
struct BlockSums {
    terms: vec4<f32>,
    all: RowSums,
}

// Adds the quad x of the classes from `first` on, of which `room` exist, to the terms of its block,
// and to the predictions, by one lane. `weights` are the weights of these classes (used unless
// TARGETS is 0), `m` is the row maximum, and `at` the position of the row's probabilities, if any.
fn with_quad(before: BlockSums, x: vec4<f32>, weights: vec4<f32>, first: u32, room: u32, m: f32, at: u32) -> BlockSums {
    var terms = before.terms;
    var s = before.all;
    let d = gap4(x, m);
    if (TARGETS == 2u) {
        let shares = shares4(first, room, at);
        // 0 beyond the room without the select, too; but then Mesa rounds the sum differently.
        let a = select(vec4<f32>(), weights * shares, within(room));
        terms.y += sum4(weighted4(a, d));
        if (FACTORS == 0u) {
            terms.x += sum4(a);
        } else {
            // Each factor contributes half of the lift.
            let lifted = (weights * 0x1p40f) * (shares * 0x1p40f);
            let tiny = abs(lifted) < vec4<f32>(1.0);
            terms.x += sum4(select(a, vec4<f32>(), tiny));
            terms.w += sum4(select(vec4<f32>(), lifted, tiny));
        }
    }
    if (TARGETS == 1u) {
        terms.y += sum4(weighted4(weights, d));
    }
    if (STATISTICS == 1u) {
        terms.z += sum4(entropy_terms4(lifted_exp4(d), d));
        s.predicted = min(s.predicted, first_largest(x, m, first, room));
    }
    if (STATISTICS == 1u && TARGETS == 2u) {
        let q = probabilities4(first, room, at);
        for (var k = 0u; k < 4u; k++) { // unrolled
            s = with_class(s, first + k, q[k], k < room);
        }
    }
    return BlockSums(terms, s);
}

fn with_terms(s: RowSums, terms: vec4<f32>) -> RowSums {
    var all = s;
    all.coefficients = plus(s.coefficients, terms.x);
    all.gaps = plus(s.gaps, terms.y);
    all.entropy_sum = plus(s.entropy_sum, terms.z);
    all.tiny_coefficients = plus(s.tiny_coefficients, terms.w);
    return all;
}

// Whether the weights of the lane's classes stay in registers; with more blocks, registers would
// spill.
const WEIGHTS_HELD: bool = TARGETS != 0u && HELD > 0u && HELD <= 2u;

var<private> held_weights: array<mat4x4<f32>, max(HELD, 1u)>;

// Loads the weights of the lane's classes, if they stay in registers.
fn hold_weights(row: Row) {
    if (WEIGHTS_HELD) {
        for (var i = 0u; i < HELD; i++) { // unrolled
            for (var j = 0u; j < 4u; j++) { // unrolled if WHOLE
                let c = quad_start(row, i, j);
                held_weights[i][j] = class_weights(c, room_at(i < row.whole, c));
            }
        }
    }
}

// The weights of quad j of the lane's block i, which are those of the classes from c on.
fn row_weights(i: u32, j: u32, c: u32, room: u32) -> vec4<f32> {
    if (WEIGHTS_HELD) {
        return held_weights[i][j];
    }
    return class_weights(c, room);
}

// The sums of the lane's blocks in registers, and the terms of its blocks so far.
var<private> held_sums: BlockSums;

// Adds block i of `held` to the sums of the lane, by one lane.
fn add_held_sums(row: Row, i: u32, m: f32) {
    if (!SUMMED) {
        return;
    }
    if (i == 0u) {
        held_sums = BlockSums(vec4<f32>(), no_sums());
    }
    var block = BlockSums(vec4<f32>(), held_sums.all);
    for (var j = 0u; j < 4u; j++) { // unrolled if WHOLE
        let first = quad_start(row, i, j);
        let room = room_at(i < row.whole, first);
        block = with_quad(block, held[i][j], row_weights(i, j, first, room), first, room, m, row.start);
    }
    held_sums = BlockSums(held_sums.terms + block.terms, block.all);
}

// Adds the lane's blocks begin..end, a nonempty run, to its sums: 16 elements a block, of `logits`
// and, with TARGETS 2, of `probabilities`, both [outer, classes, inner]; by one lane, without
// exchange. `at` is the position of the row's probabilities, if any.
fn run_sums(row: Row, begin: u32, end: u32, m: f32, at: u32, before: RowSums) -> RowSums {
    var s = before;
    // Every eight blocks are added up separately, because adding equal numbers, such as the
    // probabilities of a large vocabulary, to one growing sum rounds the same way each time.
    var run = vec4<f32>();
    var eight = vec4<f32>();
    var i = begin;
    loop {
        var block = BlockSums(vec4<f32>(), s);
        var j = 0u;
        loop {
            let first = quad_start(row, i, j);
            let room = room_at(false, first);
            block = with_quad(block, logits_quad(row, i, j, false), class_weights(first, room), first, room, m, at);
            continuing {
                j += 1u;
                break if j >= 4u;
            }
        }
        s = block.all;
        eight += block.terms;
        continuing {
            i += 1u;
            if (i % 8u == 0u || i >= end) {
                run += eight;
                eight = vec4<f32>();
            }
            break if i >= end;
        }
    }
    return with_terms(s, run);
}

// Loads a sum from the state of a lane.
fn load_lane_sum(at: u32) -> Sum {
    return Sum(bitcast<f32>(load_lanes(at)), bitcast<f32>(load_lanes(at + 1u)));
}

// Loads the sums of the lane from its state in `lanes` [lanes, 11]; by one lane. The words are the
// coefficients, the tiny coefficients, the gaps and the entropy sum (high and low of each), then
// `predicted`, `target_argmax` and `target_max`.
fn load_lane_sums(row: Row) -> RowSums {
    let at = 11u * lane_index(row);
    let probability = bitcast<f32>(load_lanes(at + 10u));
    return RowSums(
        load_lane_sum(at),
        load_lane_sum(at + 2u),
        load_lane_sum(at + 4u),
        load_lane_sum(at + 6u),
        load_lanes(at + 8u),
        load_lanes(at + 9u),
        probability,
    );
}

fn store_lane_sum(at: u32, sum: Sum) {
    store_lanes(at, bitcast<u32>(sum.high));
    store_lanes(at + 1u, bitcast<u32>(sum.low));
}

// Stores the sums of the lane as its state, in the order of `load_lane_sums`; by one lane.
fn store_lane_sums(row: Row, s: RowSums) {
    let at = 11u * lane_index(row);
    store_lane_sum(at, s.coefficients);
    store_lane_sum(at + 2u, s.tiny_coefficients);
    store_lane_sum(at + 4u, s.gaps);
    store_lane_sum(at + 6u, s.entropy_sum);
    store_lanes(at + 8u, s.predicted);
    store_lanes(at + 9u, s.target_argmax);
    store_lanes(at + 10u, bitcast<u32>(s.target_max));
}

// The sums of the lane over its blocks up to the end of this dispatch, given the row maximum m;
// `at` is the position of the row's probabilities, if any.
fn lane_sums(row: Row, m: f32, at: u32) -> RowSums {
    if (HELD > 0u && !ROW_STATE_LOADED) {
        return with_terms(held_sums.all, held_sums.terms);
    }
    var s = no_sums();
    if (SWEEP == 2u || (SWEEP == 1u && row.begin > 0u)) {
        s = load_lane_sums(row);
    }
    if (SWEEP != 2u) {
        for (var run = row.begin; run < row.end; run += RUN) {
            s = run_sums(row, run, min(run + RUN, row.end), m, at, s);
        }
    }
    return s;
}

// Merges the sums of the lanes of the row; all of them get the result. All threads of the workgroup
// take part.
fn all_sums(lane: RowSums, thread: u32) -> RowSums {
    var all = lane;
    if (TARGETS == 2u) {
        all.coefficients = sum_across(thread, lane.coefficients);
        if (FACTORS != 0u) {
            all.tiny_coefficients = sum_across(thread, lane.tiny_coefficients);
        }
    }
    if (TARGETS != 0u) {
        all.gaps = sum_across(thread, lane.gaps);
    }
    if (STATISTICS == 1u) {
        all.entropy_sum = sum_across(thread, lane.entropy_sum);
        for (var stage = TEAM / 2u; stage > 0u; stage /= 2u) { // unrolled
            let bits = vec4<u32>(all.predicted, all.target_argmax, bitcast<u32>(all.target_max), 0u);
            let pair = exchanged(thread, bits, stage);
            all.predicted = min(pair.mine.x, pair.other.x);
            let mine = bitcast<f32>(pair.mine.z);
            let theirs = bitcast<f32>(pair.other.z);
            let first = theirs == mine && pair.other.y < pair.mine.y;
            let takes = pair.other.y != NONE && (pair.mine.y == NONE || theirs > mine || first);
            all.target_argmax = select(pair.mine.y, pair.other.y, takes);
            all.target_max = select(mine, theirs, takes);
        }
    }
    return all;
}

// The sum of the coefficients. Tiny coefficients matter only if there are no others.
fn sum_of_coefficients(sums: RowSums) -> Wide {
    let sum = value_of(sums.coefficients);
    let tiny = value_of(sums.tiny_coefficients);
    let lifted = sum == 0.0 && tiny != 0.0;
    return Wide(select(sum + tiny * LOWER, tiny, lifted), select(0, -LIFTED_BY, lifted));
}
