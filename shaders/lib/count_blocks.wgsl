// needs: lanes
// The function `body` of kernels that sum two counts over blocks of elements. A shader that needs
// this defines
//   fn counts_of(i: u32) -> vec2<u32>        the counts of element i
// Binding: partials [blocks, 2].

const TEAM: u32 = WORKGROUP;

// Adds up the counts of all threads of the workgroup. All of them take part and get the result.
fn combine_counts(thread: u32, counts: vec2<u32>) -> vec2<u32> {
    var all = counts;
    for (var stage = TEAM / 2u; stage > 0u; stage /= 2u) { // unrolled
        let pair = exchanged(thread, vec4<u32>(all, 0u, 0u), stage);
        all = pair.mine.xy + pair.other.xy;
    }
    return all;
}

// A workgroup counts one block; all its threads take part.
fn body(block: u32, thread: u32) {
    let start = min(block * params.block, params.count);
    let end = min(start + params.block, params.count);
    var counts = vec2<u32>();
    for (var i = start + thread; i < end; i += WORKGROUP) {
        counts += counts_of(i);
    }
    counts = combine_counts(thread, counts);
    if (thread == 0u && start < end) {
        store_partials(2u * block, counts.x);
        store_partials(2u * block + 1u, counts.y);
    }
}
