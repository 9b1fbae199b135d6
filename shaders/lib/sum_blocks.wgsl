// needs: partials
// The main function of kernels that sum blocks of elements, in a fixed order. A shader that needs this defines
//   const SUMS: u32                              the number of sums
//   fn add_element(i: u32)                       adds element i to `sums`, or its position to `bad` if it is out of range
//   fn end_block(block: u32, thread: u32)        runs in all threads once `sums` has the sums of the block
// Binding: partials (a partial result per block; absent if not requested). All threads of a workgroup take part in the reduction.

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
