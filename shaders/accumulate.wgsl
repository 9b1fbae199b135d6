// Adds a tensor to another. Bindings: values (what is added), total, lows (what `total` lacks; absent unless PRECISE).

// 1: what additions round off is kept.
override PRECISE: u32;

fn accumulate_quad(i: u32, n: u32) {
    let total = load_quad_total(i, 1u, n, 0.0);
    let value = load_quad_values(i, 1u, n, 0.0);
    if (PRECISE == 0u) {
        store_quad_total(i, 1u, n, total + value);
        return;
    }
    let lacking = select(load_quad_lows(i, 1u, n, 0.0), vec4<f32>(), params.fresh == 1u);
    var high = vec4<f32>();
    var low = vec4<f32>();
    for (var k = 0u; k < 4u; k++) { // unrolled
        let sum = settled_sum(plus(Sum(total[k], lacking[k]), value[k]));
        high[k] = sum.high;
        low[k] = sum.low;
    }
    store_quad_total(i, 1u, n, high);
    store_quad_lows(i, 1u, n, low);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let part = part_of(group_index(group, groups), thread);
    for (var i = part.turns; i < part.turns_end; i += TURN) {
        for (var q = 0u; q < QUADS; q++) { // unrolled
            accumulate_quad(i + q * STRIDE, 4u);
        }
    }
    for (var i = part.rest; i < part.end; i += STRIDE) {
        accumulate_quad(i, part.end - i);
    }
}
