// Sums tensors of one size, element by element, in their order.
// Bindings: parts [parts, count], sums [count], lows [count] (what the sums lack; absent if one dispatch has all parts).

struct Params {
    // Elements of this dispatch, and from one part to the next.
    count: u32,
    stride: u32,
    parts: u32,
    parts_base: u32,
    sums_base: u32,
    lows_base: u32,
    // 1: earlier dispatches summed earlier parts.
    resumed: u32,
    // 1: these are the last.
    last: u32,
    zero: u32,
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = group_index(group, groups) * WORKGROUP + thread;
    if (i >= params.count) {
        return;
    }
    var sum = Sum(0.0, 0.0);
    if (params.resumed == 1u) {
        sum = Sum(load_sums(params.sums_base + i), load_lows(params.lows_base + i));
    }
    for (var part = 0u; part < params.parts; part++) {
        sum = plus(sum, load_parts(params.parts_base + part * params.stride + i));
    }
    if (params.last == 1u) {
        sum.high = value_of(sum);
    }
    store_sums(params.sums_base + i, sum.high);
    store_lows(params.lows_base + i, sum.low);
}
