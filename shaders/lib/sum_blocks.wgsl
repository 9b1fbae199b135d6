// needs: partials
// The function `body` of kernels that sum blocks of elements, in a fixed order. A shader that needs
// this defines
//   const SUMS: u32                           the number of sums
//   fn add_element(i: u32)                    adds element i to `sums`; if it is bad data,
//                                             lowers `bad` to its position
//   fn end_block(block: u32, thread: u32)     runs in all threads, also in surplus workgroups, once
//                                             `sums` has the block's sums
// Binding: partials (a partial result per block; absent if not requested).

// A workgroup sums one block; all its threads take part.
fn body(block: u32, thread: u32) {
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
