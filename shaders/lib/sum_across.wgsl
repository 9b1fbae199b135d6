// needs: lanes sum
// Adds up the sums `mine` of `threads` consecutive threads, a power of two; each of them gets the
// total. All threads of the workgroup take part.
fn sum_across(thread: u32, mine: Sum, threads: u32) -> Sum {
    var sum = mine;
    for (var distance = threads / 2u; distance > 0u; distance /= 2u) {
        let bits = bitcast<vec2<u32>>(vec2<f32>(sum.high, sum.low));
        let other = bitcast<vec2<f32>>(across(thread, vec4<u32>(bits, 0u, 0u), distance).xy);
        sum = plus_sum(sum, Sum(other.x, other.y));
    }
    return sum;
}
