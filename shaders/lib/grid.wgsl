// Workgroups and their threads. Grids are folded into two dimensions; a kernel ignores the surplus.

// Threads in a workgroup.
override WORKGROUP: u32;

fn group_index(id: vec3<u32>, count: vec3<u32>) -> u32 {
    return id.y * count.x + id.x;
}
