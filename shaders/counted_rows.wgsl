// Copies rows, those of ignored tokens as 0: whatever such a row holds, it must not meet the 0 that is its token's gradient.
// Bindings: x [tokens, columns], targets (absent without class indices), position_weight (one element, or one a token), y like x.

struct Params {
    // Elements of this dispatch, and where the first of them lies among those of the tokens.
    count: u32,
    first: u32,
    // Elements that a workgroup copies.
    block: u32,
    columns: u32,
    x_base: u32,
    targets_base: u32,
    position_weight_base: u32,
    // 0: one weight for all tokens.
    position_weight_stride: u32,
    y_base: u32,
    ignore_index: i32,
}

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
        var ignored = is_zero(load_position_weight(params.position_weight_base + token * params.position_weight_stride));
        if (TARGETS == 0u) {
            ignored |= load_targets(params.targets_base + token) == params.ignore_index;
        }
        store_y(params.y_base + i, select(load_x(params.x_base + i), 0.0, ignored));
    }
}
