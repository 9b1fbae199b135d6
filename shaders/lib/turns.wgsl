// needs: grid
// Distributes a block of elements over the threads of a workgroup: first in steps of QUADS whole
// quads per thread, without bounds checks, then the rest of the block.

// The number of quads of a thread in one step.
override QUADS: u32;

// The number of elements from one quad of a thread to its next.
const STRIDE: u32 = 4u * WORKGROUP;
// The number of elements in one step of all threads.
const STEP: u32 = QUADS * STRIDE;

struct ThreadRange {
    // The thread's first element in the steps.
    steps: u32,
    // The end of the steps.
    steps_end: u32,
    // The thread's first element in the rest of the block.
    rest: u32,
    // The end of the block.
    end: u32,
}

fn thread_range(block: u32, thread: u32) -> ThreadRange {
    let start = min(block * params.block, params.count);
    let end = min(start + params.block, params.count);
    let whole = start + (end - start) / STEP * STEP;
    return ThreadRange(start + thread * 4u, whole, whole + thread * 4u, end);
}
