// needs: grid
// Distributes a block of elements over the threads of a workgroup: first in steps of QUADS whole
// quads per thread, without bounds checks, then the rest of the block.

// The number of quads of a thread in one step.
override QUADS: u32;

// The number of elements from one quad of a thread to its next.
const STRIDE: u32 = 4u * WORKGROUP;
// The number of elements in one step of all threads.
const TURN: u32 = QUADS * STRIDE;

struct Part {
    // The thread's first element in the steps.
    turns: u32,
    // The end of the steps.
    turns_end: u32,
    // The thread's first element in the rest of the block.
    rest: u32,
    // The end of the block.
    end: u32,
}

fn part_of(block: u32, thread: u32) -> Part {
    let start = min(block * params.block, params.count);
    let end = min(start + params.block, params.count);
    let whole = start + (end - start) / TURN * TURN;
    return Part(start + thread * 4u, whole, whole + thread * 4u, end);
}
