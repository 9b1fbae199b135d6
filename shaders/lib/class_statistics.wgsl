// What a row's softmax says besides the loss: its entropy and its classes. A sweep over the row of its own.

struct ClassStatistics {
    // The sum of p_c (m - z_c): the entropy without the log of the sum.
    spread: f32,
    // The first class with the largest logit before scale and cap, and the first with the largest of the target's probabilities; NONE if there is none.
    predicted: u32,
    likely: u32,
    likely_probability: f32,
}

const NONE: u32 = 0xffffffffu;

fn merge_classes(a: ClassStatistics, b: ClassStatistics) -> ClassStatistics {
    let larger = b.likely_probability > a.likely_probability;
    let first = b.likely_probability == a.likely_probability && b.likely < a.likely;
    var s = a;
    if (b.likely != NONE && (a.likely == NONE || larger || first)) {
        s = b;
    }
    return ClassStatistics(a.spread + b.spread, min(a.predicted, b.predicted), s.likely, s.likely_probability);
}

// The sum of e_c * (m - z_c), of which those with e_c = 0 are 0 even if z_c is -infinity.
fn spread4(e: vec4<f32>, d: vec4<f32>) -> f32 {
    let product = select(-e * d, vec4<f32>(0.0), e == vec4<f32>(0.0));
    return (product.x + product.y) + (product.z + product.w);
}

// The statistics of the whole row, the same for all its threads. Every thread of the workgroup takes part. `at` is where the row's
// probabilities begin, if it has any.
fn class_statistics(row: Row, thread: u32, stats: RowStats, at: u32) -> ClassStatistics {
    var mine = ClassStatistics(0.0, NONE, NONE, 0.0);
    for (var i = 0u; i < row.blocks; i++) {
        for (var j = 0u; j < 4u; j++) {
            let first = quad_start(row, i, j);
            let x = logits_quad(row, i, j, false);
            let d = gap4(x, stats.max);
            mine.spread += spread4(exp4_nonpositive(d), d);
            for (var k = 0u; k < min(4u, room_at(false, first)); k++) {
                let c = first + k;
                if (x[k] == stats.max) {
                    mine.predicted = min(mine.predicted, c);
                }
                if (TARGETS == 2u) {
                    let q = load_probabilities(at + c * params.inner);
                    if (!is_nan(q) && (mine.likely == NONE || q > mine.likely_probability)) {
                        mine.likely = c;
                        mine.likely_probability = q;
                    }
                }
            }
        }
    }
    for (var distance = LANES / 2u; distance > 0u; distance /= 2u) {
        let numbers = bitcast<vec2<u32>>(vec2<f32>(mine.spread, mine.likely_probability));
        let other = across(thread, vec4<u32>(numbers, mine.predicted, mine.likely), distance);
        let theirs = bitcast<vec2<f32>>(other.xy);
        mine = merge_classes(mine, ClassStatistics(theirs.x, other.z, other.w, theirs.y));
    }
    mine.spread /= stats.ties + stats.rest;
    return mine;
}
