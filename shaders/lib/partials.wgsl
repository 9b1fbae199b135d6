// Sums in a fixed order, and positions of bad data. A workgroup turns a block of values into a partial result: three words, the bits of a
// sum in two numbers (`lib/sum.wgsl`; the first is the rounded sum) and the first position at which data is out of range (NONE if all of
// it is fine).

const NONE: u32 = 0xffffffffu;

// The least of the threads' positions. Every thread of the workgroup takes part.
fn first_across(thread: u32, position: u32) -> u32 {
    var first = position;
    for (var distance = WORKGROUP / 2u; distance > 0u; distance /= 2u) {
        first = min(first, across(thread, vec4<u32>(first, 0u, 0u, 0u), distance).x);
    }
    return first;
}

// Combines the threads' results; every thread gets the workgroup's.
fn combine(thread: u32, sum: Sum, bad: u32) -> vec3<u32> {
    let all = normal(sum_across(thread, sum, WORKGROUP));
    return vec3<u32>(bitcast<u32>(all.high), bitcast<u32>(all.low), first_across(thread, bad));
}

// The same sum, of which the first number is all that one number can hold.
fn normal(s: Sum) -> Sum {
    let rounded = value_of(s);
    let finite = (bitcast<u32>(rounded) & 0x7f800000u) != 0x7f800000u;
    return Sum(rounded, select(0.0, plus(Sum(s.high, 0.0), s.low).low, finite));
}
