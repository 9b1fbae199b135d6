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

var<workgroup> shared_sums: array<f32, WORKGROUP>;

fn upstream_quad(row: u32, c: u32, classes: u32, inner: u32) -> vec4<f32> {
    if (whole_quad(c, classes, inner)) {
        return load4_upstream(row + c);
    }
    var x = vec4<f32>();
    for (var k = 0u; k < min(4u, classes - c); k++) {
        x[k] = load_upstream(row + (c + k) * inner);
    }
    return x;
}

fn output_quad(row: u32, c: u32, classes: u32, inner: u32) -> vec4<f32> {
    if (whole_quad(c, classes, inner)) {
        return load4_output(row + c);
    }
    var x = vec4<f32>();
    for (var k = 0u; k < min(4u, classes - c); k++) {
        x[k] = load_output(row + (c + k) * inner);
    }
    return x;
}

// The sum of the terms over the row, with g counted from an origin. Every thread of the workgroup takes part.
fn row_sum(row: Row, thread: u32, classes: u32, origin: f32) -> f32 {
    var sum = 0.0;
    for (var c = row.lane * 4u; c < classes; c += LANES * 4u) {
        let g = upstream_quad(params.upstream_base + row.start, c, classes, params.inner);
        let y = output_quad(params.output_base + row.start, c, classes, params.inner);
        let x = row_term(y, g - origin);
        sum += (x.x + x.y) + (x.z + x.w);
    }
    if (LANES == 1u) {
        return sum;
    }
    shared_sums[thread] = sum;
    for (var distance = LANES / 2u; distance > 0u; distance /= 2u) {
        workgroupBarrier();
        if (row.lane < distance) {
            shared_sums[thread] += shared_sums[thread + distance];
        }
    }
    workgroupBarrier();
    sum = shared_sums[thread - row.lane];
    // Another sum may follow.
    workgroupBarrier();
    return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group_index(group, groups), thread, params.classes, params.inner);
    // Surplus rows take part in the barriers with no elements.
    let classes = select(0u, params.classes, row.index < params.rows);
    var origin = 0.0;
    if (REFINE) {
        let sum = row_sum(row, thread, classes, 0.0);
        // Not one that takes g past the largest number.
        origin = select(0.0, sum, (bitcast<u32>(sum) & 0x7fffffffu) < 0x71800000u);
    }
    let sum = row_sum(row, thread, classes, origin);
    for (var c = row.lane * 4u; c < classes; c += LANES * 4u) {
        let g = upstream_quad(params.upstream_base + row.start, c, classes, params.inner);
        let y = output_quad(params.output_base + row.start, c, classes, params.inner);
        let grad = row_grad(y, g - origin, sum);
        let to = params.grad_base + row.start;
        if (whole_quad(c, classes, params.inner)) {
            store4_grad(to + c, grad);
        } else {
            for (var k = 0u; k < min(4u, classes - c); k++) {
                store_grad(to + (c + k) * params.inner, grad[k]);
            }
        }
    }
}
