// Maps rows of logits by their softmax statistics; the shader that uses this defines
//   fn row_scalar(stats: RowStats) -> f32                               what all its elements need
//   fn row_value(x: vec4<f32>, m: f32, scalar: f32) -> vec4<f32>        given the maximum m and that scalar
// Bindings: logits [outer, classes, inner], output the same.

struct Params {
    rows: u32,
    classes: u32,
    inner: u32,
    logits_base: u32,
    output_base: u32,
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    var row = row_of(group_index(group, groups), thread, params.classes, params.inner);
    let inside = row.index < params.rows;
    let start = row.start;
    row.start += params.logits_base;
    // Surplus rows take part in the barriers with no elements.
    let classes = select(0u, params.classes, inside);
    let stats = row_stats(row, thread, classes, params.inner);
    let scalar = row_scalar(stats);
    let poison = no_softmax(stats);
    for (var c = row.lane * 4u; c < classes; c += LANES * 4u) {
        let x = logits_quad(row.start, c, classes, params.inner);
        let y = select(row_value(x, stats.max, scalar), vec4<f32>(nan()), poison);
        let to = params.output_base + start;
        if (whole_quad(c, classes, params.inner)) {
            store4_output(to + c, y);
        } else {
            for (var k = 0u; k < min(4u, classes - c); k++) {
                store_output(to + (c + k) * params.inner, y[k]);
            }
        }
    }
}
