// Repeats a dimension: output[outer, size, inner] = input[outer, inner]. A row has `inner` elements; the output has each of the
// input's `size` times. Bindings: input, output.

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
        store_output(i, load_input(row * params.inner + i % params.inner));
    }
}
