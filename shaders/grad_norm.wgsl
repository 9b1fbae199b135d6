// needs: gradient norm_scales sum_blocks
// Sums the squares of gradients by blocks, and finds the first gradient that is NaN or infinite.
// Bindings: grads, partials (a partial result with 3 sums per block).
//
// Squares of large numbers overflow, and squares of tiny numbers underflow. Therefore large, usual
// and tiny gradients have separate sums, and large and tiny gradients are scaled before squaring
// (Blue, A portable Fortran program to find the Euclidean norm of a vector, 1978).

const SUMS: u32 = 3u;

// Adds the square of gradient i to one of the thread's sums.
fn add_element(i: u32) {
    let grad = load_grads(i);
    // A finite gradient can overflow when it is divided by a loss scale below 1.
    if ((bitcast<u32>(params.inverse_loss_scale * grad) & 0x7fffffffu) >= 0x7f800000u) {
        bad = min(bad, params.first + i);
    }
    let size = abs(unscaled_and_clipped(vec4<f32>(grad)).x);
    // NaN counts as large.
    let large = bitcast<u32>(size) >= bitcast<u32>(LARGE);
    let tiny = bitcast<u32>(size) < bitcast<u32>(TINY);
    let scaled = size * select(select(1.0, UP, tiny), DOWN, large);
    let square = scaled * scaled;
    sums[0] = plus(sums[0], select(0.0, square, large));
    sums[1] = plus(sums[1], select(square, 0.0, large || tiny));
    sums[2] = plus(sums[2], select(0.0, square, tiny));
}

fn end_block(block: u32, thread: u32) {}
