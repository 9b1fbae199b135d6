// The entry point of every kernel. A shader defines
//   fn body(group: u32, thread: u32)      the work of a thread of a workgroup
// A grid has two dimensions. Kernels ignore surplus workgroups.

// The number of threads in a workgroup.
override WORKGROUP: u32;

// All threads of all workgroups take part.
@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    body(group.y * groups.x + group.x, thread);
}
