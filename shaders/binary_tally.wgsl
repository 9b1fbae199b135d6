// needs: tally
// The outcomes of a binary classifier, whose outputs are logits or probabilities, for targets 0 and
// 1. The loss is not clipped: it is infinite if the classifier is certain and wrong. For an output
// of NaN there is no prediction, and the loss is NaN.

// 1: outputs are probabilities.
override PROBABILITIES: u32;

// The outcome of output i, by one thread.
fn outcome(i: u32) -> Outcome {
    let y = load_targets(i);
    let x = load_predictions(i);
    let positive = bitcast<u32>(y) == 0x3f800000u;
    var fine = positive || is_zero(y);
    var loss: f32;
    var threshold = 0.0;
    if (PROBABILITIES == 1u) {
        // The bits of [0, 1] and -0.
        let bits = bitcast<u32>(x);
        fine = fine && (bits <= 0x3f800000u || bits == 0x80000000u || is_nan(x));
        loss = -select(log1p_f32(-x), log_f32(x), positive);
        threshold = 0.5;
    } else {
        loss = softplus_f32(select(x, -x, positive));
    }
    let actual = u32(positive);
    let predicted = u32(x > threshold);
    if (is_nan(x)) {
        return Outcome(false, fine, actual, 2u, 2u, nan());
    }
    return Outcome(false, fine, actual, predicted, u32(predicted != actual), loss);
}
