//! The logistic function.

use crate::engine::kernel::{Kernel, kernel};
use crate::error::Result;
use crate::record::Recorder;
use crate::tensor::Tensor;

use crate::ops::map::elementwise::{BACKWARD_BINDINGS, FORWARD_BINDINGS};

pub(crate) static FORWARD: Kernel = kernel!("sigmoid", &[], FORWARD_BINDINGS);

pub(crate) static BACKWARD: Kernel = kernel!("sigmoid_backward", &[], BACKWARD_BINDINGS);

/// The logistic function.
impl Recorder<'_> {
    /// `y = 1 / (1 + exp(-x))`, element by element, to 3 ulp; NaN stays NaN.
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
    /// let x = Tensor::from_slice(&gpu, [2], &[0.0, 200.0f32])?;
    /// let mut batch = gpu.batch();
    /// let y = batch.sigmoid(&x)?;
    /// let mut y = batch.read(&y)?;
    /// batch.submit()?;
    /// assert_eq!(y.wait(Duration::from_secs(10))?, [0.5, 1.0]);
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn sigmoid(&mut self, x: &Tensor<f32>) -> Result<Tensor<f32>> {
        self.map("sigmoid", &FORWARD, x)
    }

    /// The gradient of [`sigmoid`](Self::sigmoid), from its output: `upstream * y * (1 - y)`.
    ///
    /// # Errors
    /// If `y` and `upstream` differ in shape; else as [`sigmoid`](Self::sigmoid).
    ///
    /// # Cost
    /// Two reads and one write (12 bytes an element).
    pub fn sigmoid_backward(&mut self, y: &Tensor<f32>, upstream: &Tensor<f32>) -> Result<Tensor<f32>> {
        self.map_backward("sigmoid_backward", &BACKWARD, y, upstream)
    }
}
