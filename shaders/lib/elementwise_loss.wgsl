// needs: element_weight partials turns wide
// An elementwise loss of two tensors of the same shape, with its gradient with respect to the
// first.
//
// A shader that needs this defines, for quads that start at element i of the dispatch,
//   fn element_loss(x: vec4<f32>, y: vec4<f32>, i: u32) -> vec4<f32>
//       the losses, with the weight
//   fn element_slope(x: vec4<f32>, y: vec4<f32>, i: u32, careful: bool) -> Slope
//       d loss / d x, without the weight and `params.scale`; if careful, lifted where it, or a step
//       on the way to it, could be subnormal. Numbers that are compared with a lifted number must
//       be lifted, too.
//   const SLOPE_LIFT: i32
//       lifted slopes are multiplied by 2^SLOPE_LIFT
//   fn in_range(x: vec4<f32>, y: vec4<f32>) -> vec4<bool>
//       where false, loss and gradient are NaN, and the position is reported
//
// Bindings: x, y, upstream (a scalar, two factors, or one per element), losses (absent if reduced),
// grad (absent if not requested), partials (a partial result per block).

const SUMS: u32 = 1u;

// 1: write the gradient.
override GRAD: u32;
// 1: write the losses of all elements.
override LOSSES: u32;
// 0: one upstream gradient for all elements; 1: one per element.
override UPSTREAM: u32;

struct Slope {
    value: vec4<f32>,
    // Whether `value` is 2^SLOPE_LIFT times the slope.
    lifted: vec4<bool>,
}

// Whether the gradient has a factor per element.
const OWN_FACTORS: bool = UPSTREAM == 1u || WEIGHTED == 1u;
// Whether there is a fast path, without bounds checks and for factors that need no care (`is_plain`).
const HAS_FAST_PATH: bool = GRAD == 0u || !OWN_FACTORS;

// The two factors (`multipliers`) common to all elements: for plain slopes (xy) and for lifted
// slopes (zw).
fn shared_multipliers(of_all: Wide, upstream: f32) -> vec4<f32> {
    let factor = times(of_all, wide(upstream));
    return vec4<f32>(multipliers(factor), multipliers(Wide(factor.significand, factor.exponent - SLOPE_LIFT)));
}

// Whether the common factor of plain slopes is a single number of at most 2 in magnitude. If so,
// subnormal slopes may be flushed.
fn is_plain(factors: vec4<f32>) -> bool {
    return abs(factors.x) <= 2.0 && factors.y == 1.0;
}

// The two factors (`multipliers`) of an element if the gradient has a factor per element.
fn own_multipliers(of_all: Wide, upstream: f32, weight: f32, lifted: bool) -> vec2<f32> {
    let factor = times(of_all, times(wide(upstream), wide(weight)));
    return multipliers(Wide(factor.significand, factor.exponent - select(0, SLOPE_LIFT, lifted)));
}

struct Factors {
    // The factor common to all elements, without `upstream`.
    of_all: Wide,
    upstream: f32,
    // The result of `shared_multipliers` (xy: plain slopes, zw: lifted slopes); unused with
    // OWN_FACTORS.
    shared_factors: vec4<f32>,
}

// The gradient of the quad at element i, by one thread.
fn grad_of(slope: Slope, upstream: vec4<f32>, i: u32, factors: Factors) -> vec4<f32> {
    if (!OWN_FACTORS) {
        let pairs = factors.shared_factors;
        let first = select(vec4<f32>(pairs.x), vec4<f32>(pairs.z), slope.lifted);
        let second = select(vec4<f32>(pairs.y), vec4<f32>(pairs.w), slope.lifted);
        return slope.value * first * second;
    }
    // These branches are always taken. Without them, SwiftShader takes minutes to compile this.
    let weight = element_weights(i);
    var first = vec4<f32>();
    var second = vec4<f32>();
    for (var k = 0u; k < 4u; k++) { // unrolled
        if (i < params.count) {
            let own = own_multipliers(factors.of_all, upstream[k], weight[k], slope.lifted[k]);
            first[k] = own.x;
            second[k] = own.y;
        }
    }
    return slope.value * first * second;
}

// Processes the quad at element i, whose first min(n, 4) elements exist, by one thread: stores
// losses and gradient, and returns the sum of the losses and the first position that is out of
// range. Padding is processed like other elements, but not added to the sum.
fn losses_of_quad(i: u32, n: u32, factors: Factors, careful: bool) -> QuadResult {
    let x = load_quad_x(i, 1u, n, 0.0);
    let y = load_quad_y(i, 1u, n, 0.0);
    let fine = in_range(x, y);
    let offsets = vec4<u32>(0u, 1u, 2u, 3u);
    let inside = offsets < vec4<u32>(n);
    let bad = select(vec4<u32>(NONE), params.first + i + offsets, inside & !fine);
    let loss = select(vec4<f32>(nan()), element_loss(x, y, i), fine);
    if (LOSSES == 1u) {
        store_quad_losses(i, 1u, n, loss);
    }
    if (GRAD == 1u) {
        var upstream = vec4<f32>(factors.upstream);
        if (UPSTREAM == 1u) {
            upstream = load_quad_upstream(i, 1u, n, 0.0);
        }
        let grad = grad_of(element_slope(x, y, i, careful), upstream, i, factors);
        store_quad_grad(i, 1u, n, select(vec4<f32>(nan()), grad, fine));
    }
    let counted = select(vec4<f32>(0.0), loss, inside);
    let sum = (counted.x + counted.y) + (counted.z + counted.w);
    return QuadResult(sum, min(min(bad.x, bad.y), min(bad.z, bad.w)));
}

// A sum of losses, and the first position that is out of range.
struct QuadResult {
    sum: f32,
    bad: u32,
}

// Each thread processes quads of its workgroup's block of the flat tensors x, y, upstream, losses
// and grad. All threads of the workgroup take part in the reduction; the first stores the block's
// row of `partials` [blocks, 3].
fn body(block: u32, thread: u32) {
    let range = thread_range(block, thread);
    let upstream = load_upstream(0u);
    var factors = Factors(wide(params.scale), upstream, vec4<f32>());
    var plain = HAS_FAST_PATH;
    if (GRAD == 1u) {
        if (params.upstream_is_factored == 1u) {
            factors.of_all = times(factors.of_all, wide(load_upstream(1u)));
        }
        if (!OWN_FACTORS) {
            factors.shared_factors = shared_multipliers(factors.of_all, upstream);
            plain = is_plain(factors.shared_factors);
        }
    }
    var sum = 0.0;
    var first_bad = NONE;
    var of_run = 0.0;
    var quads = 0u;
    if (HAS_FAST_PATH) {
        for (var i = range.runs; i < select(range.runs, range.runs_end, plain); i += STRIDE) {
            let result = losses_of_quad(i, 4u, factors, false);
            of_run += result.sum;
            first_bad = min(first_bad, result.bad);
            quads += 1u;
            if (QUADS == 1u || quads == QUADS) {
                sum += of_run;
                of_run = 0.0;
                quads = 0u;
            }
        }
    }
    // The rest of the block, or, without the fast path, all of it in the same order of additions.
    for (var i = select(range.runs, range.rest, plain); i < range.end; i += STRIDE) {
        let result = losses_of_quad(i, range.end - i, factors, true);
        of_run += result.sum;
        first_bad = min(first_bad, result.bad);
        quads += 1u;
        if (quads == QUADS || i >= range.runs_end) {
            sum += of_run;
            of_run = 0.0;
            quads = 0u;
        }
    }
    sums[0] = Sum(sum, 0.0);
    bad = first_bad;
    combine_sums(thread);
    if (thread == 0u && block * params.block < params.count) {
        store_partial(block);
    }
}
