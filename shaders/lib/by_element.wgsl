// needs: grid
// The main function of kernels that process single elements. A shader that needs this defines
//   fn element(i: u32)            processes element i

// Each thread processes elements of its workgroup's block.
@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let start = min(group_index(group, groups) * params.block, params.count);
    let end = min(start + params.block, params.count);
    for (var i = start + thread; i < end; i += WORKGROUP) {
        element(i);
    }
}
