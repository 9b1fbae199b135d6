// grad = map_backward(y, upstream), element by element, where y is what the forward map gave; the shader that uses this
// defines fn map_backward(y: f32, upstream: f32) -> f32. Bindings: y, upstream, grad.

fn map_backward_quad(i: u32, n: u32) {
    let y = load_quad_y(i, 1u, n, 0.0);
    let g = load_quad_upstream(i, 1u, n, 0.0);
    let grad = vec4<f32>(
        map_backward(y.x, g.x),
        map_backward(y.y, g.y),
        map_backward(y.z, g.z),
        map_backward(y.w, g.w),
    );
    store_quad_grad(i, 1u, n, grad);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let part = part_of(group_index(group, groups), thread);
    for (var i = part.turns; i < part.turns_end; i += TURN) {
        for (var q = 0u; q < QUADS; q++) { // unrolled
            map_backward_quad(i + q * STRIDE, 4u);
        }
    }
    for (var i = part.rest; i < part.end; i += STRIDE) {
        map_backward_quad(i, part.end - i);
    }
}
