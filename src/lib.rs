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

// First, because its macros are for the modules below.
#[macro_use]
mod ops;

pub mod cpu;
pub mod data;
mod engine;
mod error;
mod files;
pub mod guide;
pub mod metrics;
pub mod nn;
pub mod optim;
mod options;
mod parameters;
mod plan;
mod record;
pub mod state;
mod tensor;
#[cfg(not(target_arch = "wasm32"))]
mod tune;

#[cfg(test)]
extern crate self as xent;
#[cfg(test)]
#[path = "../tests/unit/amd.rs"]
mod amd;
#[cfg(test)]
#[path = "../tests/unit/every_op.rs"]
mod every_op;
#[cfg(test)]
#[path = "../tests/unit/hot_kernels.rs"]
mod hot_kernels;

/// Losses and their options, for [`Recorder`].
pub mod loss {
    pub use crate::ops::loss::*;
}

/// Losses of linear layers that never store all logits, for [`Recorder`].
pub mod linear {
    pub use crate::ops::linear::*;
    pub use crate::plan::linear::LinearPlan;
}

pub use wgpu;

pub use engine::{Caps, Counters, Family, Gpu};
pub use error::{Error, Result};
pub use half::{bf16, f16};
pub use plan::product::Layout;
pub use record::{Batch, DispatchTime, Readback, Recorder};
pub use tensor::{Element, Float, Shape, Tensor, Weights};

#[cfg(fuzzing)]
#[doc(hidden)]
pub use plan::properties::planner;
