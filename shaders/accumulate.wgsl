// Adds a tensor to another. Bindings: values (what is added), total.

struct Params {
    count: u32,
    // Elements that a workgroup adds.
    block: u32,
    values_base: u32,
    total_base: u32,
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let start = min(group_index(group, groups) * params.block, params.count);
    let end = min(start + params.block, params.count);
    for (var i = start + thread * 4u; i < end; i += WORKGROUP * 4u) {
        let source = params.values_base + i;
        let sum = params.total_base + i;
        if (i + 4u <= end) {
            store4_total(sum, load4_total(sum) + load4_values(source));
        } else {
            for (var k = 0u; k < end - i; k++) {
                store_total(sum + k, load_total(sum + k) + load_values(source + k));
            }
        }
    }
}
