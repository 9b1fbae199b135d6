// Sums values, or partial results, by blocks; where a single block is left, turns it into a loss as well.
// Bindings: input (WORDS words each), denominator (a partial result; absent if there is none), partials (two words a block; absent if
// there is no input), loss (one element; absent before the last block).

struct Params {
    // Values or partial results of this dispatch.
    count: u32,
    // Those of a block: what a workgroup combines.
    block: u32,
    input_base: u32,
    denominator_base: u32,
    partials_base: u32,
    loss_base: u32,
    // What the loss is divided by if there is no denominator.
    divisor: f32,
}

// 1: the input is values; 2: partial results.
override WORDS: u32;
// 1: the loss is divided by the denominator.
override DENOMINATOR: u32;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let block = group_index(group, groups);
    let start = min(block * params.block, params.count);
    let end = min(start + params.block, params.count);
    var sum = 0.0;
    var bad = NONE;
    for (var i = start + thread; i < end; i += WORKGROUP) {
        let at = params.input_base + WORDS * i;
        sum += bitcast<f32>(load_input(at));
        if (WORDS == 2u) {
            bad = min(bad, load_input(at + 1u));
        }
    }
    let partial = combine(thread, sum, bad);
    if (thread != 0u) {
        return;
    }
    if (start < end) {
        store_partials(params.partials_base + 2u * block, partial.x);
        store_partials(params.partials_base + 2u * block + 1u, partial.y);
    }
    if (block == 0u) {
        var divisor = params.divisor;
        if (DENOMINATOR == 1u) {
            divisor = bitcast<f32>(load_denominator(params.denominator_base));
        }
        // A mean over nothing is 0 / 0.
        store_loss(params.loss_base, quotient(bitcast<f32>(partial.x), divisor));
    }
}
