//! Binary cross-entropy of probabilities.

use crate::engine::kernel::{Kernel, kernel};
use crate::ops::loss::Reduction;
use crate::ops::loss::definition::{BINDINGS, Elementwise, ElementwiseLoss};
use crate::ops::loss::elements::PARAMS;
use crate::options::options;
use crate::tensor::Weights;

pub(crate) static KERNEL: Kernel = kernel!("bce", PARAMS, BINDINGS);

options! {
    /// Binary cross-entropy of probabilities `p` and targets `y`, both in [0, 1]:
    /// [`Recorder::bce`](crate::Recorder::bce).
    ///
    /// ```text
    /// loss = -w * (y * max(log p, -100) + (1 - y) * max(log(1 - p), -100))
    /// grad = g * w * (p - y) / max(p * (1 - p), 1e-12)
    /// ```
    ///
    /// Here `w` is the weight and `g` the upstream gradient, each 1 if absent. A mean divides `g`
    /// by its denominator.
    ///
    /// # Reduction
    /// Both means divide by the number of losses, whatever the weights; the mean of nothing is NaN.
    ///
    /// # Edge cases
    /// A probability or target that is NaN or outside [0, 1] makes its loss and gradient NaN, and
    /// reading the result returns [`Error::Data`](crate::Error::Data) with its position.
    /// [`BceWithLogits`](crate::loss::BceWithLogits) stays accurate even where a probability would
    /// round to 0 or 1.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::loss::Bce;
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let probabilities = Tensor::from_slice(&gpu, [2], &[0.9, 0.1f32])?;
    /// let targets = Tensor::from_slice(&gpu, [2], &[1.0, 0.0f32])?;
    /// let mut batch = gpu.batch();
    /// let loss = batch.bce(&probabilities, &targets, &Bce::new())?;
    /// let mut loss = batch.read(&loss)?;
    /// batch.submit()?;
    /// assert!((loss.wait(Duration::from_secs(10))?[0] - 0.105361).abs() < 1e-6);
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is PyTorch's `torch.nn.functional.binary_cross_entropy`.
    pub struct Bce {
        /// Factors of the losses, of any shape that broadcasts to the losses' shape. They do not
        /// enter the denominator of the mean.
        weight? Weights,
        /// The reduction.
        reduction: Reduction = Reduction::Mean,
        /// Whether inputs and targets of different shapes are broadcast to a common one.
        broadcast: bool = false,
    }
}

impl ElementwiseLoss for Bce {
    fn describe(&self) -> Elementwise<'_> {
        let loss = Elementwise::new("bce", &KERNEL, self.weight.as_ref(), self.reduction);
        Elementwise { input: "probabilities", broadcast: self.broadcast, ..loss }
    }
}
