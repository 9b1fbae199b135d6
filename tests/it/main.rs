//! All integration tests in one binary. They share two devices, each used by one test at a time.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue panics")]
#![expect(clippy::cast_possible_truncation, reason = "tests round to f32 on purpose")]

mod accuracy;
mod adapter;
mod broadcast;
mod budget;
mod common;
mod cross_entropy;
mod csv;
#[path = "../dawn/mod.rs"]
mod dawn;
mod determinism;
mod embedding;
mod errors;
mod evaluation;
#[path = "../unit/every_op.rs"]
mod every_op;
mod examples;
mod faults;
mod fuzz_corpus;
mod gradients;
mod half;
mod host;
mod hostile;
mod hostile_calls;
mod hostile_factors;
mod huge;
mod layers;
mod limits;
mod linear_bce_with_logits;
mod linear_cross_entropy;
mod linear_cross_entropy_sgd;
mod losses;
mod lost_device;
mod mean_by_count;
mod metrics;
mod misuse;
mod noop;
mod numerics;
mod panics;
mod parity;
mod properties;
mod rates;
mod row_parts;
mod soak;
mod special;
mod stack;
mod states;
mod tiny_and_huge;
mod training;
mod warm_up;
mod windows;
