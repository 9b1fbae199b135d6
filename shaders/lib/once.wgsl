// needs: grid
// The main function of kernels with a single active thread. A shader that needs this defines
//   fn once()                     runs in the first thread of the first workgroup

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    if (group_index(group, groups) + thread == 0u) {
        once();
    }
}
