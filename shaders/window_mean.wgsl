// Divides sums of gradients by the denominator of their passes; what is 0 stays 0, whatever the denominator.
// Bindings: values (absent if `total` is divided itself), total (gets what is divided added), sums (as `window_sum` leaves them).

// 1: `total` gets the mean of `values` added; 0: it becomes its own.
override ADDED: u32;

fn mean(sum: f32, denominator: f32) -> f32 {
    return select(quotient(sum, denominator), sum, is_zero(sum));
}

fn mean_quad(i: u32, n: u32, denominator: f32) {
    let total = load_quad_total(i, 1u, n, 0.0);
    var sum = total;
    if (ADDED == 1u) {
        sum = load_quad_values(i, 1u, n, 0.0);
    }
    var out = vec4<f32>(
        mean(sum.x, denominator),
        mean(sum.y, denominator),
        mean(sum.z, denominator),
        mean(sum.w, denominator),
    );
    if (ADDED == 1u) {
        out += total;
    }
    store_quad_total(i, 1u, n, out);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let denominator = value_of(Sum(load_sums(2u), load_sums(3u)));
    let part = part_of(group_index(group, groups), thread);
    for (var i = part.turns; i < part.turns_end; i += TURN) {
        for (var q = 0u; q < QUADS; q++) { // unrolled
            mean_quad(i + q * STRIDE, 4u, denominator);
        }
    }
    for (var i = part.rest; i < part.end; i += STRIDE) {
        mean_quad(i, part.end - i, denominator);
    }
}
