// Adds a tensor to another. Bindings: values (what is added), total.

struct Params {
    count: u32,
    // Elements that a workgroup adds.
    block: u32,
    values_base: u32,
    total_base: u32,
}

fn accumulate_quad(i: u32, n: u32) {
    let sum = load_quad_total(params.total_base + i, 1u, n, 0.0) + load_quad_values(params.values_base + i, 1u, n, 0.0);
    store_quad_total(params.total_base + i, 1u, n, sum);
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
