// The index of a workgroup in a two-dimensional grid. Kernels ignore surplus workgroups.

// The number of threads in a workgroup.
override WORKGROUP: u32;

fn group_index(id: vec3<u32>, count: vec3<u32>) -> u32 {
    return id.y * count.x + id.x;
}
