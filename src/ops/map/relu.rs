//! The rectifier.

use crate::engine::kernel::{Kernel, kernel};
use crate::error::Result;
use crate::record::Recorder;
use crate::tensor::Tensor;

use crate::ops::map::elementwise::{BACKWARD_BINDINGS, FORWARD_BINDINGS};

pub(crate) static FORWARD: Kernel = kernel!("relu", &[], FORWARD_BINDINGS);

pub(crate) static BACKWARD: Kernel = kernel!("relu_backward", &[], BACKWARD_BINDINGS);

/// The rectifier.
impl Recorder<'_> {
    /// `y = max(x, 0)`, element by element; NaN stays NaN.
    ///
    /// # Errors
    /// [`Error::ForeignTensor`](crate::Error::ForeignTensor),
    /// [`Error::Limit`](crate::Error::Limit).
    ///
    /// # Cost
    /// One read and one write (8 bytes an element).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let x = Tensor::from_slice(&gpu, [3], &[-1.0, 0.0, 2.0f32])?;
    /// let mut batch = gpu.batch();
    /// let y = batch.relu(&x)?;
    /// let mut y = batch.read(&y)?;
    /// batch.submit()?;
    /// assert_eq!(y.wait(Duration::from_secs(10))?, [0.0, 0.0, 2.0]);
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn relu(&mut self, x: &Tensor<f32>) -> Result<Tensor<f32>> {
        self.map("relu", &FORWARD, x)
    }

    /// The gradient of [`relu`](Self::relu), from its output: `upstream` where `y` is
    /// positive (or NaN), 0 elsewhere.
    ///
    /// # Errors
    /// If `y` and `upstream` differ in shape; else as [`relu`](Self::relu).
    ///
    /// # Cost
    /// Two reads and one write (12 bytes an element).
    pub fn relu_backward(&mut self, y: &Tensor<f32>, upstream: &Tensor<f32>) -> Result<Tensor<f32>> {
        self.map_backward("relu_backward", &BACKWARD, y, upstream)
    }
}
