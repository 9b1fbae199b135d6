//! A loss engine for any GPU: WGSL compute shaders through [wgpu] turn logits into losses,
//! gradients and updated weights.
#![doc = ""]
#![doc = include_str!("../README.md")]
// No call may end in a panic. Every exception to these lints says why it cannot panic.
#![cfg_attr(
    not(test),
    warn(
        clippy::expect_used,
        clippy::get_unwrap,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
    )
)]

pub mod cpu;
pub mod data;
mod engine;
mod error;
mod files;
pub mod metrics;
pub mod nn;
mod ops;
mod optim;
mod options;
mod parameters;
mod plan;
mod record;
mod state;
mod tensor;
#[cfg(not(target_arch = "wasm32"))]
mod tune;

#[cfg(test)]
extern crate self as xent;
#[cfg(test)]
mod every_op;

pub use wgpu;

pub use engine::{Caps, Counters, Family, Gpu};
pub use error::{Error, Result, Unmatched};
pub use half::{bf16, f16};
pub use ops::linear::{
    LinearBceWithLogits, LinearCrossEntropy, LinearLossOutput, LinearLossRequest, LinearSgd, LinearSgdResult,
};
pub use ops::loss::{
    Bce, BceWithLogits, CrossEntropy, Denominator, Grad, Huber, LossOutput, LossRequest, Mse, Nll, Reduction,
    Statistics, Targets,
};
pub use ops::update::{Momentum, Sgd};
pub use optim::{Group, Optimization, Optimizer, Schedule, UpdateReport, WindowMean};
pub use parameters::Parameters;
pub use plan::linear::LinearPlan;
pub use plan::product::Layout;
pub use record::{Batch, DispatchTime, Readback, Recorder};
pub use safetensors::Dtype;
pub use state::{LoadOptions, State};
pub use tensor::{Element, Float, Shape, Tensor, Weights};

#[cfg(fuzzing)]
#[doc(hidden)]
pub use plan::properties::planner;
