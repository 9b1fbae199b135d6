//! Cross-entropy of logits and class indices.

use crate::error::Result;
use crate::kernel::{Kernel, read, read4, wgsl, write, write4_over};
use crate::options::CrossEntropy;
use crate::recorder::Recorder;
use crate::tensor::Tensor;

use super::row_loss::{PARAMS, RowLoss};
use super::{Grad, LossGrad, Targets};

pub(super) const KERNEL: Kernel = Kernel {
    label: "xent.cross_entropy",
    source: wgsl!["lib/grid", "lib/numerics", "lib/rows", "lib/softmax", "lib/row_loss", "cross_entropy"],
    bindings: &[
        read4("logits"),
        read("targets", "i32"),
        read("probabilities", "f32"),
        read("weight", "f32"),
        read("denominator", "u32"),
        read("upstream", "f32"),
        write("losses", "f32"),
        write4_over("grad", "logits"),
    ],
    params: PARAMS,
    constants: &["WORKGROUP", "LANES", "GRAD", "TARGETS"],
};

fn call<'a>(
    op: &'static str,
    grad: Grad,
    logits: &'a Tensor<f32>,
    targets: Targets<'a>,
    options: &'a CrossEntropy,
    upstream: Option<&'a Tensor<f32>>,
) -> RowLoss<'a> {
    let CrossEntropy { weight, reduction, ignore_index, label_smoothing } = options;
    RowLoss {
        op,
        kernel: &KERNEL,
        input: logits,
        targets,
        weight: weight.as_ref(),
        reduction: *reduction,
        ignore_index: *ignore_index,
        label_smoothing: *label_smoothing,
        upstream,
        grad,
    }
}

/// Cross-entropy: log-softmax and negative log-likelihood in one pass.
impl Recorder<'_> {
    /// Cross-entropy of logits and targets: `loss = -sum over c of a_c log softmax(logits)_c`, where for class weights `w`, label
    /// smoothing `s` and `C` classes
    ///
    /// * a class index `t` has `a_c = (1 - s) w_t [c = t] + s / C w_c`: without options, `loss = -log softmax(logits)_t`;
    /// * class probabilities `q` have `a_c = w_c ((1 - s) q_c + s / C)`.
    ///
    /// The log-probability is formed as `(x_t - m) - log(sum of exp(x - m))` with the row's maximum `m`, so a common offset
    /// does no harm and a confident row's small loss keeps its relative precision.
    ///
    /// # Shapes
    /// `logits` `[C]` or `[N, C, d1, .., dK]`; class indices (`Tensor<i32>`) the same without `C`, probabilities (`Tensor<f32>`) the
    /// same. `weight` is `[C]`. The loss is a scalar, or has the logits' shape without `C` with
    /// [`Reduction::None`](crate::Reduction::None).
    ///
    /// # Reduction
    /// For class indices the mean divides by the sum of `w_t` over the rows that are not ignored (without weights: by their
    /// number); if that is 0 it is NaN. For probabilities it divides by the number of rows.
    ///
    /// # Edge cases
    /// A coefficient `a_c` of exactly 0 times an infinite log-probability is 0 (PyTorch: NaN). Probabilities need not sum to 1.
    /// A row with NaN, +infinity, or nothing but -infinity has the loss NaN. A target whose logit is -infinity costs
    /// +infinity. An ignored row costs 0 whatever it holds. A target that is no class costs NaN, and reading the result gives
    /// [`Error::Data`](crate::Error::Data) with its position; [`Tensor::targets`] finds it on the host.
    ///
    /// # Errors
    /// Shapes that do not fit, a label smoothing outside 0 to 1 (PyTorch takes a negative one as 0), an `ignore_index` of 0 or more
    /// with probabilities, tensors of another [`Gpu`](crate::Gpu), a row larger than a binding (for `[N, C, d1, .., dK]`: one of
    /// the `N` parts). Nothing is recorded then.
    ///
    /// # Cost
    /// One read of the logits (two with smoothing or probabilities, and one of these), and two reductions over the rows.
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
    pub fn cross_entropy<'a>(
        &mut self,
        logits: &'a Tensor<f32>,
        targets: impl Into<Targets<'a>>,
        options: &'a CrossEntropy,
    ) -> Result<Tensor<f32>> {
        let call = call("cross_entropy", Grad::No, logits, targets.into(), options, None);
        Ok(self.row_loss(&call)?.loss)
    }

    /// [`cross_entropy`](Self::cross_entropy) and its gradient with respect to the logits, in one dispatch.
    ///
    /// `grad_c = g * (A softmax(logits)_c - a_c)` with the sum `A` of the coefficients `a_c`, where `g` is the upstream gradient (1 if
    /// there is none), divided by the mean's denominator. `upstream` is a scalar or has the loss's shape.
    ///
    /// # Edge cases
    /// An ignored row has a gradient of exactly 0 whatever its logits hold (PyTorch: NaN where they hold NaN). A row whose
    /// loss is NaN has a NaN gradient; one whose loss is +infinity has a finite one.
    ///
    /// # Errors
    /// As [`cross_entropy`](Self::cross_entropy), and for an upstream gradient of another shape.
    ///
    /// # Cost
    /// Two reads of a row (three with smoothing or probabilities), all but the first from a cache, and one write: 8 bytes an element
    /// to and from memory.
    pub fn cross_entropy_backward<'a>(
        &mut self,
        logits: &'a Tensor<f32>,
        targets: impl Into<Targets<'a>>,
        options: &'a CrossEntropy,
        upstream: Option<&'a Tensor<f32>>,
    ) -> Result<LossGrad> {
        self.row_loss(&call("cross_entropy_backward", Grad::New, logits, targets.into(), options, upstream))
    }

    /// [`cross_entropy_backward`](Self::cross_entropy_backward) with the gradient written over the logits. Returns the loss.
    ///
    /// # Errors
    /// As [`cross_entropy_backward`](Self::cross_entropy_backward), and if the logits share their buffer with another argument.
    pub fn cross_entropy_backward_in_place<'a>(
        &mut self,
        logits: &'a Tensor<f32>,
        targets: impl Into<Targets<'a>>,
        options: &'a CrossEntropy,
        upstream: Option<&'a Tensor<f32>>,
    ) -> Result<Tensor<f32>> {
        let op = "cross_entropy_backward_in_place";
        Ok(self.row_loss(&call(op, Grad::InPlace, logits, targets.into(), options, upstream))?.loss)
    }
}
