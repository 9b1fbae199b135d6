// needs: by_element numerics
// Copies rows, replacing the rows of ignored tokens by 0: NaN or infinity in such a row must not be
// multiplied by the token's gradient of 0.
// Bindings: x and y [tokens, columns], targets [tokens] (absent for probabilities), position_weight
// (scalar, or [tokens]).

// 0: class indices; 1: probabilities.
override TARGETS: u32;

fn element(i: u32) {
    let token = (params.first + i) / params.columns;
    var ignored = is_zero(load_position_weight(token * params.position_weight_stride));
    if (TARGETS == 0u) {
        ignored |= load_targets(token) == params.ignored;
    }
    store_y(i, select(load_x(i), 0.0, ignored));
}
