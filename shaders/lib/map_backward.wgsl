// grad = map_backward(y, upstream), element by element, where y is what the forward map gave; the shader that uses this
// defines fn map_backward(y: f32, upstream: f32) -> f32. Bindings: y, upstream, grad.

struct Params {
    count: u32,
    // Elements that a workgroup maps.
    block: u32,
    y_base: u32,
    upstream_base: u32,
    grad_base: u32,
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let start = min(group_index(group, groups) * params.block, params.count);
    let end = min(start + params.block, params.count);
    for (var i = start + thread * 4u; i < end; i += WORKGROUP * 4u) {
        if (i + 4u <= end) {
            let y = load4_y(params.y_base + i);
            let g = load4_upstream(params.upstream_base + i);
            let grad = vec4<f32>(
                map_backward(y.x, g.x),
                map_backward(y.y, g.y),
                map_backward(y.z, g.z),
                map_backward(y.w, g.w),
            );
            store4_grad(params.grad_base + i, grad);
        } else {
            for (var k = i; k < end; k++) {
                let grad = map_backward(load_y(params.y_base + k), load_upstream(params.upstream_base + k));
                store_grad(params.grad_base + k, grad);
            }
        }
    }
}
