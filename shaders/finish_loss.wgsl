// The reduced loss. Bindings: total and denominator (partial results; absent if nothing was summed), loss (one element).

struct Params {
    total_base: u32,
    denominator_base: u32,
    loss_base: u32,
    // The number of elements, for a mean over them.
    count: f32,
}

// 0: the sum; 1: divided by `count`; 2: divided by the denominator.
override DIVISOR: u32;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    if (group_index(group, groups) + thread != 0u) {
        return;
    }
    let total = bitcast<f32>(load_total(params.total_base));
    var divisor = 1.0;
    if (DIVISOR == 1u) {
        divisor = params.count;
    } else if (DIVISOR == 2u) {
        divisor = bitcast<f32>(load_denominator(params.denominator_base));
    }
    // A mean over nothing is 0 / 0.
    store_loss(params.loss_base, quotient(total, divisor));
}
