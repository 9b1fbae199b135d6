// A loss of two tensors of one shape, element by element, with its gradient with respect to the first.
//
// The shader that uses this defines, for quads of elements of which the first is element i of the dispatch,
//   fn element_loss(x: vec4<f32>, y: vec4<f32>, i: u32) -> vec4<f32>
//   fn element_grad(x: vec4<f32>, y: vec4<f32>, i: u32) -> vec4<f32>     d loss / d x, but for `params.scale`
//   fn in_range(x: vec4<f32>, y: vec4<f32>) -> vec4<bool>        false: loss and gradient are NaN, the position is reported
//
// Bindings: x, y, upstream (one element, or one for each), losses (absent unless unreduced), grad (absent if not wanted),
// partials (three words a block).

struct Params {
    // Elements of this dispatch, and where the first of them lies in the whole tensor.
    count: u32,
    first: u32,
    // Elements of a block: what a workgroup sums.
    block: u32,
    x_base: u32,
    y_base: u32,
    losses_base: u32,
    grad_base: u32,
    upstream_base: u32,
    partials_base: u32,
    // What the gradient is multiplied with: the loss's own factor, divided by n for a mean.
    scale: f32,
    // Element i of the dispatch has weight ((first + i) / inner) % size; the same for the positive targets' weight.
    weight_base: u32,
    weight_first: u32,
    weight_inner: u32,
    weight_size: u32,
    pos_weight_base: u32,
    pos_weight_first: u32,
    pos_weight_inner: u32,
    pos_weight_size: u32,
    zero: u32,
}

// 1: write the gradient.
override GRAD: u32;
// 1: write every element's loss.
override LOSSES: u32;
// 1: there is an upstream gradient for each element; 0: one for all.
override UPSTREAM: u32;

// w * loss, where a weight of 0 wins over an infinite loss.
fn weigh(w: f32, loss: f32) -> f32 {
    return select(w * loss, 0.0, is_zero(w) && is_infinite(loss));
}

// Elements of a quad that has not all four are worked on like the others, as zeros, and left out of the sum.
fn losses_of_quad(i: u32, n: u32, shared_upstream: f32) -> Found {
    let x = load_quad_x(params.x_base + i, 1u, n, 0.0);
    let y = load_quad_y(params.y_base + i, 1u, n, 0.0);
    let fine = in_range(x, y);
    let lanes = vec4<u32>(0u, 1u, 2u, 3u);
    let inside = lanes < vec4<u32>(n);
    let bad = select(vec4<u32>(NONE), params.first + i + lanes, inside & !fine);
    let loss = select(vec4<f32>(nan()), element_loss(x, y, i), fine);
    if (LOSSES == 1u) {
        store_quad_losses(params.losses_base + i, 1u, n, loss);
    }
    if (GRAD == 1u) {
        var upstream = vec4<f32>(shared_upstream);
        if (UPSTREAM == 1u) {
            upstream = load_quad_upstream(params.upstream_base + i, 1u, n, 0.0);
        }
        let grad = element_grad(x, y, i) * (upstream * params.scale);
        store_quad_grad(params.grad_base + i, 1u, n, select(vec4<f32>(nan()), grad, fine));
    }
    let counted = select(vec4<f32>(0.0), loss, inside);
    let sum = (counted.x + counted.y) + (counted.z + counted.w);
    return Found(sum, min(min(bad.x, bad.y), min(bad.z, bad.w)));
}

// A sum of losses, and the first position out of range.
struct Found {
    sum: f32,
    bad: u32,
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let block = group_index(group, groups);
    let part = part_of(block, thread);
    let shared_upstream = load_upstream(params.upstream_base);
    var sum = 0.0;
    var bad = NONE;
    for (var i = part.turns; i < part.turns_end; i += TURN) {
        var turn = 0.0;
        for (var q = 0u; q < QUADS; q++) { // unrolled
            let found = losses_of_quad(i + q * STRIDE, 4u, shared_upstream);
            turn += found.sum;
            bad = min(bad, found.bad);
        }
        sum += turn;
    }
    for (var i = part.rest; i < part.end; i += STRIDE) {
        let found = losses_of_quad(i, part.end - i, shared_upstream);
        sum += found.sum;
        bad = min(bad, found.bad);
    }
    let partial = combine(thread, Sum(sum, 0.0), bad);
    if (thread == 0u && block * params.block < params.count) {
        store_partials(params.partials_base + 3u * block, partial.x);
        store_partials(params.partials_base + 3u * block + 1u, partial.y);
        store_partials(params.partials_base + 3u * block + 2u, partial.z);
    }
}
