// A loss of two tensors of one shape, element by element, with its gradient with respect to the first.
//
// The shader that uses this defines, for quads of elements of which the first is element i of the dispatch,
//   fn element_loss(x: vec4<f32>, y: vec4<f32>, i: u32) -> vec4<f32>
//   fn element_grad(x: vec4<f32>, y: vec4<f32>, i: u32) -> vec4<f32>     d loss / d x, but for `params.scale`
//   fn in_range(x: vec4<f32>, y: vec4<f32>) -> vec4<bool>        false: loss and gradient are NaN, the position is reported
//
// Bindings: x, y, upstream (one element, or one for each), losses (absent unless unreduced), grad (absent if not wanted),
// partials (two words a block).

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
    // 0: one upstream gradient for all elements; 1: one for each.
    upstream_stride: u32,
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
}

// 1: write the gradient.
override GRAD: u32;
// 1: write every element's loss.
override LOSSES: u32;

// w * loss, where a weight of 0 wins over an infinite loss.
fn weigh(w: f32, loss: f32) -> f32 {
    return select(w * loss, 0.0, is_zero(w) && is_infinite(loss));
}

fn x_quad(i: u32, n: u32) -> vec4<f32> {
    if (n == 4u) {
        return load4_x(params.x_base + i);
    }
    var x = vec4<f32>();
    for (var k = 0u; k < n; k++) {
        x[k] = load_x(params.x_base + i + k);
    }
    return x;
}

fn y_quad(i: u32, n: u32) -> vec4<f32> {
    if (n == 4u) {
        return load4_y(params.y_base + i);
    }
    var y = vec4<f32>();
    for (var k = 0u; k < n; k++) {
        y[k] = load_y(params.y_base + i + k);
    }
    return y;
}

fn put_losses(i: u32, n: u32, v: vec4<f32>) {
    if (n == 4u) {
        store4_losses(params.losses_base + i, v);
        return;
    }
    for (var k = 0u; k < n; k++) {
        store_losses(params.losses_base + i + k, v[k]);
    }
}

fn put_grad(i: u32, n: u32, v: vec4<f32>) {
    if (n == 4u) {
        store4_grad(params.grad_base + i, v);
        return;
    }
    for (var k = 0u; k < n; k++) {
        store_grad(params.grad_base + i + k, v[k]);
    }
}

fn upstream_quad(i: u32, n: u32) -> vec4<f32> {
    var u = vec4<f32>();
    for (var k = 0u; k < n; k++) {
        u[k] = load_upstream(params.upstream_base + (i + k) * params.upstream_stride);
    }
    return u;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let block = group_index(group, groups);
    let start = min(block * params.block, params.count);
    let end = min(start + params.block, params.count);
    var sum = 0.0;
    var bad = NONE;
    for (var i = start + thread * 4u; i < end; i += WORKGROUP * 4u) {
        let n = min(4u, end - i);
        let x = x_quad(i, n);
        let y = y_quad(i, n);
        let fine = in_range(x, y);
        let inside = vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(n);
        let outside = inside & !fine;
        for (var k = 0u; k < n; k++) {
            if (outside[k]) {
                bad = min(bad, params.first + i + k);
            }
        }
        var loss = select(vec4<f32>(nan()), element_loss(x, y, i), fine);
        loss = select(vec4<f32>(0.0), loss, inside);
        sum += (loss.x + loss.y) + (loss.z + loss.w);
        if (LOSSES == 1u) {
            put_losses(i, n, loss);
        }
        if (GRAD == 1u) {
            let grad = element_grad(x, y, i) * (upstream_quad(i, n) * params.scale);
            put_grad(i, n, select(vec4<f32>(nan()), grad, fine));
        }
    }
    let partial = combine(thread, sum, bad);
    if (thread == 0u && start < end) {
        store_partials(params.partials_base + 2u * block, partial.x);
        store_partials(params.partials_base + 2u * block + 1u, partial.y);
    }
}
