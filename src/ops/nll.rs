//! Negative log-likelihood of log-probabilities and class indices.

use crate::error::Result;
use crate::kernel::{Kernel, read, read4, wgsl, write, write4_over};
use crate::options::Nll;
use crate::recorder::Recorder;
use crate::tensor::Tensor;

use super::row_loss::{PARAMS, RowLoss};
use super::{Grad, LossGrad, Targets};

pub(super) const KERNEL: Kernel = Kernel {
    label: "xent.nll",
    source: wgsl!["lib/grid", "lib/numerics", "lib/rows", "lib/row_loss", "nll"],
    bindings: &[
        read4("log_probs"),
        read("targets", "i32"),
        read("weight", "f32"),
        read("denominator", "u32"),
        read("upstream", "f32"),
        write("losses", "f32"),
        write4_over("grad", "log_probs"),
    ],
    params: PARAMS,
    constants: &["WORKGROUP", "LANES", "GRAD"],
};

fn call<'a>(
    op: &'static str,
    grad: Grad,
    log_probs: &'a Tensor<f32>,
    targets: &'a Tensor<i32>,
    options: &'a Nll,
    upstream: Option<&'a Tensor<f32>>,
) -> RowLoss<'a> {
    let Nll { weight, reduction, ignore_index } = options;
    RowLoss {
        op,
        kernel: &KERNEL,
        input: log_probs,
        targets: Targets::Index(targets),
        weight: weight.as_ref(),
        reduction: *reduction,
        ignore_index: *ignore_index,
        label_smoothing: 0.0,
        upstream,
        grad,
    }
}

/// Negative log-likelihood. For logits, [`cross_entropy`](Recorder::cross_entropy) is faster and more accurate.
impl Recorder<'_> {
    /// Negative log-likelihood of log-probabilities and class indices: `loss = -w_t log_probs_t` for the target `t` and
    /// class weights `w`.
    ///
    /// # Shapes
    /// `log_probs` `[C]` or `[N, C, d1, .., dK]`, `targets` the same without `C`. The loss is a scalar, or has the targets' shape
    /// with [`Reduction::None`](crate::Reduction::None).
    ///
    /// # Reduction
    /// The mean divides by the sum of `w_t` over the rows that are not ignored (without weights: by their number); if that is 0 it
    /// is NaN.
    ///
    /// # Edge cases
    /// An ignored row costs 0 whatever it holds. A target that is no class costs NaN, and reading the result gives
    /// [`Error::Data`](crate::Error::Data) with its position. The input is not checked to be log-probabilities.
    ///
    /// # Errors
    /// Shapes that do not fit, tensors of another [`Gpu`](crate::Gpu), a row larger than a binding (for `[N, C, d1, .., dK]`: one of
    /// the `N` parts). Nothing is recorded then.
    ///
    /// # Cost
    /// One element of each row is read; a count and a reduction over the rows.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{Gpu, Nll, Tensor};
    /// # if let Ok(gpu) = Gpu::headless() {
    /// let log_probs = Tensor::from_slice(&gpu, [2, 2], &[-0.5, -0.9, -1.0, -0.25f32])?;
    /// let targets = Tensor::targets(&gpu, [2], &[0, 1], 2, -100)?;
    /// let mut batch = gpu.batch();
    /// let loss = batch.nll(&log_probs, &targets, &Nll::default())?;
    /// let mut loss = batch.read(&loss)?;
    /// batch.submit()?;
    /// assert_eq!(loss.wait(Duration::from_secs(10))?, [0.375]);
    /// # }
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is PyTorch's `torch.nn.functional.nll_loss`.
    pub fn nll(&mut self, log_probs: &Tensor<f32>, targets: &Tensor<i32>, options: &Nll) -> Result<Tensor<f32>> {
        Ok(self.row_loss(&call("nll", Grad::No, log_probs, targets, options, None))?.loss)
    }

    /// [`nll`](Self::nll) and its gradient with respect to the log-probabilities: `-g w_t` at the target, 0 elsewhere, where `g` is
    /// the upstream gradient (1 if there is none), divided by the mean's denominator.
    ///
    /// # Errors
    /// As [`nll`](Self::nll), and for an upstream gradient that is neither a scalar nor of the loss's shape.
    ///
    /// # Cost
    /// One write of the gradient.
    pub fn nll_backward(
        &mut self,
        log_probs: &Tensor<f32>,
        targets: &Tensor<i32>,
        options: &Nll,
        upstream: Option<&Tensor<f32>>,
    ) -> Result<LossGrad> {
        self.row_loss(&call("nll_backward", Grad::New, log_probs, targets, options, upstream))
    }
}
