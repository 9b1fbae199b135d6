//! Cross-entropy of logits and class indices.

use crate::error::Result;
use crate::kernel::{Kernel, wgsl};
use crate::options::CrossEntropy;
use crate::recorder::Recorder;
use crate::tensor::Tensor;

use super::row_loss::{CONSTANTS, PARAMS, RowLoss, bindings};
use super::{Grad, LossGrad};

pub(super) const KERNEL: Kernel = Kernel {
    label: "xent.cross_entropy",
    source: wgsl!["lib/grid", "lib/numerics", "lib/rows", "lib/softmax", "lib/row_loss", "cross_entropy"],
    bindings: &bindings("logits"),
    params: PARAMS,
    constants: CONSTANTS,
};

fn call<'a>(
    op: &'static str,
    grad: Grad,
    logits: &'a Tensor<f32>,
    targets: &'a Tensor<i32>,
    options: &CrossEntropy,
    upstream: Option<&'a Tensor<f32>>,
) -> RowLoss<'a> {
    let &CrossEntropy { reduction, ignore_index } = options;
    RowLoss { op, kernel: &KERNEL, input: logits, targets, reduction, ignore_index, upstream, grad }
}

/// Cross-entropy: log-softmax and negative log-likelihood in one pass.
impl Recorder<'_> {
    /// Cross-entropy of logits and class indices: `loss = -log softmax(logits)[target]`.
    ///
    /// The log-probability is formed as `(x_t - m) - log(sum of exp(x - m))` with the row's maximum `m`, so a common offset
    /// does no harm and a confident row's small loss keeps its relative precision.
    ///
    /// # Shapes
    /// `logits` `[C]` or `[N, C, d1, .., dK]`, `targets` the same without `C`. The loss is a scalar, or has the targets' shape
    /// with [`Reduction::None`](crate::Reduction::None).
    ///
    /// # Reduction
    /// The mean divides by the number of targets that are not ignored; if that is 0 it is NaN.
    ///
    /// # Edge cases
    /// A row with NaN, +infinity, or nothing but -infinity has the loss NaN. A target whose logit is -infinity costs
    /// +infinity. An ignored row costs 0 whatever it holds. A target that is no class costs NaN, and reading the result gives
    /// [`Error::Data`](crate::Error::Data) with its position; [`Tensor::targets`] finds it on the host.
    ///
    /// # Errors
    /// Shapes that do not fit, tensors of another [`Gpu`](crate::Gpu), a row larger than a binding (for `[N, C, d1, .., dK]`: one of
    /// the `N` parts). Nothing is recorded then.
    ///
    /// # Cost
    /// One read of the logits, and a count and a reduction over the rows.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{CrossEntropy, Gpu, Tensor};
    /// # if let Ok(gpu) = Gpu::headless() {
    /// let logits = Tensor::from_slice(&gpu, [2, 3], &[2.0, 1.0, 0.0, 0.0, 0.0, 0.0f32])?;
    /// let targets = Tensor::targets(&gpu, [2], &[0, 2], 3, -100)?;
    /// let mut batch = gpu.batch();
    /// let loss = batch.cross_entropy(&logits, &targets, &CrossEntropy::default())?;
    /// let mut loss = batch.read(&loss)?;
    /// batch.submit()?;
    /// // The mean of log(1 + e^-1 + e^-2) and log 3.
    /// assert!((loss.wait(Duration::from_secs(10))?[0] - 0.753109).abs() < 1e-6);
    /// # }
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is PyTorch's `torch.nn.functional.cross_entropy`.
    pub fn cross_entropy(
        &mut self,
        logits: &Tensor<f32>,
        targets: &Tensor<i32>,
        options: &CrossEntropy,
    ) -> Result<Tensor<f32>> {
        let call = call("cross_entropy", Grad::No, logits, targets, options, None);
        Ok(self.row_loss(&call)?.loss)
    }

    /// [`cross_entropy`](Self::cross_entropy) and its gradient with respect to the logits, in one dispatch.
    ///
    /// `grad = g * (softmax(logits) - onehot(target))`, where `g` is the upstream gradient (1 if there is none), divided by the
    /// mean's denominator. `upstream` is a scalar or has the loss's shape.
    ///
    /// # Edge cases
    /// An ignored row has a gradient of exactly 0 whatever its logits hold (PyTorch: NaN where they hold NaN). A row whose
    /// loss is NaN has a NaN gradient; one whose loss is +infinity has a finite one.
    ///
    /// # Errors
    /// As [`cross_entropy`](Self::cross_entropy), and for an upstream gradient of another shape.
    ///
    /// # Cost
    /// Two reads of a row, the second from a cache, and one write: 8 bytes an element to and from memory.
    pub fn cross_entropy_backward(
        &mut self,
        logits: &Tensor<f32>,
        targets: &Tensor<i32>,
        options: &CrossEntropy,
        upstream: Option<&Tensor<f32>>,
    ) -> Result<LossGrad> {
        self.row_loss(&call("cross_entropy_backward", Grad::New, logits, targets, options, upstream))
    }

    /// [`cross_entropy_backward`](Self::cross_entropy_backward) with the gradient written over the logits. Returns the loss.
    ///
    /// # Errors
    /// As [`cross_entropy_backward`](Self::cross_entropy_backward), and if the logits share their buffer with another argument.
    pub fn cross_entropy_backward_in_place(
        &mut self,
        logits: &Tensor<f32>,
        targets: &Tensor<i32>,
        options: &CrossEntropy,
        upstream: Option<&Tensor<f32>>,
    ) -> Result<Tensor<f32>> {
        let op = "cross_entropy_backward_in_place";
        Ok(self.row_loss(&call(op, Grad::InPlace, logits, targets, options, upstream))?.loss)
    }
}
