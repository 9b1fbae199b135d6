// needs: grid
// The function `body` of kernels with a single active thread. A shader that needs this defines
//   fn once()                     runs in the first thread of the first workgroup

fn body(group: u32, thread: u32) {
    if (group + thread == 0u) {
        once();
    }
}
