// A loss of two tensors of one shape, element by element, with its gradient with respect to the first.
//
// The shader that uses this defines, for quads of elements of which the first is element i of the dispatch,
//   fn element_loss(x: vec4<f32>, y: vec4<f32>, i: u32) -> vec4<f32>
//   fn element_slope(x: vec4<f32>, y: vec4<f32>, i: u32, careful: bool) -> Slope     d loss / d x, but for the weight and `params.scale`;
//                                                                if careful, also where it would be subnormal
//   const SLOPE_LIFT: i32                                        what very small slopes are multiplied with: so many twos
//   fn in_range(x: vec4<f32>, y: vec4<f32>) -> vec4<bool>        false: loss and gradient are NaN, the position is reported
//
// Bindings: x, y, upstream (one element, two factors of it, or one for each), losses (absent unless unreduced), grad (absent if not wanted),
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
    // 1: the upstream gradient is the product of two numbers.
    upstream_factors: u32,
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

struct Slope {
    value: vec4<f32>,
    // Where it is 2^SLOPE_LIFT times the slope.
    lifted: vec4<bool>,
}

// Elements have factors of their own.
const OWN_FACTORS: bool = UPSTREAM == 1u || WEIGHTED == 1u;
// Their gradients are long code, which is there once.
const BY_TURNS: bool = GRAD == 0u || !OWN_FACTORS;

// What the slopes of all elements are multiplied with: first the one, then the other; for slopes as they are (xy), and for lifted ones (zw).
fn shared_multipliers(of_all: Wide, upstream: f32) -> vec4<f32> {
    let factor = times(of_all, wide(upstream));
    return vec4<f32>(multipliers(factor), multipliers(Wide(factor.significand, factor.exponent - SLOPE_LIFT)));
}

// Whether that makes nothing larger than twice what it is, and is one number: then there is nothing to be careful about.
fn is_plain(factors: vec4<f32>) -> bool {
    return abs(factors.x) <= 2.0 && factors.y == 1.0;
}

// Those of an element with a factor of its own.
fn own_multipliers(of_all: Wide, upstream: f32, weight: f32, lifted: bool) -> vec2<f32> {
    let factor = times(of_all, times(wide(upstream), wide(weight)));
    return multipliers(Wide(factor.significand, factor.exponent - select(0, SLOPE_LIFT, lifted)));
}

struct Factors {
    // Of all elements. Where they have factors of their own, without the upstream gradient.
    of_all: Wide,
    upstream: f32,
    shared_ones: vec4<f32>,
}

fn grad_of(slope: Slope, upstream: vec4<f32>, i: u32, factors: Factors, careful: bool) -> vec4<f32> {
    let ones = factors.shared_ones;
    if (!careful) {
        return slope.value * select(vec4<f32>(ones.x), vec4<f32>(ones.z), slope.lifted);
    }
    if (!OWN_FACTORS) {
        let first = select(vec4<f32>(ones.x), vec4<f32>(ones.z), slope.lifted);
        let second = select(vec4<f32>(ones.y), vec4<f32>(ones.w), slope.lifted);
        return slope.value * first * second;
    }
    // Branches that are always taken: SwiftShader takes minutes to compile that much without one.
    let weight = element_weights(i);
    var first = vec4<f32>();
    var second = vec4<f32>();
    if (i < params.count) {
        let own = own_multipliers(factors.of_all, upstream.x, weight.x, slope.lifted.x);
        first.x = own.x;
        second.x = own.y;
    }
    if (i < params.count) {
        let own = own_multipliers(factors.of_all, upstream.y, weight.y, slope.lifted.y);
        first.y = own.x;
        second.y = own.y;
    }
    if (i < params.count) {
        let own = own_multipliers(factors.of_all, upstream.z, weight.z, slope.lifted.z);
        first.z = own.x;
        second.z = own.y;
    }
    if (i < params.count) {
        let own = own_multipliers(factors.of_all, upstream.w, weight.w, slope.lifted.w);
        first.w = own.x;
        second.w = own.y;
    }
    return slope.value * first * second;
}

// Elements of a quad that has not all four are worked on like the others, as zeros, and left out of the sum.
fn losses_of_quad(i: u32, n: u32, factors: Factors, careful: bool) -> Found {
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
        var upstream = vec4<f32>(factors.upstream);
        if (UPSTREAM == 1u) {
            upstream = load_quad_upstream(params.upstream_base + i, 1u, n, 0.0);
        }
        let grad = grad_of(element_slope(x, y, i, careful), upstream, i, factors, careful);
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
    let upstream = load_upstream(params.upstream_base);
    var factors = Factors(wide(params.scale), upstream, vec4<f32>());
    var plain = BY_TURNS;
    if (GRAD == 1u) {
        if (params.upstream_factors == 1u) {
            factors.of_all = times(factors.of_all, wide(load_upstream(params.upstream_base + 1u)));
        }
        if (!OWN_FACTORS) {
            factors.shared_ones = shared_multipliers(factors.of_all, upstream);
            plain = is_plain(factors.shared_ones);
        }
    }
    var sum = 0.0;
    var bad = NONE;
    if (BY_TURNS) {
        for (var i = part.turns; i < select(part.turns, part.turns_end, plain); i += TURN) {
            var turn = 0.0;
            for (var q = 0u; q < QUADS; q++) { // unrolled
                let found = losses_of_quad(i + q * STRIDE, 4u, factors, false);
                turn += found.sum;
                bad = min(bad, found.bad);
            }
            sum += turn;
        }
    }
    // What is left; or everything, with the sums of the turns.
    var of_turn = 0.0;
    var quads = 0u;
    for (var i = select(part.turns, part.rest, plain); i < part.end; i += STRIDE) {
        let found = losses_of_quad(i, part.end - i, factors, true);
        of_turn += found.sum;
        bad = min(bad, found.bad);
        quads += 1u;
        if (quads == QUADS || i >= part.turns_end) {
            sum += of_turn;
            of_turn = 0.0;
            quads = 0u;
        }
    }
    let partial = combine(thread, Sum(sum, 0.0), bad);
    if (thread == 0u && block * params.block < params.count) {
        store_partials(params.partials_base + 3u * block, partial.x);
        store_partials(params.partials_base + 3u * block + 1u, partial.y);
        store_partials(params.partials_base + 3u * block + 2u, partial.z);
    }
}
