// Two counts of a block of rows, which a workgroup sums.

// Sums the threads' counts; every thread gets the workgroup's.
fn combine_counts(thread: u32, counts: vec2<u32>) -> vec2<u32> {
    var all = counts;
    for (var distance = WORKGROUP / 2u; distance > 0u; distance /= 2u) {
        all += across(thread, vec4<u32>(all, 0u, 0u), distance).xy;
    }
    return all;
}
