// The gradient of a map of rows, from its output y and the upstream gradient g; the shader that uses this defines
//   const REFINE: bool                                                 sum again, with g counted from the first sum
//   fn row_term(y: vec4<f32>, g: vec4<f32>) -> vec4<f32>               what is summed over the row
//   fn row_grad(y: vec4<f32>, g: vec4<f32>, sum: f32) -> vec4<f32>     the gradient, given that sum
// Bindings: output, upstream, grad, all [outer, classes, inner].

struct Params {
    rows: u32,
    classes: u32,
    inner: u32,
    output_base: u32,
    upstream_base: u32,
    grad_base: u32,
}

fn upstream_quad(row: Row, i: u32, j: u32, inside: bool) -> vec4<f32> {
    let c = quad_start(row, i, j);
    let at = params.upstream_base + row.start + c * params.inner;
    return load_quad_upstream(at, params.inner, room_at(inside, c), 0.0);
}

fn output_quad(row: Row, i: u32, j: u32, inside: bool) -> vec4<f32> {
    let c = quad_start(row, i, j);
    let at = params.output_base + row.start + c * params.inner;
    return load_quad_output(at, params.inner, room_at(inside, c), 0.0);
}

fn sum_block(row: Row, i: u32, inside: bool, origin: f32) -> f32 {
    var sum = vec4<f32>();
    for (var j = 0u; j < 4u; j++) { // unrolled if WHOLE
        sum += row_term(output_quad(row, i, j, inside), upstream_quad(row, i, j, inside) - origin);
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}

// The sum of the terms over the row, with g counted from an origin. Every thread of the workgroup takes part.
fn row_sum(row: Row, thread: u32, origin: f32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < row.whole; i++) {
        sum += sum_block(row, i, true, origin);
    }
    for (var i = row.whole; i < row.blocks; i++) {
        sum += sum_block(row, i, false, origin);
    }
    return sum_across(thread, vec2<f32>(sum, 0.0), LANES).x;
}

fn grad_block(row: Row, i: u32, inside: bool, origin: f32, sum: f32) {
    for (var j = 0u; j < 4u; j++) { // unrolled if WHOLE
        let c = quad_start(row, i, j);
        let grad = row_grad(output_quad(row, i, j, inside), upstream_quad(row, i, j, inside) - origin, sum);
        let to = params.grad_base + row.start + c * params.inner;
        store_quad_grad(to, params.inner, room_at(inside, c), grad);
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group_index(group, groups), thread);
    var origin = 0.0;
    // Halves do not add up to 1 as closely as an origin needs.
    if (REFINE && !HALVES) {
        let sum = row_sum(row, thread, 0.0);
        // Not one that takes g past the largest number.
        origin = select(0.0, sum, (bitcast<u32>(sum) & 0x7fffffffu) < 0x71800000u);
    }
    let sum = row_sum(row, thread, origin);
    if (row.surplus) {
        return;
    }
    for (var i = 0u; i < row.whole; i++) {
        grad_block(row, i, true, origin, sum);
    }
    for (var i = row.whole; i < row.blocks; i++) {
        grad_block(row, i, false, origin, sum);
    }
}
