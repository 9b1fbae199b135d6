// Two counts of a block of rows, which a workgroup sums.

var<workgroup> shared_counts: array<vec2<u32>, WORKGROUP>;

// Sums the threads' counts; thread 0 gets the workgroup's.
fn combine_counts(thread: u32, counts: vec2<u32>) -> vec2<u32> {
    shared_counts[thread] = counts;
    for (var distance = WORKGROUP / 2u; distance > 0u; distance /= 2u) {
        workgroupBarrier();
        if (thread < distance) {
            shared_counts[thread] += shared_counts[thread + distance];
        }
    }
    return shared_counts[thread];
}
