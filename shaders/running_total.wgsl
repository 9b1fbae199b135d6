// needs: once sum
// Adds the loss of a record to a compensated total, and stores the position of the first bad data.
// Bindings: partial (a partial result), totals (5 words: the compensated sum; the record, counted
// from 1, the position and the kind of the first bad data).

// Updates the 5 words, in one thread.
fn once() {
    let before = Sum(bitcast<f32>(load_totals(0u)), bitcast<f32>(load_totals(1u)));
    let part = Sum(bitcast<f32>(load_partial(0u)), bitcast<f32>(load_partial(1u)));
    let total = normalised_sum(plus_sum(before, part));
    store_totals(0u, bitcast<u32>(total.high));
    store_totals(1u, bitcast<u32>(total.low));
    let bad = load_partial(2u);
    if (bad != 0xffffffffu && load_totals(2u) == 0u) {
        store_totals(2u, params.record);
        store_totals(3u, bad);
        store_totals(4u, params.kind);
    }
}
