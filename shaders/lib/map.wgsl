// y = map(x), element by element; the shader that uses this defines fn map(x: f32) -> f32.
// Bindings: x, y.

fn map_quad(i: u32, n: u32) {
    let x = load_quad_x(i, 1u, n, 0.0);
    store_quad_y(i, 1u, n, vec4<f32>(map(x.x), map(x.y), map(x.z), map(x.w)));
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
            map_quad(i + q * STRIDE, 4u);
        }
    }
    for (var i = part.rest; i < part.end; i += STRIDE) {
        map_quad(i, part.end - i);
    }
}
