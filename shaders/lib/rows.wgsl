// needs: grid
// Distributes rows over threads. A tensor [outer, classes, inner] has outer * inner rows of
// `classes` elements with stride `inner`. LANES threads of each of PARTS workgroups share a row.
//
// A lane processes blocks of 16 elements: 4 quads with a stride of SPAN quads, so that SPAN
// neighbouring lanes, a span, load consecutive quads. The blocks of a span are consecutive, so each
// SIMD unit works on one contiguous stretch of the row.

// The number of threads of a workgroup that share a row: 1, or a power of two that divides
// WORKGROUP.
override LANES: u32;
const TEAM: u32 = LANES;
// The number of workgroups that share a row. If it is more than 1, LANES is WORKGROUP.
override PARTS: u32;
// The number of lanes that load consecutive quads: a power of two, at most LANES.
override SPAN: u32;
// The number of blocks that each lane keeps in registers between sweeps, if the whole row fits
// into registers; else 0.
override HELD: u32;
// The number of elements of a row if HELD is not 0, so that all loops over the row have constant
// bounds.
override CLASSES: u32;

// 1: blocks inside the row are processed by separate code without bounds checks, and loops over the
// quads of a block are unrolled.
override WHOLE: u32;

// 1: `inner` is 1, so that the elements of a row are neighbours.
override ADJACENT: u32;

// 1: a lane has more than RUN blocks, counting those of all dispatches.
override RUNS: u32;

// The number of blocks that are added up before their sum joins the total (`lib/sum.wgsl`).
const RUN: u32 = 32u;

// The number of elements in one block of each lane of a span.
const SPAN_BLOCK: u32 = 16u * SPAN;
// The number of spans of a part of a row, and of a row.
const PART_SPANS: u32 = LANES / SPAN;
const SPANS: u32 = PARTS * PART_SPANS;

struct Row {
    index: u32,
    // The index of the part, and of the lane in the part.
    part: u32,
    lane: u32,
    // The position of the first element of the row.
    start: u32,
    // Surplus threads repeat the last row, because they have to take part in barriers; they store
    // nothing.
    surplus: bool,
    // The number of blocks of each lane. This dispatch processes blocks begin..end of them; those
    // before `whole` lie entirely inside the row.
    blocks: u32,
    begin: u32,
    whole: u32,
    end: u32,
}

fn inner() -> u32 {
    if (ADJACENT == 1u) {
        return 1u;
    }
    return params.inner;
}

fn classes() -> u32 {
    if (HELD > 0u) {
        return CLASSES;
    }
    return params.classes;
}

// The row of thread `thread` of workgroup `group`, and the blocks of it that the thread processes.
// Every thread calls this, surplus threads too.
fn row_of(group: u32, thread: u32) -> Row {
    let number = group / PARTS * (WORKGROUP / LANES) + thread / LANES;
    let index = min(number, params.rows - 1u);
    let lane = thread % LANES;
    let start = (index / inner()) * classes() * inner() + index % inner();
    let part = group % PARTS;
    let blocks = (classes() + PARTS * 16u * LANES - 1u) / (PARTS * 16u * LANES);
    // If the row is in registers, all lanes use the `whole` of the last span, because it is a
    // constant.
    let before = select(part * PART_SPANS + lane / SPAN, SPANS - 1u, HELD > 0u) * blocks;
    let whole = WHOLE * min(max(classes() / SPAN_BLOCK, before) - before, blocks);
    if (HELD > 0u) {
        return Row(index, part, lane, start, number >= params.rows, blocks, 0u, whole, blocks);
    }
    let end = min(params.end_block, blocks);
    let begin = min(params.first_block, end);
    return Row(index, part, lane, start, number >= params.rows, blocks, begin, clamp(whole, begin, end), end);
}

// The first block after the lane's full runs that lie entirely inside the row.
fn runs_inside(row: Row) -> u32 {
    return row.begin + (row.whole - row.begin) / RUN * RUN;
}

// The index of the lane among all lanes of all rows: where it stores state for the next dispatch.
fn lane_index(row: Row) -> u32 {
    return (row.index * PARTS + row.part) * LANES + row.lane;
}

// The index in the row of the first element of quad j of block i.
fn quad_start(row: Row, i: u32, j: u32) -> u32 {
    let span = row.part * PART_SPANS + row.lane / SPAN;
    return (span * row.blocks + i) * SPAN_BLOCK + (j * SPAN + row.lane % SPAN) * 4u;
}

// The number of elements from c to the end of the row, possibly more than 4. `inside` promises that
// there are at least 4 and avoids the comparison: loops process blocks inside the row first.
fn room_at(inside: bool, c: u32) -> u32 {
    if (inside) {
        return 4u;
    }
    return max(classes(), c) - c;
}

// Whether element c belongs to the workgroup's part of the row.
fn in_part(row: Row, c: u32) -> bool {
    return PARTS == 1u || c / (row.blocks * SPAN_BLOCK) / PART_SPANS == row.part;
}

// Whether this thread processes element c in this dispatch.
fn processes(row: Row, c: u32) -> bool {
    let block = c / SPAN_BLOCK % row.blocks;
    let now = row.begin <= block && block < row.end;
    return now && in_part(row, c) && row.lane == (c / (row.blocks * SPAN_BLOCK)) % PART_SPANS * SPAN + (c / 4u) % SPAN;
}
