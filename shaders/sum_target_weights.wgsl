// needs: numerics sum_blocks
// Sums the weights of the targets that are not ignored, and finds the first invalid target, one
// that is no class. The weight of a target is the product of its position weight and its class
// weight, or 1 if targets are counted. At positions of weight 0, targets are not checked.
// Bindings: targets, weight (scalar, or one per class), position_weight (scalar, or one per
// target).

const SUMS: u32 = 1u;

// Adds the weight of target i to the thread's sum.
fn add_element(i: u32) {
    let t = load_targets(i);
    let position_weight = load_position_weight(i * params.position_weight_stride);
    if (t != params.ignored && params.by_count == 1u) {
        sums[0] = plus(sums[0], 1.0);
    }
    if (t != params.ignored && !is_zero(position_weight)) {
        if (t < 0 || u32(t) >= params.classes) {
            bad = min(bad, params.first + i);
        } else if (params.by_count == 0u) {
            sums[0] = plus(sums[0], position_weight * load_weight(u32(t) * params.weight_stride));
        }
    }
}

fn end_block(block: u32, thread: u32) {}
