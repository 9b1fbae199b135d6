// needs: rectifier
// The beginning and the end of a matrix product, common to all its kernels.

override A_TRANSPOSED: u32;
override B_TRANSPOSED: u32;
// 1: applies the rectifier to c. All summands are in one dispatch.
override RECTIFIED: u32;
// 1: c is the gradient of the output of a rectifier, the gate, and is multiplied by the rectifier's derivative.
override GATED: u32;
// 1: adds a bias.
override BIASED: u32;
// 1: skips depths at which a tile of op(a) is 0.
override SPARSE: u32;
// 1: the dispatch adds several runs.
override RUNS: u32;
// 1: c contains the sum of earlier runs.
override RESUMED: u32;
// Whether an earlier dispatch has begun the first run. 1: its sum is in `runs`. 2: its sum is in c, and this dispatch does not finish
// the run either.
override BEGUN: u32;

// A quad of the sums of earlier runs.
fn resume_row(row: u32, column: u32) -> vec4<f32> {
    if (RESUMED == 1u && row < params.m) {
        let first = row * params.c_stride + column;
        return load_quad_c(first, 1u, params.n - min(column, params.n), 0.0);
    }
    return vec4<f32>();
}

// A quad of the sum of an unfinished run.
fn begin_row(row: u32, column: u32) -> vec4<f32> {
    let room = params.n - min(column, params.n);
    if (BEGUN == 1u && row < params.m) {
        return load_quad_runs(row * params.c_stride + column, 1u, room, 0.0);
    }
    if (BEGUN == 2u && row < params.m) {
        return load_quad_c(row * params.c_stride + column, 1u, room, 0.0);
    }
    return vec4<f32>();
}

// The sum of all runs, given the sum `run` of the latest, which begins at `start`.
fn add_run(total: vec4<f32>, run: vec4<f32>, start: u32) -> vec4<f32> {
    if (RUNS == 0u && RESUMED == 0u) {
        return run;
    }
    return select(run, total + run, RESUMED == 1u || start > 0u);
}

// The bias of 4 columns; 0 except in the first part, after its last summands.
fn bias_of(part: u32, column: u32) -> vec4<f32> {
    if (BIASED == 1u && part == 0u) {
        return load_quad_bias(column, 1u, params.n - min(column, params.n), 0.0);
    }
    return vec4<f32>();
}

fn all_pass(x: vec4<f32>) -> vec4<bool> {
    return vec4<bool>(passes(x.x), passes(x.y), passes(x.z), passes(x.w));
}

// Stores a quad of a part of c, after bias, rectifier and gate.
fn finish_row(part: u32, row: u32, column: u32, sum: vec4<f32>, bias: vec4<f32>) {
    if (row >= params.m) {
        return;
    }
    let room = params.n - min(column, params.n);
    var value = sum;
    if (BIASED == 1u && part == 0u) {
        value += bias;
    }
    if (RECTIFIED == 1u) {
        value = select(vec4<f32>(), value, all_pass(value));
    }
    if (GATED == 1u) {
        let gate = load_quad_gate(row * params.c_stride + column, 1u, room, 0.0);
        value = select(vec4<f32>(), value, all_pass(gate));
    }
    store_quad_c((part * params.m + row) * params.c_stride + column, 1u, room, value);
}
