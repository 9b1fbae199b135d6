//! A loss engine for any GPU: WGSL compute shaders through [wgpu] turn logits into losses, gradients and updated weights.
#![doc = ""]
#![doc = include_str!("../README.md")]
// Nothing that a caller does ends in a panic. Every exception to these lints says why it cannot.
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

mod caps;
pub mod cpu;
pub mod data;
mod error;
mod gpu;
mod kernel;
mod launch;
mod linear_plan;
pub mod metrics;
pub mod nn;
mod opengl;
mod ops;
mod optim;
mod options;
mod parameters;
mod plan;
#[cfg(any(test, fuzzing))]
mod plan_properties;
mod pool;
mod profile;
mod readback;
mod recorder;
mod state;
mod tensor;
#[cfg(not(target_arch = "wasm32"))]
mod tune;
mod warm_up;
mod weights;

#[cfg(test)]
extern crate self as xent;
#[cfg(test)]
mod every_op;

pub use wgpu;

pub use caps::{Caps, Family};
pub use error::{Error, Result};
pub use gpu::{Counters, Gpu};
pub use half::{bf16, f16};
pub use linear_plan::LinearPlan;
pub use ops::{
    CrossEntropyRequest, CrossEntropyResult, Denominator, Grad, LinearBackward, LinearCrossEntropyRequest,
    LinearCrossEntropyResult, LinearGrads, LinearLossGrads, LinearSgd, LinearSgdResult, LossGrad, Momentum, Statistics,
    Targets,
};
pub use optim::{Group, Optimization, Optimizer, Schedule, UpdateReport, WindowMean};
pub use options::{
    Bce, BceWithLogits, CrossEntropy, Layout, LinearBceWithLogits, LinearCrossEntropy, Mse, Nll, Reduction, Sgd,
};
pub use parameters::Parameters;
pub use profile::{DispatchTime, Times};
pub use readback::Readback;
pub use recorder::{Batch, Recorder};
pub use safetensors::Dtype;
pub use state::{LoadOptions, State, StateReadback, Unmatched};
pub use tensor::{Element, Float, Shape, Tensor};
pub use weights::Weights;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use plan_properties::planner;
