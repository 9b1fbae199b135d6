// needs: rectifier
// What the kernels of matrix products share: their parameters, and the beginning and end of a row of the result.

override A_TRANSPOSED: u32;
override B_TRANSPOSED: u32;
// 1: c goes through the rectifier. All summands are in one dispatch.
override RECTIFIED: u32;
// 1: c is the gradient of what a rectifier gave, the gate, and goes back through it.
override GATED: u32;
// 1: there is a bias.
override BIASED: u32;
// 1: depths at which op(a) is 0 are left out.
override SPARSE: u32;
// 1: the dispatch has summands of several runs.
override RUNS: u32;
// 1: c holds the sum of earlier runs.
override RESUMED: u32;
// An earlier dispatch began the first run, or the only one. 1: `runs`, like c, holds its sum. 2: c does, and the run does not end here.
override BEGUN: u32;

// Four elements of a row of earlier runs' sums, as far as it reaches.
fn resume_row(row: u32, column: u32) -> vec4<f32> {
    if (RESUMED == 1u && row < params.m) {
        let first = row * params.c_stride + column;
        return load_quad_c(first, 1u, params.n - min(column, params.n), 0.0);
    }
    return vec4<f32>();
}

// The same of the sums that a run begins with.
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

// The sum of the runs from `start` on and before, the latest of which has the sum `run`.
fn add_run(total: vec4<f32>, run: vec4<f32>, start: u32) -> vec4<f32> {
    if (RUNS == 0u && RESUMED == 0u) {
        return run;
    }
    return select(run, total + run, RESUMED == 1u || start > 0u);
}

// What is added to four columns of the first part of c, at the last summands.
fn bias_of(part: u32, column: u32) -> vec4<f32> {
    if (BIASED == 1u && part == 0u) {
        return load_quad_bias(column, 1u, params.n - min(column, params.n), 0.0);
    }
    return vec4<f32>();
}

fn all_pass(x: vec4<f32>) -> vec4<bool> {
    return vec4<bool>(passes(x.x), passes(x.y), passes(x.z), passes(x.w));
}

// Stores four elements of a row of a part of c, as far as it reaches.
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
