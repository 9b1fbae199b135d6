//! All integration tests in one binary: they share one device, which one test at a time uses.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![expect(clippy::cast_possible_truncation, reason = "tests round to f32 on purpose")]

mod broadcast;
mod common;
mod cross_entropy;
mod errors;
mod examples;
mod gradients;
mod half;
mod host;
mod hostile;
mod huge;
mod layers;
mod limits;
mod linear_bce_with_logits;
mod linear_cross_entropy;
mod linear_cross_entropy_sgd;
mod metrics;
mod noop;
mod numerics;
mod panics;
mod parity;
mod properties;
mod row_parts;
mod special;
mod training;
mod warm_up;
