//! Huber's loss.

use crate::engine::kernel::{Kernel, kernel};
use crate::error::{Error, Result, ensure};
use crate::ops::loss::Reduction;
use crate::ops::loss::definition::{BINDINGS, Elementwise, ElementwiseLoss};
use crate::ops::loss::elements::PARAMS;
use crate::options::options;
use crate::tensor::{Weights, narrow};

pub(crate) static KERNEL: Kernel = kernel!("huber", PARAMS, BINDINGS);

options! {
    /// Huber's loss of an input `x` and targets `y`: [`Recorder::huber`](crate::Recorder::huber).
    /// Squared error up to a distance of `delta`, absolute error beyond, so that outliers pull
    /// less.
    ///
    /// ```text
    /// loss = w * (x - y)^2 / 2                       if |x - y| <= delta
    ///        w * delta * (|x - y| - delta / 2)       otherwise
    /// grad = g * w * clamp(x - y, -delta, delta)
    /// ```
    ///
    /// Here `w` is the weight and `g` the upstream gradient, each 1 if absent. A mean divides `g`
    /// by its denominator.
    ///
    /// # Reduction
    /// Both means divide by the number of losses, whatever the weights; the mean of nothing is NaN.
    ///
    /// # Edge cases
    /// NaN and infinities follow IEEE arithmetic: as in PyTorch, a weight of 0 times an infinite
    /// loss is NaN.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::loss::Huber;
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let input = Tensor::from_slice(&gpu, [2], &[1.0, 9.0f32])?;
    /// let targets = Tensor::from_slice(&gpu, [2], &[0.0, 1.0f32])?;
    /// let mut batch = gpu.batch();
    /// let loss = batch.huber(&input, &targets, &Huber::new().delta(2.0))?;
    /// let mut loss = batch.read(&loss)?;
    /// batch.submit()?;
    /// // The mean of 0.5 and 2 * (8 - 1).
    /// assert_eq!(loss.wait(Duration::from_secs(10))?, [7.25]);
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is PyTorch's `torch.nn.functional.huber_loss`.
    pub struct Huber {
        /// The distance beyond which the loss is linear: at least 1.2e-38, and finite.
        delta: f64 = 1.0,
        /// Factors of the losses, of the input's shape. They do not enter the denominator of the
        /// mean.
        weight? Weights,
        /// The reduction.
        reduction: Reduction = Reduction::Mean,
        /// Whether inputs and targets of different shapes are broadcast to a common one.
        broadcast: bool = false,
    }
}

impl ElementwiseLoss for Huber {
    fn describe(&self) -> Elementwise<'_> {
        let loss = Elementwise::new("huber", &KERNEL, self.weight.as_ref(), self.reduction);
        // Lifted differences are below 2^64 (`shaders/lib/difference.wgsl`), so none reaches a
        // larger lifted `delta`: 2^64 stands for it.
        let lifted = self.delta.min(2f64.powi(-62)) * 2f64.powi(126);
        Elementwise { broadcast: self.broadcast, weight_like_input: true, options: [self.delta, lifted], ..loss }
    }

    fn validate(&self) -> Result<()> {
        let (delta, expected) = (narrow(self.delta), "at least 1.2e-38 and finite");
        ensure!(delta.is_normal() && delta > 0.0, Error::value("huber", "delta", expected, self.delta));
        Ok(())
    }
}
