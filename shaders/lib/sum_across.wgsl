// needs: lanes sum
// Adds up the sums of a team of threads; each of them gets the total. All threads of the workgroup
// take part.
fn sum_across(thread: u32, mine: Sum) -> Sum {
    var sum = mine;
    for (var stage = TEAM / 2u; stage > 0u; stage /= 2u) { // unrolled
        let pair = exchanged(thread, vec4<u32>(bitcast<vec2<u32>>(vec2<f32>(sum.high, sum.low)), 0u, 0u), stage);
        let a = bitcast<vec2<f32>>(pair.mine.xy);
        let b = bitcast<vec2<f32>>(pair.other.xy);
        sum = plus_sum(Sum(a.x, a.y), Sum(b.x, b.y));
    }
    return sum;
}
