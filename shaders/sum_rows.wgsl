// Sums rows: output[outer, inner] = the sum of input[outer, classes, inner] over the classes. Bindings: input, output.

struct Params {
    rows: u32,
    classes: u32,
    inner: u32,
    input_base: u32,
    output_base: u32,
}

// Elements that a thread sums before it adds them to the rest: errors grow with the square root of a row's length at most.
const RUN: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group_index(group, groups), thread);
    var sum = 0.0;
    for (var first = row.lane; first < classes(); first += RUN * LANES) {
        var run = 0.0;
        for (var c = first; c < min(first + RUN * LANES, classes()); c += LANES) {
            run += load_input(params.input_base + row.start + c * params.inner);
        }
        sum += run;
    }
    sum = sum_across(thread, vec2<f32>(sum, 0.0), LANES).x;
    if (!row.surplus && row.lane == 0u) {
        store_output(params.output_base + row.index, sum);
    }
}
