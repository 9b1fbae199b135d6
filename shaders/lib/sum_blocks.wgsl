// needs: partials
// Sums elements by blocks, in a fixed order. The shader that uses this defines
//   const SUMS: u32                              how many sums there are
//   fn add_element(i: u32)                       adds element i to `sums`, and its position to `bad` if it is out of range
//   fn end_block(block: u32, thread: u32)        what else a block ends with, once its sums are known to every thread
// Binding: partials (a partial result a block; absent if it is not wanted).

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let block = group_index(group, groups);
    let start = min(block * params.block, params.count);
    let end = min(start + params.block, params.count);
    begin_sums();
    for (var i = start + thread; i < end; i += WORKGROUP) {
        add_element(i);
    }
    combine_sums(thread);
    if (thread == 0u && start < end) {
        store_partial(block);
    }
    end_block(block, thread);
}
