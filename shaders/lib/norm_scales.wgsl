// In a norm, gradients of at least LARGE are multiplied by DOWN before squaring, and gradients
// below TINY by UP: powers of 2 for which sums of 2^32 squares neither overflow nor underflow
// (except squares of subnormal gradients).

const LARGE: f32 = 0x1p+45;
const TINY: f32 = 0x1p-50;
const DOWN: f32 = 0x1p-84;
const UP: f32 = 0x1p+84;

// From this norm on, the division by the norm takes two steps.
const HUGE: f32 = 0x1p+100;
