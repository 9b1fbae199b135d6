//! Networks with explicit passes: layers, models of them, and the training step.
//!
//! There is no tape. [`Model::forward`] returns the activations, the losses of
//! [`Recorder`](crate::Recorder) return gradients with respect to the outputs, and
//! [`Model::backward`] propagates them to the parameters. [`Training`] does all of it in one call.
//!
//! # Examples
//! ```
//! use std::time::Duration;
//! use xent::loss::Targets;
//! use xent::nn::{Loss, Model, Sequential, Training};
//! use xent::optim::{Optimization, Sgd};
//! use xent::{Gpu, Tensor};
//! # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
//! // Classifies numbers as even or odd by their last bit.
//! let network = Sequential::new().linear(1, 2);
//! let model = Model::new(&gpu, &network, 0)?;
//! let options = Optimization { sgd: Sgd::new().lr(1.0), ..Optimization::default() };
//! let mut training = Training::new(model, vec![Loss::cross_entropy()], options)?;
//! let x = Tensor::from_slice(&gpu, [4, 1], &[0.0, 1.0, 0.0, 1.0])?;
//! let y = Targets::new(&gpu, [4], &[0, 1, 0, 1], 2)?;
//! for _ in 0..100 {
//!     let mut batch = gpu.batch();
//!     training.step(&mut batch, &x, &[(&y).into()])?;
//!     batch.submit()?;
//! }
//! let mut batch = gpu.batch();
//! let out = training.step(&mut batch, &x, &[(&y).into()])?;
//! let mut loss = batch.read(&out.losses[0])?;
//! batch.submit()?;
//! assert!(loss.wait(Duration::from_secs(10))?[0] < 0.1);
//! # Ok::<(), xent::Error>(())
//! ```

mod layers;
mod loss;
mod model;
mod training;

pub use layers::{Layer, Linear, Sequential};
pub use loss::Loss;
pub use model::{Activations, Model};
pub use training::{StepOutputs, Training};
