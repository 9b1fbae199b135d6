// Which gradients a norm counts as large and as tiny, and what those are multiplied with before they are squared: powers of 2, such that 2^32
// squares neither overflow nor vanish.

const LARGE: f32 = 0x1p+45;
const TINY: f32 = 0x1p-50;
const DOWN: f32 = 0x1p-84;
const UP: f32 = 0x1p+84;

// Norms that are divided by in two steps.
const HUGE: f32 = 0x1p+100;
