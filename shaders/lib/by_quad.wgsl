// needs: turns
// The function `body` of kernels that process elements in quads. A shader that needs this defines
//   fn begin() -> bool            initialises private variables; false: the kernel does nothing
//   fn quad(i: u32, n: u32)       processes the quad at element i; its first min(n, 4) elements
//                                 exist

// Each thread processes quads of its workgroup's block.
fn body(group: u32, thread: u32) {
    if (!begin()) {
        return;
    }
    let range = thread_range(group, thread);
    for (var i = range.runs; i < range.runs_end; i += STRIDE) {
        quad(i, 4u);
    }
    for (var i = range.rest; i < range.end; i += STRIDE) {
        quad(i, range.end - i);
    }
}
