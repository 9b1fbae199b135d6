//! Binary cross-entropy of a linear layer's outputs.

use crate::error::{Error, Result, ensure};
use crate::ops::linear::LinearBceWithLogits;
use crate::plan::linear::LinearPlan;
use crate::record::Recorder;
use crate::tensor::{Float, Shape, Tensor, size32};

use crate::ops::Classes;
use crate::ops::linear::layer::Layer;
use crate::ops::linear::request::{LinearLossOutput, LinearLossRequest};
use crate::ops::loss::definition::{Elementwise, ElementwiseLoss};
use crate::ops::loss::elements::{ElementsCall, ElementsSlice};
use crate::ops::loss::request::GradientPlace;
use crate::ops::loss::{BceWithLogits, Reduction};
use crate::ops::product::matmul::Zeros;
use crate::ops::reduce::blocks::loss_partials;

/// Binary cross-entropy of a linear layer, without storing all its logits.
impl Recorder<'_> {
    /// [`bce_with_logits`](Self::bce_with_logits) of the logits `hidden weight^T + bias`, storing
    /// the logits of only a few tokens at a time. For multi-label heads, in which a token can have
    /// several classes.
    ///
    /// All options have the same meaning as for [`bce_with_logits`](Self::bce_with_logits). Each
    /// logit is summed over `D` in order, in `f32`. The losses of each token are summed first, then
    /// the sums of all tokens, so the bits do not depend on how many tokens' logits are stored at a
    /// time.
    ///
    /// # Shapes
    /// `hidden` is `[N, D]`, `weight` `[V, D]`, `bias` `[V]`, all of the same [`Float`] type.
    /// `targets` is `[N, V]`, to which the loss's `weight` and `pos_weight` broadcast. The loss is
    /// a scalar, or `[N, V]` with [`Reduction::None`].
    ///
    /// # Reduction
    /// Both means divide by `N V`, whatever the weights; a mean over no elements is NaN.
    ///
    /// # Errors
    /// As [`bce_with_logits`](Self::bce_with_logits) and
    /// [`Gpu::plan_linear_bce_with_logits`](crate::Gpu::plan_linear_bce_with_logits); shapes that
    /// do not fit each other.
    ///
    /// # Cost
    /// `2 N D V` floating-point operations, and the scratch memory of the plan.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::linear::LinearBceWithLogits;
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let hidden = Tensor::from_slice(&gpu, [1, 2], &[1.0, 1.0f32])?;
    /// let weight = Tensor::from_slice(&gpu, [2, 2], &[1.0, 1.0, -1.0, 0.0f32])?;
    /// let targets = Tensor::from_slice(&gpu, [1, 2], &[1.0, 0.0f32])?;
    /// let mut batch = gpu.batch();
    /// let loss = batch.linear_bce_with_logits(&hidden, &weight, None, &targets, &LinearBceWithLogits::default())?;
    /// let mut loss = batch.read(&loss)?;
    /// batch.submit()?;
    /// // The mean of log(1 + e^-2) and log(1 + e^-1).
    /// assert!((loss.wait(Duration::from_secs(10))?[0] - 0.220095).abs() < 1e-6);
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is PyTorch's `linear` followed by `binary_cross_entropy_with_logits`.
    pub fn linear_bce_with_logits<T: Float>(
        &mut self,
        hidden: &Tensor<T>,
        weight: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        targets: &Tensor<f32>,
        options: &LinearBceWithLogits,
    ) -> Result<Tensor<f32>> {
        let request = LinearLossRequest::new();
        Ok(self.linear_bce_with_logits_with(hidden, weight, bias, targets, options, request)?.loss)
    }

    /// [`linear_bce_with_logits`](Self::linear_bce_with_logits) and the gradients that `request`
    /// asks for: of hidden states, weight and bias.
    ///
    /// With the gradient `g` of the logits, as [`bce_with_logits_with`](Self::bce_with_logits_with)
    /// computes it, the gradients are `g weight`, `g^T hidden`, and the column sums of `g`. Their
    /// elements are summed in the same way as by
    /// [`linear_cross_entropy_with`](Self::linear_cross_entropy_with).
    ///
    /// # Errors
    /// As [`linear_bce_with_logits`](Self::linear_bce_with_logits); a request for statistics;
    /// [`Error::Aliasing`] if a tensor for a gradient shares its buffer with an argument.
    ///
    /// # Cost
    /// `2 N D V` floating-point operations, and as many for each of the gradients of hidden states
    /// and weight.
    pub fn linear_bce_with_logits_with<T: Float>(
        &mut self,
        hidden: &Tensor<T>,
        weight: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        targets: &Tensor<f32>,
        options: &LinearBceWithLogits,
        request: LinearLossRequest<'_, T>,
    ) -> Result<LinearLossOutput<T>> {
        let op = "linear_bce_with_logits";
        let layer = &Layer::new(self, op, hidden, weight, bias)?;
        let expected = "not requested: only linear_cross_entropy has them";
        ensure!(!request.statistics, Error::value(op, "statistics", expected, "a request"));
        let backward = request.backward();
        let plan = LinearPlan::new(op, self.gpu().caps(), layer.sizes, (options.scratch, 2), backward)?;
        let BceWithLogits { weight, pos_weight, .. } = &options.loss;
        let weights = [("the loss's weight", weight.as_ref()), ("pos_weight", pos_weight.as_ref())];
        layer.check_gradients(self, op, &targets.into(), &weights, &request)?;
        let gradient = if backward { GradientPlace::InPlace } else { GradientPlace::None };
        let upstream = request.upstream;
        let loss = Elementwise { op, ..options.loss.describe() };
        let call = ElementsCall { loss, targets, upstream, gradient, divided: true };
        let [tokens, classes] = [layer.sizes.tokens, layer.sizes.classes];
        let shape = Shape::from([tokens, classes]);
        let begun = self.begin_elements(&call, &shape)?;
        let unreduced = (options.loss.reduction == Reduction::None).then(|| self.output(op, shape)).transpose()?;
        let losses: Tensor<f32> = match &unreduced {
            Some(losses) => losses.clone(),
            None => self.output(op, [plan.tokens_at_once(), classes])?,
        };
        let sums: Tensor<f32> = self.output(op, [tokens])?;
        let grads = self.layer_grads(op, layer, &request)?;
        self.linear_chunks(op, layer, &plan, (&grads, Zeros::Count), None, |rec, chunk, logits| {
            let rows = chunk.start as usize..chunk.end as usize;
            let of_chunk = if unreduced.is_some() { rows.clone() } else { 0..rows.len() };
            let losses = losses.rows(of_chunk)?;
            // The plan limits the number of elements to `u32`.
            let width = size32(classes);
            let elements = chunk.start * width..chunk.end * width;
            let partials = loss_partials(rec, op, elements.end - elements.start)?;
            let (first, to) = (elements.start, Some(&losses));
            let slice = ElementsSlice { elements, first, x: logits, losses: to, grad: None, partials: &partials };
            rec.elements_slice(&call, &begun, &slice)?;
            if unreduced.is_some() {
                return Ok(());
            }
            let dims = Classes { outer: chunk.end - chunk.start, classes: width, inner: 1 };
            rec.sum_rows_into(op, &losses, dims, &sums.rows(rows)?)
        })?;
        let loss = match unreduced {
            Some(losses) => losses,
            None => self.loss_of_values(op, &sums, call.divisor(&begun))?,
        };
        Ok(grads.into_output(loss, None, targets.count(op)?.into()))
    }
}
