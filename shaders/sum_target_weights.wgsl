// needs: numerics sum_blocks
// Sums, by blocks, the weights of the targets that are not ignored, and finds the first target that is no class. A target's weight
// is its position's times its class's; at a position of weight 0 it may be anything. Or it is 1 for all that are not the ignored index.
// Bindings: targets, weight (one element, or one a class), position_weight (one element, or one a target), partials (three words a
// block).

const SUMS: u32 = 1u;

fn add_element(i: u32) {
    let t = load_targets(i);
    let position_weight = load_position_weight(i * params.position_weight_stride);
    if (t != params.ignore_index && params.by_count == 1u) {
        sums[0] = plus(sums[0], 1.0);
    }
    if (t != params.ignore_index && !is_zero(position_weight)) {
        if (t < 0 || u32(t) >= params.classes) {
            bad = min(bad, params.first + i);
        } else if (params.by_count == 0u) {
            sums[0] = plus(sums[0], position_weight * load_weight(u32(t) * params.weight_stride));
        }
    }
}

fn end_block(block: u32, thread: u32) {}
