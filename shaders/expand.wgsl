// Repeats a dimension: output[outer, size, inner] = input[outer, inner]. A row has `inner` elements; the output has each of the
// input's `size` times. Bindings: input, output.

struct Params {
    // Elements of the output, and how many of them a workgroup writes.
    count: u32,
    block: u32,
    // The output's first row, counted from the copies of the input's first.
    first: u32,
    size: u32,
    inner: u32,
    input_base: u32,
    output_base: u32,
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let start = min(group_index(group, groups) * params.block, params.count);
    let end = min(start + params.block, params.count);
    for (var i = start + thread; i < end; i += WORKGROUP) {
        let row = (params.first + i / params.inner) / params.size;
        store_output(params.output_base + i, load_input(params.input_base + row * params.inner + i % params.inner));
    }
}
