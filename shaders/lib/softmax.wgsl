// needs: lanes numerics rows sum
// The online softmax of a row of `logits`: its statistics in one sweep. A shader that needs this
// also needs `plain_logits` or `scaled_logits`, which define
//   fn prepare4(x: vec4<f32>, room: u32) -> vec4<f32>   a loaded quad with `room` elements, padded
//                                                       with -infinity
//   fn gap4(x: vec4<f32>, m: f32) -> vec4<f32>          logit(x) - logit(m)
//   fn gap_error(x: f32, m: f32) -> f32                 the rounding error of that difference
// and has to define
//   const HOLD_EXP: bool                                whether the last sweep needs the row's
//                                                       exponentials instead of its logits
//   fn add_held_sums(row: Row, i: u32, m: f32)          adds block i, whose logits are in `held`, to
//                                                       further sums of the lane
//
// The statistics are the row maximum m, the number of elements that equal it, and the sum of
// exp(gap4(x, m)) over the other elements. Keeping the last two apart preserves the relative
// precision of the loss of a confident row, log1p(rest). The sum and the exponentials are lifted,
// that is multiplied by LIFT, because a gradient can multiply a subnormal exponential by a huge
// factor.

struct RowStats {
    // The maximum of the elements as `prepare4` returns them; LOWEST instead of -infinity.
    max: f32,
    // The number of elements that equal the maximum.
    ties: f32,
    // The sum of the exponentials of the elements below the maximum, lifted.
    rest: f32,
    // 1 if the row contains NaN or +infinity.
    poison: u32,
}

// The blocks of the lane that stay in registers: logits, and then, if HOLD_EXP, exponentials.
var<private> held: array<mat4x4<f32>, max(HELD, 1u)>;

// Block i of a row, padded with -infinity.
fn logits_block(row: Row, i: u32, inside: bool) -> mat4x4<f32> {
    return mat4x4<f32>(
        logits_quad(row, i, 0u, inside),
        logits_quad(row, i, 1u, inside),
        logits_quad(row, i, 2u, inside),
        logits_quad(row, i, 3u, inside),
    );
}

fn logits_quad(row: Row, i: u32, j: u32, inside: bool) -> vec4<f32> {
    let c = quad_start(row, i, j);
    let room = room_at(inside, c);
    let at = row.start + c * inner();
    return prepare4(load_quad_logits(at, inner(), room, -infinity()), room);
}

fn one_logit(row: Row, c: u32) -> f32 {
    return prepare4(vec4<f32>(load_logits(row.start + c * inner())), 4u).x;
}

fn gap(x: f32, m: f32) -> f32 {
    return gap4(vec4<f32>(x), m).x;
}

// Extremes of the bits of elements, from which `stats_of` computes their maximum, and whether they
// contain NaN or +infinity. Read as signed integers, positive floats are ordered, with +infinity
// and NaN at the end. Read as unsigned integers, negative floats come after all positive ones in
// reverse order, with -infinity and NaN at the end.
struct Extremes {
    signed_max: vec4<i32>,
    unsigned_max: vec4<u32>,
    unsigned_min: vec4<u32>,
}

fn no_extremes() -> Extremes {
    return Extremes(vec4<i32>(-0x7fffffff), vec4<u32>(0u), vec4<u32>(0xffffffffu));
}

fn with_block(e: Extremes, x: mat4x4<f32>) -> Extremes {
    var all = e;
    for (var j = 0u; j < 4u; j++) { // unrolled if WHOLE
        let quad = x[j];
        all.signed_max = max(all.signed_max, bitcast<vec4<i32>>(quad));
        all.unsigned_max = max(all.unsigned_max, bitcast<vec4<u32>>(quad));
        all.unsigned_min = min(all.unsigned_min, bitcast<vec4<u32>>(quad));
    }
    return all;
}

// The extremes of all elements: the signed maximum, the unsigned maximum and the unsigned minimum.
fn extremes_of(e: Extremes) -> vec4<u32> {
    let signed = max(max(e.signed_max.x, e.signed_max.y), max(e.signed_max.z, e.signed_max.w));
    let unsigned = max(max(e.unsigned_max.x, e.unsigned_max.y), max(e.unsigned_max.z, e.unsigned_max.w));
    let smallest = min(min(e.unsigned_min.x, e.unsigned_min.y), min(e.unsigned_min.z, e.unsigned_min.w));
    return vec4<u32>(bitcast<u32>(signed), unsigned, smallest, 0u);
}

// Statistics that have only a maximum (and `poison`); `ties` and `rest` are 0. A maximum of
// -infinity is replaced by the lowest finite number.
fn stats_of(extremes: vec4<u32>) -> RowStats {
    let signed = bitcast<i32>(extremes.x);
    let smallest = extremes.z;
    let poison = signed >= 0x7f800000 || extremes.y > 0xff800000u;
    let m = select(min(smallest, bitcast<u32>(LOWEST)), u32(signed), signed >= 0);
    return RowStats(bitcast<f32>(m), 0.0, 0.0, u32(poison));
}

// The sum of exp(gap4(x, m)) over all elements of the row.
fn sum_of_exp(s: RowStats) -> f32 {
    return s.ties + s.rest * LOWER;
}

// exp(gap), lifted, for a rounded gap and its rounding error `lost`. Without the correction, all
// elements that are multiplied by the result would share its error.
fn exp_of_gap(gap: f32, lost: f32) -> f32 {
    let e = lifted_exp(gap);
    // An infinite gap has no meaningful rounding error.
    let small = (bitcast<u32>(lost) & 0x7fffffffu) < 0x3f800000u;
    return e + e * select(0.0, lost, small);
}

// exp(logit(x) - logit(m)), lifted, for x <= m.
fn exp_between(x: f32, m: f32) -> f32 {
    return exp_of_gap(gap(x, m), gap_error(x, m));
}

// The product of a lifted number and a lifted exponential, lifted once.
fn times_lifted(x: f32, e: f32) -> f32 {
    return select(x * e * LOWER, x * LOWER * e, x > 1.0);
}

// Rescales statistics to a maximum m that is at least theirs.
fn rescaled(s: RowStats, m: f32) -> RowStats {
    let higher = m > s.max;
    let rest = sum_of_exp(s) * exp_between(s.max, m);
    return RowStats(m, select(s.ties, 0.0, higher), select(s.rest, rest, higher), s.poison);
}

// exp(gap4(x, m)), lifted, for the 16 elements of a block.
fn exp_block(x: mat4x4<f32>, m: f32) -> mat4x4<f32> {
    return mat4x4<f32>(
        lifted_exp4(gap4(x[0], m)),
        lifted_exp4(gap4(x[1], m)),
        lifted_exp4(gap4(x[2], m)),
        lifted_exp4(gap4(x[3], m)),
    );
}

// Adds the 16 elements x of a block to s, whose maximum m is at least theirs, by one lane; e are
// the lifted exponentials, relative to the same logit as `s.rest`.
fn add_block(s: RowStats, x: mat4x4<f32>, e: mat4x4<f32>) -> RowStats {
    var ties = vec4<f32>();
    var rest = vec4<f32>();
    for (var j = 0u; j < 4u; j++) { // unrolled if WHOLE
        let tie = x[j] == vec4<f32>(s.max);
        ties += select(vec4<f32>(0.0), vec4<f32>(1.0), tie);
        rest += select(e[j], vec4<f32>(0.0), tie);
    }
    let more = vec2<f32>((ties.x + ties.y) + (ties.z + ties.w), (rest.x + rest.y) + (rest.z + rest.w));
    return RowStats(s.max, s.ties + more.x, s.rest + more.y, s.poison);
}

// Merges a block of logits x into statistics.
fn with_logits(s: RowStats, x: mat4x4<f32>) -> RowStats {
    let block = stats_of(extremes_of(with_block(no_extremes(), x)));
    var all = rescaled(s, max(s.max, block.max));
    all.poison |= block.poison;
    return add_block(all, x, exp_block(x, all.max));
}

// The statistics of the lane's blocks begin..end, by one lane; the range can be empty.
fn single_run_stats(row: Row, begin: u32, end: u32) -> RowStats {
    let whole = clamp(row.whole, begin, end);
    var s = RowStats(LOWEST, 0.0, 0.0, 0u);
    for (var i = begin; i < whole; i++) {
        s = with_logits(s, logits_block(row, i, true));
    }
    for (var i = whole; i < end; i++) {
        s = with_logits(s, logits_block(row, i, false));
    }
    return s;
}

// The statistics of many blocks of a lane, with a compensated sum. Exponentials are relative to
// `origin`, an element of the row that is close to the maximum. If they were relative to the
// maximum itself, the sum would be rescaled, and rounded, with every block of a row whose elements
// increase slowly.
struct LaneStats {
    max: f32,
    ties: f32,
    origin: f32,
    // exp(logit(max) - logit(origin)), lifted.
    exp_max: f32,
    // The sum of the exponentials of the elements below the maximum, lifted.
    rest: Sum,
    poison: u32,
}

// The largest gap between the maximum and the origin.
const FAR: f32 = 8.0;

fn no_stats() -> LaneStats {
    return LaneStats(LOWEST, 0.0, LOWEST, LIFT, Sum(0.0, 0.0), 0u);
}

// Adds the 16 elements x of a block to the statistics of a lane, by one lane.
fn add_to_lane(s: LaneStats, x: mat4x4<f32>) -> LaneStats {
    let block = stats_of(extremes_of(with_block(no_extremes(), x)));
    let m = max(s.max, block.max);
    let max_gap = gap(m, s.origin);
    let lost = gap_error(m, s.origin);
    // Whether the maximum becomes the new origin.
    let far = max_gap > FAR;
    let e = exp_of_gap(select(max_gap, -max_gap, far), select(lost, -lost, far));
    let origin = select(s.origin, m, far);
    let higher = m > s.max;
    // Elements that equalled the previous maximum move to the rest.
    let before = select(0.0, s.ties * select(s.exp_max, times_lifted(s.exp_max, e), far), higher);
    let more = add_block(RowStats(m, select(s.ties, 0.0, higher), before, 0u), x, exp_block(x, origin));
    let kept_high = select(s.rest.high, times_lifted(s.rest.high, e), far);
    // Rescaling drops `low`: it is smaller than the rounding error of the rescaling itself.
    let rest = plus(Sum(kept_high, select(s.rest.low, 0.0, far)), more.rest);
    return LaneStats(m, more.ties, origin, select(e, LIFT, far), rest, s.poison | block.poison);
}

// Adds all blocks that the lane processes in this dispatch.
fn add_blocks(row: Row, before: LaneStats) -> LaneStats {
    var s = before;
    for (var i = row.begin; i < row.whole; i++) {
        s = add_to_lane(s, logits_block(row, i, true));
    }
    for (var i = row.whole; i < row.end; i++) {
        s = add_to_lane(s, logits_block(row, i, false));
    }
    return s;
}

fn relative_to_max(s: LaneStats) -> RowStats {
    return RowStats(s.max, s.ties, value_of(s.rest) * (exp_between(s.origin, s.max) * LOWER), s.poison);
}

// The statistics of all blocks that the lane processes in this dispatch.
fn lane_stats(row: Row) -> RowStats {
    if (RUNS == 0u) {
        return single_run_stats(row, row.begin, row.end);
    }
    return relative_to_max(add_blocks(row, no_stats()));
}

// Loads the logits of the lane's blocks into `held`, if they stay in registers. Kernels do this
// before they wait for other loads.
fn hold_logits(row: Row) {
    for (var i = 0u; i < HELD; i++) { // unrolled
        held[i] = logits_block(row, i, i < row.whole);
    }
}

// The statistics of a row whose blocks all stay in registers: first its maximum, then the sums
// relative to that. All lanes of the row get the result; all threads of the workgroup take part.
fn held_stats(row: Row, thread: u32) -> RowStats {
    var of_lane = no_extremes();
    for (var i = 0u; i < HELD; i++) { // unrolled
        of_lane = with_block(of_lane, held[i]);
    }
    var extremes = extremes_of(of_lane);
    for (var stage = TEAM / 2u; stage > 0u; stage /= 2u) { // unrolled
        let pair = exchanged(thread, extremes, stage);
        let signed = max(bitcast<i32>(pair.mine.x), bitcast<i32>(pair.other.x));
        let unsigned = max(pair.mine.y, pair.other.y);
        extremes = vec4<u32>(bitcast<u32>(signed), unsigned, min(pair.mine.z, pair.other.z), 0u);
    }
    var s = stats_of(extremes);
    for (var i = 0u; i < HELD; i++) { // unrolled
        add_held_sums(row, i, s.max);
        let x = held[i];
        let e = exp_block(x, s.max);
        s = add_block(s, x, e);
        if (HOLD_EXP) {
            held[i] = e;
        }
    }
    for (var stage = TEAM / 2u; stage > 0u; stage /= 2u) { // unrolled
        let pair = exchanged(thread, vec4<u32>(bitcast<vec2<u32>>(vec2<f32>(s.ties, s.rest)), 0u, 0u), stage);
        let sums = bitcast<vec2<f32>>(pair.mine.xy) + bitcast<vec2<f32>>(pair.other.xy);
        s = RowStats(s.max, sums.x, sums.y, s.poison);
    }
    return s;
}

// Merges statistics. Only those with the lower maximum are rescaled.
fn merge(a: RowStats, b: RowStats) -> RowStats {
    let a_is_lower = a.max < b.max;
    let m = select(a.max, b.max, a_is_lower);
    let low = select(b.max, a.max, a_is_lower);
    let sum = select(sum_of_exp(b), sum_of_exp(a), a_is_lower);
    let same = low == m;
    let lower_rest = select(sum * exp_between(low, m), select(b.rest, a.rest, a_is_lower), same);
    let lower_ties = select(0.0, select(b.ties, a.ties, a_is_lower), same);
    let ties = select(a.ties, b.ties, a_is_lower) + lower_ties;
    let rest = select(a.rest, b.rest, a_is_lower) + lower_rest;
    return RowStats(m, ties, rest, a.poison | b.poison);
}

fn bits_of(s: RowStats) -> vec4<u32> {
    return vec4<u32>(bitcast<vec3<u32>>(vec3<f32>(s.max, s.ties, s.rest)), s.poison);
}

fn stats_from(bits: vec4<u32>) -> RowStats {
    let numbers = bitcast<vec3<f32>>(bits.xyz);
    return RowStats(numbers.x, numbers.y, numbers.z, bits.w);
}

// Merges the statistics of the lanes into the statistics of the workgroup's part of the row; all
// lanes get the result. All threads of the workgroup take part.
fn part_stats(lane: RowStats, thread: u32) -> RowStats {
    var all = lane;
    for (var stage = TEAM / 2u; stage > 0u; stage /= 2u) { // unrolled
        let pair = exchanged(thread, bits_of(all), stage);
        all = merge(stats_from(pair.mine), stats_from(pair.other));
    }
    return all;
}

// Block i in the last sweep: if HOLD_EXP its exponentials relative to the row maximum m, lifted,
// else its logits.
fn last_sweep_block(row: Row, i: u32, inside: bool, m: f32) -> mat4x4<f32> {
    if (HELD > 0u) {
        return held[i];
    }
    let x = logits_block(row, i, inside);
    if (HOLD_EXP) {
        return exp_block(x, m);
    }
    return x;
}

// Whether the softmax of the row is undefined: it contains NaN or +infinity, or only -infinity.
fn no_softmax(s: RowStats) -> bool {
    return s.poison != 0u || s.ties == 0.0;
}

// The logarithm of the sum of exp(gap4(x, m)) over all elements.
fn log_sum(s: RowStats) -> f32 {
    if (s.ties == 1.0) {
        return log1p_f32(s.rest * LOWER);
    }
    return log_f32(sum_of_exp(s));
}
