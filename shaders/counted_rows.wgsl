// needs: by_element numerics
// Copies rows, those of ignored tokens as 0: whatever such a row holds, it must not meet the 0 that is its token's gradient.
// Bindings: x [tokens, columns], targets (absent without class indices), position_weight (one element, or one a token), y like x.

// 0: class indices; 1: probabilities.
override TARGETS: u32;

fn element(i: u32) {
    let token = (params.first + i) / params.columns;
    var ignored = is_zero(load_position_weight(token * params.position_weight_stride));
    if (TARGETS == 0u) {
        ignored |= load_targets(token) == params.ignore_index;
    }
    store_y(i, select(load_x(i), 0.0, ignored));
}
