// y = map(x), element by element; the shader that uses this defines fn map(x: f32) -> f32.
// Bindings: x, y.

struct Params {
    count: u32,
    // Elements that a workgroup maps.
    block: u32,
    x_base: u32,
    y_base: u32,
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
            let x = load4_x(params.x_base + i);
            store4_y(params.y_base + i, vec4<f32>(map(x.x), map(x.y), map(x.z), map(x.w)));
        } else {
            for (var k = i; k < end; k++) {
                store_y(params.y_base + k, map(load_x(params.x_base + k)));
            }
        }
    }
}
