// The softmax statistics of a row of `logits`, read once. The shader that uses this includes `plain_logits` or
// `scaled_logits`, which say what a logit is:
//   fn admit4(x: vec4<f32>) -> vec4<f32>                what the rest of the shader sees of elements of the tensor
//   fn gap4(x: vec4<f32>, m: f32) -> vec4<f32>          how far above the logit of m the logits of x lie
//
// Besides the maximum m they are: how many elements equal it, and the sum of exp(x - m) over the others. Keeping the two
// apart gives the loss of a confident row, log1p(rest), its full relative precision.

struct RowStats {
    // Of the elements as they are admitted.
    max: f32,
    ties: f32,
    rest: f32,
    // 1 if the row holds NaN or +infinity.
    poison: u32,
}

var<workgroup> shared_stats: array<vec4<f32>, WORKGROUP>;

// Elements c .. c + 4 of a row; -infinity past its end.
fn logits_quad(row: u32, c: u32, classes: u32, inner: u32) -> vec4<f32> {
    if (whole_quad(c, classes, inner)) {
        return admit4(load4_logits(row + c));
    }
    var x = vec4<f32>(-infinity());
    for (var k = 0u; k < min(4u, classes - c); k++) {
        x[k] = one_logit(row + (c + k) * inner);
    }
    return x;
}

fn one_logit(i: u32) -> f32 {
    return admit4(vec4<f32>(load_logits(i))).x;
}

fn gap(x: f32, m: f32) -> f32 {
    return gap4(vec4<f32>(x), m).x;
}

fn is_poison(x: vec4<f32>) -> bool {
    let bits = bitcast<vec4<u32>>(x);
    // As integers, +infinity and NaN are 0x7f800000 and up, negative NaN is above -infinity.
    let positive = (bits & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
    return any(positive | (bits == vec4<u32>(0x7f800000u)));
}

fn exp4_nonpositive(x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(exp_nonpositive(x.x), exp_nonpositive(x.y), exp_nonpositive(x.z), exp_nonpositive(x.w));
}

// Brings statistics to a larger maximum.
fn raise(s: RowStats, m: f32) -> RowStats {
    let rest = (s.rest + s.ties) * exp_nonpositive(gap(s.max, m));
    return RowStats(m, 0.0, rest, s.poison);
}

fn lane_stats(row: Row, classes: u32, inner: u32) -> RowStats {
    var s = RowStats(LOWEST, 0.0, 0.0, 0u);
    for (var c = row.lane * 4u; c < classes; c += LANES * 4u) {
        let x = logits_quad(row.start, c, classes, inner);
        s.poison |= u32(is_poison(x));
        let m = max(max(x.x, x.y), max(x.z, x.w));
        if (m > s.max) {
            s = raise(s, m);
        }
        let tie = x == vec4<f32>(s.max);
        let ties = select(vec4<f32>(0.0), vec4<f32>(1.0), tie);
        let e = select(exp4_nonpositive(gap4(x, s.max)), vec4<f32>(0.0), tie);
        s.ties += (ties.x + ties.y) + (ties.z + ties.w);
        s.rest += (e.x + e.y) + (e.z + e.w);
    }
    return s;
}

fn merge(a: RowStats, b: RowStats) -> RowStats {
    var low = b;
    var high = a;
    if (b.max > a.max) {
        low = a;
        high = b;
    }
    if (low.max < high.max) {
        low = raise(low, high.max);
    }
    return RowStats(high.max, low.ties + high.ties, low.rest + high.rest, low.poison | high.poison);
}

fn put_stats(thread: u32, s: RowStats) {
    shared_stats[thread] = vec4<f32>(s.max, s.ties, s.rest, f32(s.poison));
}

fn get_stats(thread: u32) -> RowStats {
    let s = shared_stats[thread];
    return RowStats(s.x, s.y, s.z, u32(s.w));
}

// The statistics of the whole row, the same for all its threads. Every thread of the workgroup takes part.
fn row_stats(row: Row, thread: u32, classes: u32, inner: u32) -> RowStats {
    let mine = lane_stats(row, classes, inner);
    if (LANES == 1u) {
        return mine;
    }
    put_stats(thread, mine);
    for (var distance = LANES / 2u; distance > 0u; distance /= 2u) {
        workgroupBarrier();
        if (row.lane < distance) {
            put_stats(thread, merge(get_stats(thread), get_stats(thread + distance)));
        }
    }
    workgroupBarrier();
    return get_stats(thread - row.lane);
}

// Whether the row has no softmax: it holds NaN or +infinity, or nothing but -infinity.
fn no_softmax(s: RowStats) -> bool {
    return s.poison != 0u || s.ties == 0.0;
}

// log of the sum of exp(x - m).
fn log_sum(s: RowStats) -> f32 {
    if (s.ties == 1.0) {
        return log1p_f32(s.rest);
    }
    return log_f32(s.ties + s.rest);
}
