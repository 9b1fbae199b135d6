// Rows of `classes` elements, shared by LANES threads each. Neighbouring elements of a row lie `inner` apart, so a tensor
// [outer, classes, inner] has outer * inner rows.

// Threads that share a row: 1, or a power of two that divides WORKGROUP.
override LANES: u32;

struct Row {
    index: u32,
    // The thread's place among the row's threads.
    lane: u32,
    // The row's first element.
    start: u32,
}

// Whether elements c .. c + 4 of a row lie side by side in it. In the variant that goes by quad, rows are made of them.
fn whole_quad(c: u32, classes: u32, inner: u32) -> bool {
    return BY_QUAD || (inner == 1u && c + 4u <= classes);
}

fn row_of(group: u32, thread: u32, classes: u32, inner: u32) -> Row {
    let index = group * (WORKGROUP / LANES) + thread / LANES;
    let start = (index / inner) * classes * inner + index % inner;
    return Row(index, thread % LANES, start);
}
