//! Negative log-likelihood of log-probabilities and class indices.

use crate::engine::kernel::{Kernel, kernel, read, read4, write, write4_over};
use crate::error::Result;
use crate::options::options;
use crate::record::Recorder;
use crate::tensor::{Float, Tensor, Weights};

use crate::ops::loss::row_loss::{RowLoss, RowStatistics};
use crate::ops::loss::row_steps::PARAMS;
use crate::ops::loss::{CrossEntropy, LossOutput, LossRequest, Reduction, Targets};

pub(crate) static KERNEL: Kernel = kernel!(
    "nll",
    PARAMS,
    &[
        read4("log_probs"),
        read("targets", "i32"),
        read("weight", "f32"),
        read("position_weight", "f32"),
        read("factor", "f32"),
        write("losses", "f32"),
        write4_over("grad", "log_probs"),
    ]
);

options! {
    /// Options of the negative log-likelihood (`nll`, `nll_with`).
    pub struct Nll {
        /// A factor for each class, `[C]`; 1 if there is none.
        weight? Weights,
        /// A factor for each row's loss, with the shape of the targets; 1 if there is none. The
        /// rules of [`CrossEntropy::position_weight`] apply.
        position_weight? Weights,
        /// How the losses of rows are reduced. [`Reduction::Mean`] divides by the sum of position
        /// weight times the target's class weight over the rows that are not ignored (without
        /// weights: by their number), [`Reduction::MeanByCount`] by the number of rows whose target
        /// is not the ignored index.
        reduction: Reduction = Reduction::Mean,
    }
}

/// Negative log-likelihood. For logits, [`cross_entropy`](Recorder::cross_entropy) is faster and
/// more accurate.
impl Recorder<'_> {
    /// Negative log-likelihood of log-probabilities and class indices: `loss = -v w_t log_probs_t`
    /// for the target `t`, class weights `w` and the row's position weight `v` (each 1 if absent).
    ///
    /// # Shapes
    /// `log_probs` (of any [`Float`] type) is `[C]` or `[N, C, d1, .., dK]`; `targets`
    /// (`Tensor<i32>` or `Tensor<u32>`) and `position_weight` have the same shape without `C`;
    /// `weight` is `[C]`. The loss is a scalar, or has the targets' shape with
    /// [`Reduction::None`](crate::loss::Reduction::None).
    ///
    /// # Reduction
    /// The means are those of [`cross_entropy`](Self::cross_entropy):
    /// [`Reduction::Mean`](crate::loss::Reduction::Mean) divides by the sum of `v w_t` over the
    /// rows that are not ignored, [`Reduction::MeanByCount`](crate::loss::Reduction::MeanByCount)
    /// by the number of rows whose target is not the ignored index.
    ///
    /// # Edge cases
    /// A row whose target is the ignored index, or whose position weight is 0, is ignored: its loss
    /// is 0, whatever it contains. A weight `v w_t` of 0 times an infinite log-probability is 0
    /// (PyTorch: NaN). A target that is not a class makes its loss NaN, and reading the result
    /// returns [`Error::Data`](crate::Error::Data) with its position; [`Targets::new`] detects it
    /// on the host. Nothing checks that the input consists of log-probabilities.
    ///
    /// # Errors
    /// Shapes that do not fit; probabilities as targets; tensors of another [`Gpu`](crate::Gpu); a
    /// row larger than a binding (for halves of shape `[N, C, d1, .., dK]` with an odd product of
    /// the `d`s: all elements of one index along `N`). On an error nothing is recorded (except as
    /// stated for [`Recorder`]).
    ///
    /// # Cost
    /// Three passes over the rows, none over the classes: the sum of the weights, the losses (one
    /// element of each row is read), and the sum of the losses, each 4 to 16 bytes a row. Sums of
    /// more than 3072 rows take one more small pass, and another for each further factor of 1024.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::loss::{Nll, Targets};
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let log_probs = Tensor::from_slice(&gpu, [2, 2], &[-0.5, -0.9, -1.0, -0.25f32])?;
    /// let targets = Targets::new(&gpu, [2], &[0, 1], 2)?;
    /// let mut batch = gpu.batch();
    /// let loss = batch.nll(&log_probs, &targets, &Nll::default())?;
    /// let mut loss = batch.read(&loss)?;
    /// batch.submit()?;
    /// assert_eq!(loss.wait(Duration::from_secs(10))?, [0.375]);
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is PyTorch's `torch.nn.functional.nll_loss`.
    pub fn nll<T: Float>(
        &mut self,
        log_probs: &Tensor<T>,
        targets: impl Into<Targets>,
        options: &Nll,
    ) -> Result<Tensor<f32>> {
        Ok(self.nll_with(log_probs, targets, options, LossRequest::new())?.loss)
    }

    /// [`nll`](Self::nll) with its gradient with respect to the log-probabilities: `-g v w_t` at
    /// the target, 0 elsewhere, where `g` is the upstream gradient (1 if there is none), which a
    /// mean divides by its denominator. The upstream gradient is a scalar, or has the loss's shape.
    ///
    /// # Edge cases
    /// The gradient of an ignored row is 0; the gradient of a row whose target is not a class is
    /// NaN.
    ///
    /// # Errors
    /// As [`nll`](Self::nll); an upstream gradient or a destination of another shape; a request for
    /// statistics; [`Error::Aliasing`](crate::Error::Aliasing) if the destination of the gradient
    /// shares its buffer with another argument.
    ///
    /// # Cost
    /// One write of the gradient (4 bytes an element, 2 with halves), and, for an upstream gradient
    /// with a mean, one small dispatch.
    pub fn nll_with<'a, T: Float>(
        &mut self,
        log_probs: &Tensor<T>,
        targets: impl Into<Targets>,
        options: &Nll,
        request: impl Into<LossRequest<'a, T>>,
    ) -> Result<LossOutput<T>> {
        let request = request.into();
        request.reject_statistics("nll")?;
        let Nll { weight, position_weight, reduction } = options.clone();
        let call = RowLoss {
            op: "nll",
            kernel: &KERNEL,
            shape: log_probs.shape().clone(),
            targets: &targets.into(),
            options: CrossEntropy { weight, position_weight, reduction, ..CrossEntropy::new() },
            divided: true,
            upstream: request.upstream,
            gradient: request.grad.place(),
            statistics: RowStatistics::None,
            threshold: 0.0,
            most_rows_for_plan: u32::MAX,
        };
        self.row_loss(&call, log_probs, request.grad)
    }
}
