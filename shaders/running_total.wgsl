// Adds a record's loss to those before it, in two numbers, and keeps where the first bad data was.
// Bindings: partial (a partial result), totals (five words: the two numbers' bits; the record of the first bad data, from 1; its position; its
// kind).

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    if (thread + group_index(group, groups) > 0u) {
        return;
    }
    let at = 0u;
    let part_at = 0u;
    let before = Sum(bitcast<f32>(load_totals(at)), bitcast<f32>(load_totals(at + 1u)));
    let part = Sum(bitcast<f32>(load_partial(part_at)), bitcast<f32>(load_partial(part_at + 1u)));
    let total = settled_sum(plus_sum(before, part));
    store_totals(at, bitcast<u32>(total.high));
    store_totals(at + 1u, bitcast<u32>(total.low));
    let bad = load_partial(part_at + 2u);
    if (bad != 0xffffffffu && load_totals(at + 2u) == 0u) {
        store_totals(at + 2u, params.record);
        store_totals(at + 3u, bad);
        store_totals(at + 4u, params.kind);
    }
}
