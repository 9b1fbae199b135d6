// The softmax statistics of the parts of rows. Bindings: logits [rows, classes], parts (four words a part: its RowStats).

struct Params {
    rows: u32,
    classes: u32,
    inner: u32,
    input_base: u32,
    parts_base: u32,
    logit_scale: f32,
    softcap: f32,
}

const HOLD_EXP: bool = true;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group_index(group, groups), thread);
    let stats = part_stats(row, thread);
    if (!row.surplus && row.lane == 0u) {
        let at = params.parts_base + 4u * (row.index * PARTS + row.part);
        store_parts(at, stats.max);
        store_parts(at + 1u, stats.ties);
        store_parts(at + 2u, stats.rest);
        store_parts(at + 3u, f32(stats.poison));
    }
}
