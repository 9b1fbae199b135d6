// Sums, by blocks, the weights of the targets that are not ignored, and finds the first target that is no class. A target's weight
// is its position's times its class's; at a position of weight 0 it may be anything. Or it is 1 for all that are not the ignored index.
// Bindings: targets, weight (one element, or one a class), position_weight (one element, or one a target), partials (three words a
// block).

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let block = group_index(group, groups);
    let start = min(block * params.block, params.count);
    let end = min(start + params.block, params.count);
    var sum = Sum(0.0, 0.0);
    var bad = NONE;
    for (var i = start + thread; i < end; i += WORKGROUP) {
        let t = load_targets(i);
        let position_weight = load_position_weight(i * params.position_weight_stride);
        if (t != params.ignore_index && params.by_count == 1u) {
            sum = plus(sum, 1.0);
        }
        if (t != params.ignore_index && !is_zero(position_weight)) {
            if (t < 0 || u32(t) >= params.classes) {
                bad = min(bad, params.first + i);
            } else if (params.by_count == 0u) {
                sum = plus(sum, position_weight * load_weight(u32(t) * params.weight_stride));
            }
        }
    }
    let partial = combine(thread, sum, bad);
    if (thread == 0u && start < end) {
        store_partials(3u * block, partial.x);
        store_partials(3u * block + 1u, partial.y);
        store_partials(3u * block + 2u, partial.z);
    }
}
