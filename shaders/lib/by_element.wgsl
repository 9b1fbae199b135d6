// needs: grid
// The function `body` of kernels that process single elements. A shader that needs this defines
//   fn element(i: u32)            processes element i

// Each thread processes elements of its workgroup's block.
fn body(group: u32, thread: u32) {
    let start = min(group * params.block, params.count);
    let end = min(start + params.block, params.count);
    for (var i = start + thread; i < end; i += WORKGROUP) {
        element(i);
    }
}
