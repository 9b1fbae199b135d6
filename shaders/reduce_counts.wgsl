// Sums pairs of counts by blocks. Bindings: input, partials (both two words each).

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let block = group_index(group, groups);
    let start = min(block * params.block, params.count);
    let end = min(start + params.block, params.count);
    var counts = vec2<u32>();
    for (var i = start + thread; i < end; i += WORKGROUP) {
        let at = 2u * i;
        counts += vec2<u32>(load_input(at), load_input(at + 1u));
    }
    counts = combine_counts(thread, counts);
    if (thread == 0u && start < end) {
        store_partials(2u * block, counts.x);
        store_partials(2u * block + 1u, counts.y);
    }
}
