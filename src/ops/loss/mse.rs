//! Squared error.

use crate::engine::kernel::{Kernel, kernel};
use crate::ops::loss::Reduction;
use crate::ops::loss::definition::{BINDINGS, Elementwise, ElementwiseLoss};
use crate::ops::loss::elements::PARAMS;
use crate::options::options;
use crate::tensor::Weights;

pub(crate) static KERNEL: Kernel = kernel!("mse", PARAMS, BINDINGS);

options! {
    /// Squared error of an input `x` and targets `y`: [`Recorder::mse`](crate::Recorder::mse).
    ///
    /// ```text
    /// loss = w * (x - y)^2
    /// grad = 2 * g * w * (x - y)
    /// ```
    ///
    /// Here `w` is the weight and `g` the upstream gradient, each 1 if absent. A mean divides `g`
    /// by its denominator.
    ///
    /// # Reduction
    /// [`Reduction::Mean`] divides by the sum of the weights as they are given, before
    /// broadcasting, or by the number of losses if there are no weights. [`Reduction::MeanByCount`]
    /// divides by the number of losses, whatever the weights. The mean of nothing is NaN; if the
    /// weights sum to 0, [`Reduction::Mean`] is an infinity or NaN.
    ///
    /// # Edge cases
    /// NaN and infinities follow IEEE arithmetic: as in PyTorch, a weight of 0 times an infinite
    /// loss is NaN. PyTorch always broadcasts, with a warning.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::loss::Mse;
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let input = Tensor::from_slice(&gpu, [2], &[1.0, 3.0f32])?;
    /// let targets = Tensor::from_slice(&gpu, [2], &[0.0, 1.0f32])?;
    /// let mut batch = gpu.batch();
    /// let loss = batch.mse(&input, &targets, &Mse::new())?;
    /// let mut loss = batch.read(&loss)?;
    /// batch.submit()?;
    /// assert!((loss.wait(Duration::from_secs(10))?[0] - 2.5).abs() < 1e-6);
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is PyTorch's `torch.nn.functional.mse_loss`.
    pub struct Mse {
        /// Factors of the losses, of the input's shape.
        weight? Weights,
        /// The reduction.
        reduction: Reduction = Reduction::Mean,
        /// Whether inputs and targets of different shapes are broadcast to a common one. By default
        /// they must have the same shape: `[N, 1]` and `[N]` would yield `N x N` losses, and a
        /// wrong model.
        broadcast: bool = false,
    }
}

impl ElementwiseLoss for Mse {
    fn describe(&self) -> Elementwise<'_> {
        let loss = Elementwise::new("mse", &KERNEL, self.weight.as_ref(), self.reduction);
        Elementwise { broadcast: self.broadcast, weight_like_input: true, mean_by_weight: true, slope_factor: 2.0, ..loss }
    }
}
