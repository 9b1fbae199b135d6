// needs: grid
// How threads combine what they have found: in pairs, at distances that halve, so that in the end each has the whole.
//
// The threads of a subgroup hand each other values without memory and barriers: `handed_over(value, distance)`, which is declared
// for them. Others go through workgroup memory. Where a workgroup has several subgroups, threads are numbered by them.

// Neighbouring threads that are a subgroup: a power of two; 0 if that is not known.
override SUBGROUP: u32;

// Two of them, written by turns: one barrier a distance.
var<workgroup> shared_values: array<vec4<u32>, 2u * WORKGROUP>;

// What the thread at this distance has: the one whose number differs in that bit. Every thread of the workgroup takes part, at
// distances that halve down to 1.
fn across(thread: u32, value: vec4<u32>, distance: u32) -> vec4<u32> {
    if (SUBGROUP >= WORKGROUP || distance < SUBGROUP) {
        return handed_over(value, distance);
    }
    let side = (firstTrailingBit(distance) % 2u) * WORKGROUP;
    shared_values[side + thread] = value;
    workgroupBarrier();
    let other = shared_values[side + (thread ^ distance)];
    if (distance == max(SUBGROUP, 1u)) {
        // More values may follow.
        workgroupBarrier();
    }
    return other;
}
