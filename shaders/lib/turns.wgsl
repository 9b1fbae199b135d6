// needs: grid
// How a workgroup goes through its block of a tensor's elements: by turns, in each of which a thread has QUADS whole quads and
// nothing is compared, and then by what is left.

// Quads of a thread in one turn.
override QUADS: u32;

// From a thread's quad to its next.
const STRIDE: u32 = 4u * WORKGROUP;
const TURN: u32 = QUADS * STRIDE;

struct Part {
    // The thread's first elements in the turns and in what is left, and where the block has no more of each.
    turns: u32,
    turns_end: u32,
    rest: u32,
    end: u32,
}

fn part_of(block: u32, thread: u32) -> Part {
    let start = min(block * params.block, params.count);
    let end = min(start + params.block, params.count);
    let whole = start + (end - start) / TURN * TURN;
    return Part(start + thread * 4u, whole, whole + thread * 4u, end);
}
