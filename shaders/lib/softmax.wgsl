// needs: lanes numerics rows sum
// The softmax statistics of a row of `logits`, read once. The shader that uses this includes `plain_logits` or
// `scaled_logits`, which say what a logit is:
//   fn admit4(x: vec4<f32>, room: u32) -> vec4<f32>     what the rest of the shader sees of a quad with as many elements
//   fn gap4(x: vec4<f32>, m: f32) -> vec4<f32>          how far above the logit of m the logits of x lie
//   fn lost_gap(x: f32, m: f32) -> f32                  what that has rounded off
// and defines
//   const HOLD_EXP: bool                                whether it needs a row's exponentials in the end, or its logits
//
// Besides the maximum m they are: how many elements equal it, and the sum of exp(x - m) over the others. Keeping the two
// apart gives the loss of a confident row, log1p(rest), its full relative precision. That sum and the exponentials in it are lifted
// (`LIFT`): a gradient may be a huge number times one that would be subnormal.

struct RowStats {
    // Of the elements as they are admitted.
    max: f32,
    ties: f32,
    // Lifted.
    rest: f32,
    // 1 if the row holds NaN or +infinity.
    poison: u32,
}

var<private> held: array<mat4x4<f32>, max(HELD, 1u)>;
// The maximum that the lane's held exponentials are relative to.
var<private> held_max: f32;

// Block i of a row; -infinity past the row's end.
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
    let at = row.start + c * params.inner;
    return admit4(load_quad_logits(at, params.inner, room, -infinity()), room);
}

fn one_logit(row: Row, c: u32) -> f32 {
    return admit4(vec4<f32>(load_logits(row.start + c * params.inner)), 4u).x;
}

fn gap(x: f32, m: f32) -> f32 {
    return gap4(vec4<f32>(x), m).x;
}

// What tells the maximum of elements and whether NaN or +infinity is among them, from their bits. As signed integers the
// positive ones are in their order and end in +infinity and NaN; as unsigned ones the negative ones are in reverse order, come
// after all positive ones, and end in -infinity and NaN.
struct Extremes {
    signed: vec4<i32>,
    unsigned: vec4<u32>,
    least: vec4<u32>,
}

fn no_extremes() -> Extremes {
    return Extremes(vec4<i32>(-0x7fffffff), vec4<u32>(0u), vec4<u32>(0xffffffffu));
}

fn with_block(e: Extremes, x: mat4x4<f32>) -> Extremes {
    var all = e;
    for (var j = 0u; j < 4u; j++) { // unrolled if WHOLE
        let quad = x[j];
        all.signed = max(all.signed, bitcast<vec4<i32>>(quad));
        all.unsigned = max(all.unsigned, bitcast<vec4<u32>>(quad));
        all.least = min(all.least, bitcast<vec4<u32>>(quad));
    }
    return all;
}

// The statistics of elements that are not summed yet. A maximum of -infinity is the lowest number instead.
fn stats_of(e: Extremes) -> RowStats {
    let signed = max(max(e.signed.x, e.signed.y), max(e.signed.z, e.signed.w));
    let unsigned = max(max(e.unsigned.x, e.unsigned.y), max(e.unsigned.z, e.unsigned.w));
    let least = min(min(e.least.x, e.least.y), min(e.least.z, e.least.w));
    let poison = signed >= 0x7f800000 || unsigned > 0xff800000u;
    let m = select(min(least, bitcast<u32>(LOWEST)), u32(signed), signed >= 0);
    return RowStats(bitcast<f32>(m), 0.0, 0.0, u32(poison));
}

// The sum of exp(x - m) over all elements.
fn sum_of_exp(s: RowStats) -> f32 {
    return s.ties + s.rest * LOWER;
}

// exp(gap), lifted, of a rounded gap and what it lacks: many elements are multiplied with it, whose errors would all be the same.
fn exp_of_gap(gap: f32, lost: f32) -> f32 {
    let e = lifted_exp(gap);
    // Not where the gap is infinite.
    let small = (bitcast<u32>(lost) & 0x7fffffffu) < 0x3f800000u;
    return e + e * select(0.0, lost, small);
}

// The same from x to m, with x no larger.
fn exp_between(x: f32, m: f32) -> f32 {
    return exp_of_gap(gap(x, m), lost_gap(x, m));
}

// A lifted number times a lifted exponential of a number below 0, lifted once.
fn times_lifted(x: f32, e: f32) -> f32 {
    return select(x * e * LOWER, x * LOWER * e, x > 1.0);
}

// Brings statistics to a maximum at least as large.
fn raise(s: RowStats, m: f32) -> RowStats {
    let higher = m > s.max;
    let rest = sum_of_exp(s) * exp_between(s.max, m);
    return RowStats(m, select(s.ties, 0.0, higher), select(s.rest, rest, higher), s.poison);
}

fn exp_block(x: mat4x4<f32>, m: f32) -> mat4x4<f32> {
    return mat4x4<f32>(
        lifted_exp4(gap4(x[0], m)),
        lifted_exp4(gap4(x[1], m)),
        lifted_exp4(gap4(x[2], m)),
        lifted_exp4(gap4(x[3], m)),
    );
}

// Adds the elements x of a block, none above the maximum m of s, and e = exp(x - m), lifted.
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

// Adds a block to statistics that have not seen it.
fn absorb(s: RowStats, x: mat4x4<f32>) -> RowStats {
    let block = stats_of(with_block(no_extremes(), x));
    var all = raise(s, max(s.max, block.max));
    all.poison |= block.poison;
    return add_block(all, x, exp_block(x, all.max));
}

// The statistics of blocks begin .. end, of which there may be none.
fn few_stats(row: Row, begin: u32, end: u32) -> RowStats {
    let whole = clamp(row.whole, begin, end);
    var s = RowStats(LOWEST, 0.0, 0.0, 0u);
    for (var i = begin; i < whole; i++) {
        s = absorb(s, logits_block(row, i, true));
    }
    for (var i = whole; i < end; i++) {
        s = absorb(s, logits_block(row, i, false));
    }
    return s;
}

// The statistics of many blocks, whose sum is in two numbers. Exponentials are relative to the logit of `origin`, an element of the row that
// the maximum is not far above. If they were relative to the maximum, a row whose elements rise slowly would have its sum scaled, and rounded,
// with every block.
struct LaneStats {
    max: f32,
    ties: f32,
    origin: f32,
    // That of the maximum, lifted.
    exp_max: f32,
    // The sum over the elements below the maximum, lifted.
    rest: Sum,
    poison: u32,
}

// How far the maximum may be above the origin.
const FAR: f32 = 8.0;

fn no_stats() -> LaneStats {
    return LaneStats(LOWEST, 0.0, LOWEST, LIFT, Sum(0.0, 0.0), 0u);
}

fn add_to_lane(s: LaneStats, x: mat4x4<f32>) -> LaneStats {
    let block = stats_of(with_block(no_extremes(), x));
    let m = max(s.max, block.max);
    let rise = gap(m, s.origin);
    let lost = lost_gap(m, s.origin);
    // Then the maximum is the new origin.
    let far = rise > FAR;
    let e = exp_of_gap(select(rise, -rise, far), select(lost, -lost, far));
    let origin = select(s.origin, m, far);
    let higher = m > s.max;
    // Elements that were at the maximum, but are not any more, belong to the rest.
    let before = select(0.0, s.ties * select(s.exp_max, times_lifted(s.exp_max, e), far), higher);
    let more = add_block(RowStats(m, select(s.ties, 0.0, higher), before, 0u), x, exp_block(x, origin));
    let kept_high = select(s.rest.high, times_lifted(s.rest.high, e), far);
    // What the sum lacked before is nothing beside what multiplying it rounds off.
    let rest = plus(Sum(kept_high, select(s.rest.low, 0.0, far)), more.rest);
    return LaneStats(m, more.ties, origin, select(e, LIFT, far), rest, s.poison | block.poison);
}

// Adds the lane's blocks in this dispatch.
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

fn lane_stats(row: Row) -> RowStats {
    if (HELD > 0u) {
        return held_stats(row);
    }
    if (RUNS == 0u) {
        return few_stats(row, row.begin, row.end);
    }
    return relative_to_max(add_blocks(row, no_stats()));
}

fn held_stats(row: Row) -> RowStats {
    var extremes = no_extremes();
    for (var i = 0u; i < HELD; i++) { // unrolled
        held[i] = logits_block(row, i, i < row.whole);
        extremes = with_block(extremes, held[i]);
    }
    var s = stats_of(extremes);
    for (var i = 0u; i < HELD; i++) { // unrolled
        let x = held[i];
        let e = exp_block(x, s.max);
        s = add_block(s, x, e);
        if (HOLD_EXP) {
            held[i] = e;
        }
    }
    held_max = s.max;
    return s;
}

fn merge(a: RowStats, b: RowStats) -> RowStats {
    let m = max(a.max, b.max);
    let x = raise(a, m);
    let y = raise(b, m);
    return RowStats(m, x.ties + y.ties, x.rest + y.rest, x.poison | y.poison);
}

fn with_other(s: RowStats, thread: u32, distance: u32) -> RowStats {
    let bits = vec4<u32>(bitcast<vec3<u32>>(vec3<f32>(s.max, s.ties, s.rest)), s.poison);
    let other = across(thread, bits, distance);
    let numbers = bitcast<vec3<f32>>(other.xyz);
    return merge(s, RowStats(numbers.x, numbers.y, numbers.z, other.w));
}

// The statistics of the workgroup's part of the row, mostly all of it, from those of its lanes; the same for all threads that share it.
// Every thread of the workgroup takes part.
fn part_stats(lane: RowStats, thread: u32) -> RowStats {
    var all = lane;
    for (var distance = LANES / 2u; distance > 0u; distance /= 2u) {
        all = with_other(all, thread, distance);
    }
    return all;
}

// What turns the exponentials that `again` gives into lifted ones of x - m with the row's maximum m, lifted once more.
fn lifted_exp_factor(m: f32) -> f32 {
    if (HELD > 0u && LANES > 1u) {
        return exp_between(held_max, m);
    }
    return LIFT;
}

// A block once the row's statistics are known: its exponentials, lifted and up to `lifted_exp_factor`, or its logits, as HOLD_EXP says.
fn again(row: Row, i: u32, inside: bool, m: f32) -> mat4x4<f32> {
    if (HELD > 0u) {
        return held[i];
    }
    let x = logits_block(row, i, inside);
    if (HOLD_EXP) {
        return exp_block(x, m);
    }
    return x;
}

// Whether the row has no softmax: it holds NaN or +infinity, or nothing but -infinity.
fn no_softmax(s: RowStats) -> bool {
    return s.poison != 0u || s.ties == 0.0;
}

// log of the sum of exp(x - m).
fn log_sum(s: RowStats) -> f32 {
    if (s.ties == 1.0) {
        return log1p_f32(s.rest * LOWER);
    }
    return log_f32(sum_of_exp(s));
}
