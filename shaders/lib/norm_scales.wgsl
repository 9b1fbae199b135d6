// The thresholds of large and tiny gradients in a norm, and their scales before squaring: powers of 2 for which sums of 2^32 squares
// neither overflow nor underflow.

const LARGE: f32 = 0x1p+45;
const TINY: f32 = 0x1p-50;
const DOWN: f32 = 0x1p-84;
const UP: f32 = 0x1p+84;

// From this norm on, the division takes two steps.
const HUGE: f32 = 0x1p+100;
