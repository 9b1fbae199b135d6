// needs: grid
// Exchange of values between threads, for butterfly reductions: pairs of threads exchange values at
// distances that halve, and in the end each thread has the combined result of all threads.
//
// Threads of the same subgroup exchange values by `shuffled(value, distance)`, a shuffle that
// `compose` declares. Other threads use workgroup memory and barriers. If a workgroup has several
// subgroups, threads are numbered subgroup by subgroup.

// The number of consecutive threads in a subgroup: a power of two; 0 if unknown.
override SUBGROUP: u32;

// Two buffers, used alternately, so that one barrier per distance suffices.
var<workgroup> shared_values: array<vec4<u32>, 2u * WORKGROUP>;

// The value of the thread whose index differs in the bit `distance`. All threads of the workgroup
// take part, in calls at distances that halve down to 1.
fn across(thread: u32, value: vec4<u32>, distance: u32) -> vec4<u32> {
    if (SUBGROUP >= WORKGROUP || distance < SUBGROUP) {
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
