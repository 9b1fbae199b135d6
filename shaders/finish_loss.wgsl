// The reduced loss. Bindings: total (a partial result; absent if nothing was summed), counts (valid targets; absent unless
// DIVISOR is 2), loss (one element).

struct Params {
    total_base: u32,
    counts_base: u32,
    loss_base: u32,
    // The number of elements, for a mean over them.
    count: f32,
}

// 0: the sum; 1: divided by `count`; 2: divided by the number of valid targets.
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
        divisor = f32(load_counts(params.counts_base));
    }
    // A mean over nothing is 0 / 0.
    store_loss(params.loss_base, select(total / divisor, nan(), divisor == 0.0));
}
