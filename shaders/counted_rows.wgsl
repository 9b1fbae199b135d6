// Copies rows, those of ignored tokens as 0: whatever such a row holds, it must not meet the 0 that is its token's gradient.
// Bindings: x [tokens, columns], targets (absent without class indices), position_weight (one element, or one a token), y like x.

// 0: class indices; 1: probabilities.
override TARGETS: u32;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let start = min(group_index(group, groups) * params.block, params.count);
    let end = min(start + params.block, params.count);
    for (var i = start + thread; i < end; i += WORKGROUP) {
        let token = (params.first + i) / params.columns;
        var ignored = is_zero(load_position_weight(token * params.position_weight_stride));
        if (TARGETS == 0u) {
            ignored |= load_targets(token) == params.ignore_index;
        }
        store_y(i, select(load_x(i), 0.0, ignored));
    }
}
