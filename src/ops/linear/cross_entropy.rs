//! Cross-entropy of a linear layer's outputs.

use crate::error::Result;
use crate::ops::linear::LinearCrossEntropy;
use crate::ops::loss::CrossEntropy;
use crate::plan::linear::LinearPlan;
use crate::record::Recorder;
use crate::tensor::{Float, Tensor};

use crate::ops::linear::layer::Layer;
use crate::ops::linear::request::{LinearLossOutput, LinearLossRequest};
use crate::ops::loss::Targets;
use crate::ops::loss::cross_entropy::KERNEL;
use crate::ops::loss::request::GradientPlace;
use crate::ops::loss::row_loss::{RowLoss, RowStatistics, RowsOutput};
use crate::ops::product::matmul::Zeros;

impl Recorder<'_> {
    /// [`cross_entropy`](Self::cross_entropy) of the logits `hidden weight^T + bias`, storing the
    /// logits of only a few tokens at a time.
    ///
    /// All options have the same meaning, and both means the same denominators, as for
    /// [`cross_entropy`](Self::cross_entropy). Each logit is summed over `D` in order, in runs of
    /// 64, as [`matmul`](Self::matmul) does on software adapters for `D` up to 4096.
    ///
    /// # Shapes
    /// `hidden` is `[N, D]`, `weight` `[V, D]`, `bias` `[V]`, all of the same [`Float`] type. Class
    /// indices and `position_weight` are `[N]`, probabilities `[N, V]`, class weights `[V]`. The
    /// loss is a scalar, or `[N]` with [`Reduction::None`](crate::loss::Reduction::None).
    ///
    /// # Errors
    /// As [`cross_entropy`](Self::cross_entropy) and
    /// [`Gpu::plan_linear_cross_entropy`](crate::Gpu::plan_linear_cross_entropy); shapes that do
    /// not fit each other. On an error nothing is recorded (except as stated for [`Recorder`]).
    ///
    /// # Cost
    /// `2 N D V` floating-point operations, and the scratch memory of the plan.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::linear::LinearCrossEntropy;
    /// use xent::loss::Targets;
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let hidden = Tensor::from_slice(&gpu, [2, 2], &[1.0, 0.0, 0.0, 0.0f32])?;
    /// let weight = Tensor::from_slice(&gpu, [3, 2], &[2.0, 0.0, 1.0, 0.0, 0.0, 0.0f32])?;
    /// let targets = Targets::new(&gpu, [2], &[0, 2], 3)?;
    /// let mut batch = gpu.batch();
    /// let loss = batch.linear_cross_entropy(&hidden, &weight, None, &targets, &LinearCrossEntropy::default())?;
    /// let mut loss = batch.read(&loss)?;
    /// batch.submit()?;
    /// // The mean of log(1 + e^-1 + e^-2) and log 3.
    /// assert!((loss.wait(Duration::from_secs(10))?[0] - 0.753109).abs() < 1e-6);
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is PyTorch's `torch.nn.functional.linear_cross_entropy`, with the options of
    /// [`cross_entropy`](Self::cross_entropy).
    pub fn linear_cross_entropy<T: Float>(
        &mut self,
        hidden: &Tensor<T>,
        weight: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        targets: impl Into<Targets>,
        options: &LinearCrossEntropy,
    ) -> Result<Tensor<f32>> {
        Ok(self.linear_cross_entropy_with(hidden, weight, bias, targets, options, LinearLossRequest::new())?.loss)
    }

    /// [`linear_cross_entropy`](Self::linear_cross_entropy), and the results that `request` asks
    /// for: the gradients of hidden states, weight and bias, and the
    /// [`Statistics`](crate::loss::Statistics).
    ///
    /// With the gradient `g` of the logits, as
    /// [`cross_entropy_with`](Self::cross_entropy_with) computes it, the gradients are
    /// `g weight`, `g^T hidden`, and the column sums of `g`. Their bits do not depend on how many
    /// tokens' logits are stored at a time: each element is summed over tokens or classes in order,
    /// in runs, and in sections of 8192 tokens or 4096 classes. More than one section takes memory
    /// for the sums of sections and their rounding errors
    /// ([`LinearPlan::sums_bytes`](crate::linear::LinearPlan::sums_bytes)).
    ///
    /// # Edge cases
    /// An ignored token adds nothing to the gradients of weight and bias, whatever its hidden
    /// states. (PyTorch multiplies them by 0, so NaN or infinity in padding makes the weight's
    /// gradient NaN.) A token that is not ignored and whose loss is NaN makes the whole gradient of
    /// the weight NaN.
    ///
    /// # Errors
    /// As [`linear_cross_entropy`](Self::linear_cross_entropy);
    /// [`Error::Aliasing`](crate::Error::Aliasing) if a tensor for a gradient shares its buffer
    /// with an argument.
    ///
    /// # Cost
    /// With gradients, `6 N D V` floating-point operations.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::linear::{LinearCrossEntropy, LinearLossRequest};
    /// use xent::loss::Targets;
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let hidden = Tensor::from_slice(&gpu, [1, 2], &[1.0, 2.0f32])?;
    /// let weight = Tensor::from_slice(&gpu, [2, 2], &[1.0, 0.0, 1.0, 0.0f32])?;
    /// let targets = Targets::new(&gpu, [1], &[0], 2)?;
    /// let request = LinearLossRequest::gradients();
    /// let mut batch = gpu.batch();
    /// let options = LinearCrossEntropy::default();
    /// let out = batch.linear_cross_entropy_with(&hidden, &weight, None, &targets, &options, request)?;
    /// let mut weight_grad = batch.read(&out.weight_grad.expect("it was requested"))?;
    /// batch.submit()?;
    /// assert_eq!(weight_grad.wait(Duration::from_secs(10))?, [-0.5, -1.0, 0.5, 1.0]);
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn linear_cross_entropy_with<T: Float>(
        &mut self,
        hidden: &Tensor<T>,
        weight: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        targets: impl Into<Targets>,
        options: &LinearCrossEntropy,
        request: LinearLossRequest<'_, T>,
    ) -> Result<LinearLossOutput<T>> {
        let (op, targets) = ("linear_cross_entropy", &targets.into());
        let layer = &Layer::new(self, op, hidden, weight, bias)?;
        options.validate(op)?;
        let backward = request.backward();
        let plan = LinearPlan::new(op, self.gpu().caps(), layer.sizes, (options.scratch, 1), backward)?;
        let CrossEntropy { weight, position_weight, .. } = &options.loss;
        let weights = [("the loss's weight", weight.as_ref()), ("position_weight", position_weight.as_ref())];
        layer.check_gradients(self, op, targets, &weights, &request)?;
        let call = RowLoss {
            op,
            kernel: &KERNEL,
            shape: [layer.sizes.tokens, layer.sizes.classes].into(),
            targets,
            options: options.loss.clone(),
            divided: true,
            upstream: request.upstream,
            gradient: if backward { GradientPlace::InPlace } else { GradientPlace::None },
            statistics: RowStatistics::wanted(request.statistics),
            threshold: options.gradient_threshold,
            most_rows_for_plan: LinearPlan::usual_tokens(layer.sizes.classes),
        };
        let begun = self.begin_rows(&call)?;
        let grads = self.layer_grads(op, layer, &request)?;
        let ignoring = Some(&begun.inputs).filter(|inputs| inputs.may_ignore());
        let zeros = Zeros::below(options.gradient_threshold);
        self.linear_chunks(op, layer, &plan, (&grads, zeros), ignoring, |rec, tokens, logits| {
            rec.rows_of_tokens(&call, &begun, tokens.start as usize..tokens.end as usize, 0, logits)
        })?;
        let RowsOutput { loss, statistics, check, denominator } = self.end_rows(&call, begun)?;
        Ok(grads.with_check(check.as_ref()).into_output(loss, statistics, denominator))
    }
}
