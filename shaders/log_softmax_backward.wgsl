// grad = upstream - exp(log_probs) * (sum of upstream), per row.
// Bindings: log_probs, upstream, grad, all [outer, classes, inner].

struct Params {
    rows: u32,
    classes: u32,
    inner: u32,
    log_probs_base: u32,
    upstream_base: u32,
    grad_base: u32,
}

var<workgroup> shared_sums: array<f32, WORKGROUP>;

fn upstream_quad(row: u32, c: u32, classes: u32, inner: u32) -> vec4<f32> {
    if (inner == 1u && c + 4u <= classes) {
        return load4_upstream(row + c);
    }
    var x = vec4<f32>();
    for (var k = 0u; k < min(4u, classes - c); k++) {
        x[k] = load_upstream(row + (c + k) * inner);
    }
    return x;
}

fn log_probs_quad(row: u32, c: u32, classes: u32, inner: u32) -> vec4<f32> {
    if (inner == 1u && c + 4u <= classes) {
        return load4_log_probs(row + c);
    }
    var x = vec4<f32>();
    for (var k = 0u; k < min(4u, classes - c); k++) {
        x[k] = load_log_probs(row + (c + k) * inner);
    }
    return x;
}

fn row_sum(row: Row, thread: u32, start: u32, classes: u32) -> f32 {
    var sum = 0.0;
    for (var c = row.lane * 4u; c < classes; c += LANES * 4u) {
        let x = upstream_quad(start, c, classes, params.inner);
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
    return shared_sums[thread - row.lane];
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
    let sum = row_sum(row, thread, params.upstream_base + row.start, classes);
    for (var c = row.lane * 4u; c < classes; c += LANES * 4u) {
        let g = upstream_quad(params.upstream_base + row.start, c, classes, params.inner);
        let y = log_probs_quad(params.log_probs_base + row.start, c, classes, params.inner);
        let p = vec4<f32>(exp_f32(y.x), exp_f32(y.y), exp_f32(y.z), exp_f32(y.w));
        let grad = g - p * sum;
        let to = params.grad_base + row.start;
        if (params.inner == 1u && c + 4u <= classes) {
            store4_grad(to + c, grad);
        } else {
            for (var k = 0u; k < min(4u, classes - c); k++) {
                store_grad(to + (c + k) * params.inner, grad[k]);
            }
        }
    }
}
