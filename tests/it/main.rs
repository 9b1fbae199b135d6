//! All integration tests in one binary: they share one device, which one test at a time uses.

mod common;
mod errors;
mod gradients;
mod host;
mod limits;
mod noop;
mod numerics;
mod parity;
mod special;
