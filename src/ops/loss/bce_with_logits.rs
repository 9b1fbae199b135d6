//! Binary cross-entropy of logits.

use crate::engine::kernel::{Kernel, kernel, read, read4, write, write4, write4_over};
use crate::ops::loss::Reduction;
use crate::ops::loss::definition::{Elementwise, ElementwiseLoss};
use crate::ops::loss::elements::PARAMS;
use crate::options::options;
use crate::tensor::Weights;

pub(crate) static KERNEL: Kernel = kernel!(
    "bce_with_logits",
    PARAMS,
    &[
        read4("x"),
        read4("y"),
        read4("upstream"),
        read("weight", "f32"),
        read("pos_weight", "f32"),
        write4("losses"),
        write4_over("grad", "x"),
        write("partials", "u32"),
    ]
);

options! {
    /// Binary cross-entropy of logits `x` and targets `y`:
    /// [`Recorder::bce_with_logits`](crate::Recorder::bce_with_logits).
    ///
    /// ```text
    /// loss = w * (v * y * softplus(-x) + (1 - y) * softplus(x))
    /// grad = g * w * ((v * y + 1 - y) * sigmoid(x) - v * y)
    /// ```
    ///
    /// with `softplus(u) = log(1 + exp(u))`, computed without overflow. The weight `w`, the
    /// positive weight `v` and the upstream gradient `g` are 1 if absent. A mean divides `g` by its
    /// denominator.
    ///
    /// # Reduction
    /// Both means divide by the number of losses, whatever the weights; the mean of nothing is NaN.
    ///
    /// # Edge cases
    /// At x = +-infinity the loss is its limit: 0 if the sign of x is right, +infinity if it is
    /// wrong (PyTorch: NaN in most of these cases). A weight of exactly 0 times an infinite loss is
    /// 0 (PyTorch: NaN). NaN propagates. Targets are not restricted to [0, 1].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::loss::BceWithLogits;
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let logits = Tensor::from_slice(&gpu, [2], &[2.0, -1.0f32])?;
    /// let targets = Tensor::from_slice(&gpu, [2], &[1.0, 0.0f32])?;
    /// let mut batch = gpu.batch();
    /// let loss = batch.bce_with_logits(&logits, &targets, &BceWithLogits::new())?;
    /// let mut loss = batch.read(&loss)?;
    /// batch.submit()?;
    /// assert!((loss.wait(Duration::from_secs(10))?[0] - 0.220095).abs() < 1e-6);
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is PyTorch's `torch.nn.functional.binary_cross_entropy_with_logits`.
    pub struct BceWithLogits {
        /// Factors of the losses, of any shape that broadcasts to the losses' shape. They do not
        /// enter the denominator of the mean.
        weight? Weights,
        /// Factors of the positive part of the loss, of any shape that broadcasts to the losses'
        /// shape.
        pos_weight? Weights,
        /// The reduction.
        reduction: Reduction = Reduction::Mean,
        /// Whether inputs and targets of different shapes are broadcast to a common one.
        broadcast: bool = false,
    }
}

impl ElementwiseLoss for BceWithLogits {
    fn describe(&self) -> Elementwise<'_> {
        let loss = Elementwise::new("bce_with_logits", &KERNEL, self.weight.as_ref(), self.reduction);
        Elementwise { input: "logits", broadcast: self.broadcast, pos_weight: self.pos_weight.as_ref(), ..loss }
    }
}
