// needs: rectifier
// The beginning and the end of a matrix product, common to all product kernels.

override A_TRANSPOSED: u32;
override B_TRANSPOSED: u32;
// 1: applies the rectifier to c. There is one part, and this dispatch has its last summands.
override RECTIFIED: u32;
// 1: c is the gradient with respect to the output of a rectifier, `gate`, and is multiplied by the
// rectifier's derivative.
override GATED: u32;
// 1: adds a bias to the first part. This dispatch has the last summands of that part.
override BIASED: u32;
// 1: skips depths at which the workgroup's rows of op(a) are all 0.
override SPARSE: u32;
// 1: this dispatch adds several runs of a part.
override RUNS: u32;
// 1: c contains the sum of earlier runs.
override RESUMED: u32;
// 0: this dispatch begins its first run. 1, 2: an earlier dispatch has begun that run. 1: the sum
// of the run so far is in `runs`. 2: it is in c, and this dispatch does not finish the run either.
override BEGUN: u32;

// The sums of earlier runs at 1 row and 4 columns of c.
fn resume_row(row: u32, column: u32) -> vec4<f32> {
    if (RESUMED == 1u && row < params.m) {
        let first = row * params.c_stride + column;
        return load_quad_c(first, 1u, params.n - min(column, params.n), 0.0);
    }
    return vec4<f32>();
}

// The sums of an unfinished run at 1 row and 4 columns of c.
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

// The sum of all runs, given the sum `run` of the latest run, which begins at `start`.
fn add_run(total: vec4<f32>, run: vec4<f32>, start: u32) -> vec4<f32> {
    if (RUNS == 0u && RESUMED == 0u) {
        return run;
    }
    return select(run, total + run, RESUMED == 1u || start > 0u);
}

// The bias of 4 columns, if any; 0 except in the first part.
fn bias_of(part: u32, column: u32) -> vec4<f32> {
    if (BIASED == 1u && part == 0u) {
        return load_quad_bias(column, 1u, params.n - min(column, params.n), 0.0);
    }
    return vec4<f32>();
}

fn all_pass(x: vec4<f32>) -> vec4<bool> {
    return vec4<bool>(passes(x.x), passes(x.y), passes(x.z), passes(x.w));
}

// Stores 1 row and 4 columns of a part of c, after bias, rectifier and gate, by one thread. Rows
// and columns beyond those of c are left out.
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
