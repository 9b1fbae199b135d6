// needs: grid
// Distributes a block of elements over the threads of a workgroup: first whole runs of quads, without
// bounds checks, then the rest of the block. (Loops process a quad a turn. Straight-line code for all
// quads of a run is not faster, and compilers for CPUs take long for it.)

// The number of quads of a thread in a run. Sums add up each run separately.
override QUADS: u32;

// The number of elements from one quad of a thread to its next.
const STRIDE: u32 = 4u * WORKGROUP;
// The number of elements in one run of all threads.
const RUN: u32 = QUADS * STRIDE;

struct ThreadRange {
    // The thread's first element in the whole runs.
    runs: u32,
    // The end of the whole runs.
    runs_end: u32,
    // The thread's first element in the rest of the block.
    rest: u32,
    // The end of the block.
    end: u32,
}

fn thread_range(block: u32, thread: u32) -> ThreadRange {
    let start = min(block * params.block, params.count);
    let end = min(start + params.block, params.count);
    let whole = start + (end - start) / RUN * RUN;
    return ThreadRange(start + thread * 4u, whole, whole + thread * 4u, end);
}
