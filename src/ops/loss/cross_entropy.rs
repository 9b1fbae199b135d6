//! Cross-entropy of logits and targets.

use crate::engine::kernel::{Kernel, kernel, read, read4, update, write, write4_over};
use crate::error::{Error, Result, ensure};
use crate::options::options;
use crate::record::Recorder;
use crate::tensor::{Float, Tensor, Weights, narrow};

use crate::ops::loss::row_loss::{RowLoss, RowStatistics};
use crate::ops::loss::row_steps::PARAMS;
use crate::ops::loss::{LossOutput, LossRequest, Reduction, Targets};

pub(crate) static KERNEL: Kernel = kernel!(
    "cross_entropy",
    PARAMS,
    &[
        read4("logits"),
        read("targets", "i32"),
        read4("probabilities"),
        read4("weight"),
        read("position_weight", "f32"),
        read("factor", "f32"),
        write("losses", "f32"),
        write4_over("grad", "logits"),
        write("statistics", "u32"),
        read("parts", "f32"),
        update("lanes", "u32"),
    ]
);

options! {
    /// Options of cross-entropy (`cross_entropy`, `cross_entropy_with` and related operations).
    ///
    /// A number other than 0 must be at least 1.2e-38 (`f32::MIN_POSITIVE`), and so must each
    /// class's share of `label_smoothing`: hardware may flush smaller numbers to 0.
    pub struct CrossEntropy {
        /// A factor for each class, `[C]`; 1 if there is none. With label smoothing or
        /// probabilities, a class's part of the loss (weight times share times logit) may count as
        /// 0 if it is below 1.2e-38; gradients are not affected.
        weight? Weights,
        /// A factor for each row's loss, with the logits' shape without `C`; 1 if there is none. It
        /// may be negative, such as an advantage: then use [`Reduction::MeanByCount`], because
        /// weights of both signs sum to about 0, and the default mean divides by that sum. A row of
        /// weight 0 has loss 0, whatever it contains.
        position_weight? Weights,
        /// How the losses of rows are reduced. For class indices, [`Reduction::Mean`] divides by
        /// the sum of position weight times the target's class weight over the rows that are not
        /// ignored (without weights: by their number); for probabilities, by the sum of the
        /// position weights (without weights: by the number of rows). [`Reduction::MeanByCount`]
        /// divides by the number of rows whose target is not the ignored index.
        reduction: Reduction = Reduction::Mean,
        /// The part of a target that is spread evenly over all classes, from 0 to 1. With class
        /// weights, the sum of the weights must be within the range of `f32`.
        label_smoothing: f64 = 0.0,
        /// The factor that logits are multiplied by first: the inverse of a temperature, above 0.
        logit_scale: f64 = 1.0,
        /// The bound `k` of soft-capped logits, above 0: after the scale, `z` becomes
        /// `k tanh(z / k)`.
        softcap? f64,
        /// The factor of the z-loss, at least 0: each row's loss grows by `z_loss` times the square
        /// of the row's log-sum-exp, independent of class weights.
        z_loss: f64 = 0.0,
    }
}

impl CrossEntropy {
    /// Checks the numbers among the options.
    pub(crate) fn validate(&self, op: &'static str) -> Result<()> {
        let fail = |what, expected: &str, got: f64| Error::value(op, what, expected, got);
        // Kernels see the numbers as `f32`.
        let positive = |value: f64| narrow(value) > 0.0 && narrow(value).is_finite();
        let (smoothing, z_loss) = (self.label_smoothing, self.z_loss);
        let softcap = self.softcap.unwrap_or(1.0);
        ensure!((0.0..=1.0).contains(&smoothing), fail("label_smoothing", "in 0..=1", smoothing));
        ensure!(positive(self.logit_scale), fail("logit_scale", "above 0 and finite", self.logit_scale));
        ensure!(positive(softcap), fail("softcap", "above 0 and finite", softcap));
        ensure!(z_loss >= 0.0 && narrow(z_loss).is_finite(), fail("z_loss", "at least 0 and finite", z_loss));
        let all = [
            ("label_smoothing", smoothing),
            ("logit_scale", self.logit_scale),
            ("softcap", softcap),
            ("z_loss", z_loss),
        ];
        // Hardware may flush subnormal numbers to 0.
        match all.into_iter().find(|&(_, value)| value != 0.0 && !narrow(value).is_normal()) {
            Some((what, value)) => {
                let may_be_zero = what == "label_smoothing" || what == "z_loss";
                let expected = if may_be_zero { "at least 1.2e-38, or 0" } else { "at least 1.2e-38" };
                Err(Error::value(op, what, expected, format!("{value:e}")))
            }
            None => Ok(()),
        }
    }

    /// Checks the share of a smoothed target that each of `classes` classes gets.
    pub(crate) fn validate_share(&self, op: &'static str, classes: usize) -> Result<()> {
        let share = narrow(self.label_smoothing / f64::from(u32::try_from(classes.max(1)).unwrap_or(u32::MAX)));
        if share.is_normal() || self.label_smoothing == 0.0 {
            return Ok(());
        }
        let expected = format!("at least 1.2e-38 for each of {classes} classes, or 0");
        Err(Error::value(op, "label_smoothing", expected, format!("{:e}", self.label_smoothing)))
    }
}

/// Cross-entropy: log-softmax and negative log-likelihood in one pass.
impl Recorder<'_> {
    /// Cross-entropy of logits and targets:
    ///
    /// ```text
    /// loss = v * (-(sum over c of a_c log softmax(z)_c) + z_loss * logsumexp(z)^2)
    /// ```
    ///
    /// * The logits `z` are `logit_scale * x`, or, with a `softcap` of `k`,
    ///   `k tanh(logit_scale * x / k)`.
    /// * The coefficients `a_c`, for class weights `w`, label smoothing `s` and `C` classes, are
    ///   `(1 - s) w_t [c = t] + s / C w_c` for a class index `t`, and `w_c ((1 - s) q_c + s / C)`
    ///   for class probabilities `q`.
    /// * `v` is the position weight of the row.
    ///
    /// Without options, the loss is `-log softmax(x)_t`. The log-probability is computed as
    /// `(z_t - m) - log(sum of exp(z - m))` with the row maximum `m`, so a common offset does no
    /// harm and a confident row's small loss keeps its relative precision.
    ///
    /// # Shapes
    /// `logits` (of any [`Float`] type; all arithmetic is `f32`) is `[C]` or `[N, C, d1, .., dK]`.
    /// Class indices (`Tensor<i32>` or `Tensor<u32>`) and `position_weight` have the same shape
    /// without `C`, probabilities (`Tensor<f32>`) the same shape; `weight` is `[C]`. The loss is a
    /// scalar, or has the logits' shape without `C` with
    /// [`Reduction::None`](crate::loss::Reduction::None).
    ///
    /// # Reduction
    /// * [`Reduction::Mean`](crate::loss::Reduction::Mean) divides, for class indices, by the sum
    ///   of `v w_t` over the rows that are not ignored (without weights: by their number); for
    ///   probabilities, by the sum of `v` (without weights: by the number of rows). If that
    ///   denominator is 0, the mean is NaN, or an infinity if weights of both signs cancel; if it
    ///   is nearly 0, as for advantages, the mean and its gradients are huge.
    /// * [`Reduction::MeanByCount`](crate::loss::Reduction::MeanByCount), for such weights, divides
    ///   by the number of rows whose target is not the ignored index, whatever their weights, even
    ///   0; for probabilities, by the number of rows. If that denominator is 0, the mean is NaN.
    ///
    /// # Edge cases
    /// * A row whose target is the ignored index, or whose position weight is 0, is ignored: its
    ///   loss is 0, whatever it contains.
    /// * A coefficient `a_c` of exactly 0 times an infinite log-probability is 0 (PyTorch: NaN).
    /// * A row with NaN, +infinity, or nothing but -infinity has the loss NaN. A target whose logit
    ///   is -infinity has the loss +infinity. (A cap makes infinite logits finite, as its formula
    ///   says: a mask of -infinity works only after the cap.)
    /// * A target that is not a class makes its loss NaN, and reading the result returns
    ///   [`Error::Data`](crate::Error::Data) with its position; [`Targets::new`] detects it on the
    ///   host.
    /// * Probabilities need not sum to 1.
    ///
    /// # Errors
    /// Shapes that do not fit; a label smoothing outside 0 to 1 (PyTorch treats a negative one as
    /// 0), a `logit_scale` or `softcap` that is not above 0, a negative `z_loss`, and any of these
    /// numbers that is not finite, or is not 0 but below 1.2e-38; a class's share of the label
    /// smoothing that is not 0 but below 1.2e-38; an ignored index of 0 or more with probabilities;
    /// tensors of another [`Gpu`](crate::Gpu); a row larger than a binding (for halves of shape
    /// `[N, C, d1, .., dK]` with an odd product of the `d`s: all elements of one index along `N`).
    /// On an error nothing is recorded (except as stated for [`Recorder`]).
    ///
    /// # Cost
    /// One pass over the logits reads them once (4 bytes an element, 2 with halves). With smoothing
    /// or probabilities it reads them twice, the second time mostly from a cache, unless the row
    /// stays in registers (on a GPU up to 8192 classes, on some up to 32768). Probabilities are
    /// read once (4 bytes an element). Passes over a few values per row sum the weights (for class
    /// indices, or with position weights) and reduce the losses.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::loss::{CrossEntropy, Targets};
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let logits = Tensor::from_slice(&gpu, [2, 3], &[2.0, 1.0, 0.0, 0.0, 0.0, 0.0f32])?;
    /// let targets = Targets::new(&gpu, [2], &[0, 2], 3)?;
    /// let mut batch = gpu.batch();
    /// let loss = batch.cross_entropy(&logits, &targets, &CrossEntropy::default())?;
    /// let mut loss = batch.read(&loss)?;
    /// batch.submit()?;
    /// // The mean of log(1 + e^-1 + e^-2) and log 3.
    /// assert!((loss.wait(Duration::from_secs(10))?[0] - 0.753109).abs() < 1e-6);
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is that of PyTorch's `torch.nn.functional.cross_entropy`, to which position
    /// weights, scale, cap and z-loss are added.
    pub fn cross_entropy<T: Float>(
        &mut self,
        logits: &Tensor<T>,
        targets: impl Into<Targets>,
        options: &CrossEntropy,
    ) -> Result<Tensor<f32>> {
        Ok(self.cross_entropy_with(logits, targets, options, LossRequest::new())?.loss)
    }

    /// [`cross_entropy`](Self::cross_entropy), and from the same pass the results that `request`
    /// asks for: the [`Statistics`](crate::loss::Statistics), and the gradient with respect to the
    /// logits,
    ///
    /// ```text
    /// grad_c = g * v * (A p_c - a_c + 2 z_loss logsumexp(z) p_c) * dz_c/dx_c
    /// ```
    ///
    /// where `p` is `softmax(z)`, `A` the sum of the coefficients `a_c`, and `g` the upstream
    /// gradient (1 if there is none), which a mean divides by its denominator. `dz/dx` is
    /// `logit_scale`; a cap of `k` multiplies it by `1 - tanh(logit_scale * x / k)^2`. The upstream
    /// gradient is a scalar, or has the loss's shape.
    ///
    /// # Edge cases
    /// The gradient of an ignored row is exactly 0, whatever its logits (PyTorch: NaN if they are
    /// NaN). A row whose loss is NaN has a NaN gradient; a row whose loss is +infinity has a finite
    /// gradient.
    ///
    /// # Errors
    /// As [`cross_entropy`](Self::cross_entropy); an upstream gradient or a destination of another
    /// shape; [`Error::Aliasing`](crate::Error::Aliasing) if the destination of the gradient shares
    /// its buffer with another argument.
    ///
    /// # Cost
    /// With a gradient, up to two reads of a row (three with smoothing or probabilities), all but
    /// the first mostly from a cache, and one write: 8 bytes an element to and from memory, 4 with
    /// halves. A row in registers is read once. On a GPU, rows of more than 8192 classes that are
    /// too few to keep it busy take two dispatches, with or without a gradient, if the targets are
    /// class indices without smoothing and no statistics are requested. Rows beyond the loop budget
    /// ([`Caps::max_turns`](crate::Caps::max_turns)) take more. Dividing an upstream gradient by a
    /// denominator that the GPU computes takes a dispatch of its own. Statistics take at most one
    /// more read of a row, mostly from a cache (none with smoothing or probabilities, whose sums
    /// take the same read), and 56 bytes a row to store and split them; nothing of the size of the
    /// logits is stored.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::loss::{CrossEntropy, LossRequest, Targets};
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let logits = Tensor::from_slice(&gpu, [2, 3], &[2.0, 1.0, 0.0, 0.0, 0.0, 0.0f32])?;
    /// let targets = Targets::new(&gpu, [2], &[0, 2], 3)?;
    /// let mut batch = gpu.batch();
    /// let request = LossRequest::new().statistics();
    /// let out = batch.cross_entropy_with(&logits, &targets, &CrossEntropy::default(), request)?;
    /// let statistics = out.row_statistics()?;
    /// let (mut predicted, mut correct) = (batch.read(&statistics.predicted)?, batch.read(&statistics.correct)?);
    /// batch.submit()?;
    /// assert_eq!(predicted.wait(Duration::from_secs(10))?, [0, 0]);
    /// assert_eq!(correct.wait(Duration::from_secs(10))?, [1]);
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn cross_entropy_with<'a, T: Float>(
        &mut self,
        logits: &Tensor<T>,
        targets: impl Into<Targets>,
        options: &CrossEntropy,
        request: impl Into<LossRequest<'a, T>>,
    ) -> Result<LossOutput<T>> {
        self.cross_entropy_loss(logits, &targets.into(), options, &request.into(), true)
    }

    /// [`cross_entropy_with`](Self::cross_entropy_with). `divided` says whether a mean is divided
    /// by its denominator, or left as a sum.
    pub(crate) fn cross_entropy_loss<T: Float>(
        &mut self,
        logits: &Tensor<T>,
        targets: &Targets,
        options: &CrossEntropy,
        request: &LossRequest<'_, T>,
        divided: bool,
    ) -> Result<LossOutput<T>> {
        let call = RowLoss {
            op: "cross_entropy",
            kernel: &KERNEL,
            shape: logits.shape().clone(),
            targets,
            options: options.clone(),
            divided,
            upstream: request.upstream,
            gradient: request.grad.place(),
            statistics: RowStatistics::wanted(request.statistics),
            threshold: 0.0,
            most_rows_for_plan: u32::MAX,
        };
        self.row_loss(&call, logits, request.grad)
    }
}
