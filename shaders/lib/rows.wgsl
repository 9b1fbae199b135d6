// needs: grid
// Rows of `classes` elements, shared by LANES threads each, or by PARTS workgroups. Neighbouring elements of a row lie `inner` apart, so a tensor
// [outer, classes, inner] has outer * inner rows.
//
// A lane goes through its part of a row by blocks of 16 elements: four quads, SPAN quads apart, so that SPAN neighbouring lanes
// read side by side. Those lanes' blocks follow each other: each SIMD unit stays in its own stretch of the row.

// Threads that share a row: 1, or a power of two that divides WORKGROUP.
override LANES: u32;
// Workgroups that share a row, each with a part of it. If there are several, LANES is WORKGROUP.
override PARTS: u32;
// Lanes that read side by side: a power of two, at most LANES.
override SPAN: u32;
// Blocks that a lane holds in registers from one sweep over the row to the next, if the whole row fits there; else 0.
override HELD: u32;
// The elements of a row if HELD is not 0, so that all loops over it have constant bounds.
override CLASSES: u32;

// 1: blocks that lie inside the row have code of their own.
override WHOLE: u32;

// 1: a lane has more than RUN blocks. 0: it has no more, or holds all its blocks.
override RUNS: u32;

// Blocks that are summed before they are added to the rest (`lib/sum.wgsl`).
const RUN: u32 = 32u;

const TILE: u32 = 16u * SPAN;
// Spans of a workgroup, and of a row.
const PART_SPANS: u32 = LANES / SPAN;
const SPANS: u32 = PARTS * PART_SPANS;

struct Row {
    index: u32,
    // The workgroup's part, and the thread's place among those that share it.
    part: u32,
    lane: u32,
    // The row's first element.
    start: u32,
    // Surplus threads do the last row's work, for the barriers, and store nothing.
    surplus: bool,
    // Blocks of each lane. Those of this dispatch are begin .. end, a run or more, and all before `whole` lie inside the row.
    blocks: u32,
    begin: u32,
    whole: u32,
    end: u32,
}

fn classes() -> u32 {
    if (HELD > 0u) {
        return CLASSES;
    }
    return params.classes;
}

fn row_of(group: u32, thread: u32) -> Row {
    let number = group / PARTS * (WORKGROUP / LANES) + thread / LANES;
    let index = min(number, params.rows - 1u);
    let lane = thread % LANES;
    let start = (index / params.inner) * classes() * params.inner + index % params.inner;
    let part = group % PARTS;
    let blocks = (classes() + PARTS * 16u * LANES - 1u) / (PARTS * 16u * LANES);
    // Where the row is held, the last span's number serves all of them: it is a constant.
    let before = select(part * PART_SPANS + lane / SPAN, SPANS - 1u, HELD > 0u) * blocks;
    let whole = WHOLE * min(max(classes() / TILE, before) - before, blocks);
    if (HELD > 0u) {
        return Row(index, part, lane, start, number >= params.rows, blocks, 0u, whole, blocks);
    }
    let end = min(params.end_block, blocks);
    let begin = min(params.first_block, end);
    return Row(index, part, lane, start, number >= params.rows, blocks, begin, clamp(whole, begin, end), end);
}

// Where the lane's runs end that lie inside the row altogether.
fn runs_inside(row: Row) -> u32 {
    return row.begin + (row.whole - row.begin) / RUN * RUN;
}

// The lane's place among all lanes of all rows, where they keep what a dispatch hands on to the next.
fn lane_index(row: Row) -> u32 {
    return (row.index * PARTS + row.part) * LANES + row.lane;
}

// The first element of quad j of block i, counted in the row.
fn quad_start(row: Row, i: u32, j: u32) -> u32 {
    let span = row.part * PART_SPANS + row.lane / SPAN;
    return (span * row.blocks + i) * TILE + (j * SPAN + row.lane % SPAN) * 4u;
}

// Elements from c to the end of the row; 4 stands for more. Code that knows that a block lies inside the row says so, and then
// nothing is compared: loops over a row go over its whole blocks first.
fn room_at(inside: bool, c: u32) -> u32 {
    if (inside) {
        return 4u;
    }
    return max(classes(), c) - c;
}

// Whether element c lies in the workgroup's part, and whether it is the thread that goes through it, in this dispatch.
fn in_part(row: Row, c: u32) -> bool {
    return PARTS == 1u || c / (row.blocks * TILE) / PART_SPANS == row.part;
}

fn goes_through(row: Row, c: u32) -> bool {
    let block = c / TILE % row.blocks;
    let now = row.begin <= block && block < row.end;
    return now && in_part(row, c) && row.lane == (c / (row.blocks * TILE)) % PART_SPANS * SPAN + (c / 4u) % SPAN;
}
