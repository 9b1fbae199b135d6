// needs: tally
// The outcomes of rows of logits. The prediction is -1 if the softmax is undefined.
// Further bindings: row_ranks (the number of logits above the target's), losses.

fn outcome(i: u32) -> Outcome {
    let t = load_targets(i);
    let p = load_predictions(i);
    let rank = load_row_ranks(i);
    let loss = load_losses(i);
    let fine = t >= 0 && u32(t) < params.classes;
    let none = params.classes;
    return Outcome(t == params.ignored, fine, u32(t), select(none, u32(p), p >= 0), select(none, rank, p >= 0), loss);
}
