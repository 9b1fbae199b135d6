// needs: grid
// Exchange of values between threads, so that a team of threads can combine their values and each
// of them gets the result. A shader that needs this defines
//   const TEAM: u32       the number of consecutive threads of a team: a power of two, at most
//                         NEAR, or the whole workgroup
// and combines the values v of a team by
//   for (var stage = TEAM / 2u; stage > 0u; stage /= 2u) {    (unrolled)
//       let pair = exchanged(thread, v, stage);
//       v = (combination of pair.mine and pair.other)
//   }
// First each group of NEAR threads combines its values; then each thread gets the value of one
// group, and the values of the groups are combined. The order does not depend on SUBGROUP.
//
// Threads of the same subgroup exchange values by `shuffled(value, distance)`, a shuffle that
// `compose` declares. Other threads use workgroup memory and barriers. If a workgroup has several
// subgroups, threads are numbered subgroup by subgroup.

// The number of consecutive threads that a subgroup is known to have: a power of two; 0 if unknown.
override SUBGROUP: u32;

const NEAR: u32 = 32u;
// The number of groups of a team.
const GROUPS: u32 = max(TEAM, NEAR) / NEAR;

// Two buffers, used alternately, so that one barrier per distance suffices.
var<workgroup> shared_values: array<vec4<u32>, 2u * WORKGROUP>;

struct Pair {
    mine: vec4<u32>,
    other: vec4<u32>,
}

// The values that a thread combines in a stage. All threads of the workgroup take part, in all stages
// in order.
fn exchanged(thread: u32, value: vec4<u32>, stage: u32) -> Pair {
    if (stage >= GROUPS) {
        return Pair(value, across(thread, value, stage / GROUPS));
    }
    var mine = value;
    if (stage == GROUPS / 2u) {
        mine = value_of_group(thread, value);
    }
    return Pair(mine, across(thread, mine, stage));
}

// The value of the thread whose index differs in the bit `distance`, which is less than NEAR. All
// threads of the workgroup take part, in calls at distances that halve down to 1.
fn across(thread: u32, value: vec4<u32>, distance: u32) -> vec4<u32> {
    if (distance < SUBGROUP) {
        return shuffled(value, distance);
    }
    let side = (firstTrailingBit(distance) % 2u) * WORKGROUP;
    shared_values[side + thread] = value;
    workgroupBarrier();
    let other = shared_values[side + (thread ^ distance)];
    if (distance == max(SUBGROUP, 1u)) {
        // The next exchange reuses the buffer.
        workgroupBarrier();
    }
    return other;
}

// The value of group `thread % GROUPS`, as its first thread has it. All threads of the workgroup,
// which is a single team, take part.
fn value_of_group(thread: u32, value: vec4<u32>) -> vec4<u32> {
    if (thread % NEAR == 0u) {
        shared_values[thread / NEAR] = value;
    }
    workgroupBarrier();
    let of_group = shared_values[thread % GROUPS];
    workgroupBarrier();
    return of_group;
}
