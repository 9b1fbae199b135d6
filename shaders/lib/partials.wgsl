// Sums in a fixed order, and positions of bad data. A workgroup turns a block of values into a partial result:
// two words, the bits of a sum and the first position at which data is out of range (NONE if all of it is fine).

const NONE: u32 = 0xffffffffu;

// Combines the threads' results; every thread gets the workgroup's.
fn combine(thread: u32, sum: f32, bad: u32) -> vec2<u32> {
    var all = vec4<u32>(bitcast<u32>(sum), bad, 0u, 0u);
    for (var distance = WORKGROUP / 2u; distance > 0u; distance /= 2u) {
        let other = across(thread, all, distance);
        all.x = bitcast<u32>(bitcast<f32>(all.x) + bitcast<f32>(other.x));
        all.y = min(all.y, other.y);
    }
    return all.xy;
}
