// needs: grid sum
// Adds tensors of equal size, element by element, in order.
// Bindings: parts [parts, count], sums [count], lows [count] (the rounding errors of the sums;
// absent if one dispatch adds all parts).

// Each thread sums one element over all parts.
fn body(group: u32, thread: u32) {
    let i = group * WORKGROUP + thread;
    if (i >= params.count) {
        return;
    }
    var sum = Sum(0.0, 0.0);
    if (params.resumed == 1u) {
        sum = Sum(load_sums(i), load_lows(i));
    }
    for (var part = 0u; part < params.parts; part++) {
        sum = plus(sum, load_parts(part * params.stride + i));
    }
    if (params.last == 1u) {
        sum.high = value_of(sum);
    }
    store_sums(i, sum.high);
    store_lows(i, sum.low);
}
