//! Cross-entropy of a linear layer's outputs, a few tokens' logits at a time.

use crate::error::{Error, Result};
use crate::linear_plan::{LinearPlan, LinearSizes};
use crate::options::{Layout, LinearCrossEntropy};
use crate::recorder::Recorder;
use crate::tensor::{Shape, Tensor};

use super::cross_entropy::KERNEL;
use super::matmul::Sums;
use super::row_loss::{RowLoss, RowsEnded, RowsPart};
use super::{Grad, Statistics, Targets, no_alias, shape_error};

/// What [`Recorder::linear_cross_entropy_with`] computes besides the loss. The default is nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinearCrossEntropyRequest<'a> {
    /// Whether to compute the gradients.
    pub backward: bool,
    /// The upstream gradient: a scalar, or one for each token's loss; 1 if there is none.
    pub upstream: Option<&'a Tensor<f32>>,
    /// Where the weight's gradient goes, such as a gradient of [`Parameters`](crate::Parameters); into a tensor of its own if that is
    /// not said.
    pub weight_grad: Option<&'a Tensor<f32>>,
    /// Where the bias's gradient goes.
    pub bias_grad: Option<&'a Tensor<f32>>,
    /// Whether to compute the [`Statistics`].
    pub statistics: bool,
}

/// The gradients of a linear layer.
#[derive(Clone, Debug)]
pub struct LinearGrads {
    /// With respect to the hidden states, `[N, D]`.
    pub hidden: Tensor<f32>,
    /// With respect to the weight, `[V, D]`.
    pub weight: Tensor<f32>,
    /// With respect to the bias, `[V]`, if there is one.
    pub bias: Option<Tensor<f32>>,
}

/// What [`Recorder::linear_cross_entropy_with`] gives.
#[derive(Clone, Debug)]
pub struct LinearCrossEntropyResult {
    /// The loss, as [`Recorder::cross_entropy`] gives it.
    pub loss: Tensor<f32>,
    /// The gradients, if they were asked for.
    pub grads: Option<LinearGrads>,
    /// The statistics, if they were asked for.
    pub statistics: Option<Statistics>,
}

/// A linear layer's tensors, which fit each other.
struct Layer<'a> {
    hidden: &'a Tensor<f32>,
    weight: &'a Tensor<f32>,
    bias: Option<&'a Tensor<f32>>,
    sizes: LinearSizes,
}

impl<'a> Layer<'a> {
    fn new(
        rec: &Recorder<'_>,
        op: &'static str,
        hidden: &'a Tensor<f32>,
        weight: &'a Tensor<f32>,
        bias: Option<&'a Tensor<f32>>,
    ) -> Result<Self> {
        rec.own(op, "hidden", hidden)?;
        rec.own(op, "weight", weight)?;
        let [tokens, inputs] = hidden.shape()[..] else {
            return Err(shape_error(op, "hidden", "2 dimensions", hidden.shape()));
        };
        let classes = match weight.shape()[..] {
            [classes, columns] if columns == inputs => classes,
            _ => {
                let expected = format!("shape [V, {inputs}] for hidden of shape {}", hidden.shape());
                return Err(shape_error(op, "weight", expected, weight.shape()));
            }
        };
        if let Some(bias) = bias {
            rec.own(op, "bias", bias)?;
            if bias.shape()[..] != [classes] {
                return Err(shape_error(op, "bias", format!("shape [{classes}]"), bias.shape()));
            }
        }
        Ok(Self { hidden, weight, bias, sizes: LinearSizes { tokens, inputs, classes } })
    }

    fn tensors(&self) -> impl Iterator<Item = (&'static str, &'a Tensor<f32>)> {
        let bias = self.bias.map(|bias| ("bias", bias));
        [("hidden", self.hidden), ("weight", self.weight)].into_iter().chain(bias)
    }
}

/// Cross-entropy of a linear layer, without its logits.
impl Recorder<'_> {
    /// [`cross_entropy`](Self::cross_entropy) of the logits `hidden weight^T + bias`, of which only a few tokens' are ever stored.
    ///
    /// All options of cross-entropy have their meaning. Each logit is one `f32` sum over `D` in its order, as
    /// [`matmul`](Self::matmul) forms it on software adapters.
    ///
    /// # Shapes
    /// `hidden` is `[N, D]`, `weight` `[V, D]`, `bias` `[V]`; class indices and `position_weight` are `[N]`, probabilities `[N, V]`,
    /// class weights `[V]`. The loss is a scalar, or `[N]` with [`Reduction::None`](crate::Reduction::None).
    ///
    /// # Errors
    /// Those of [`cross_entropy`](Self::cross_entropy) and of [`Gpu::plan_linear_cross_entropy`](crate::Gpu::plan_linear_cross_entropy);
    /// shapes that do not fit. Nothing is recorded then.
    ///
    /// # Cost
    /// `2 N D V` floating-point operations, and the scratch that the plan says.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{Gpu, LinearCrossEntropy, Tensor};
    /// # if let Ok(gpu) = Gpu::headless() {
    /// let hidden = Tensor::from_slice(&gpu, [2, 2], &[1.0, 0.0, 0.0, 0.0f32])?;
    /// let weight = Tensor::from_slice(&gpu, [3, 2], &[2.0, 0.0, 1.0, 0.0, 0.0, 0.0f32])?;
    /// let targets = Tensor::targets(&gpu, [2], &[0, 2], 3, -100)?;
    /// let mut batch = gpu.batch();
    /// let loss = batch.linear_cross_entropy(&hidden, &weight, None, &targets, &LinearCrossEntropy::default())?;
    /// let mut loss = batch.read(&loss)?;
    /// batch.submit()?;
    /// // The mean of log(1 + e^-1 + e^-2) and log 3.
    /// assert!((loss.wait(Duration::from_secs(10))?[0] - 0.753109).abs() < 1e-6);
    /// # }
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is that of PyTorch's `torch.nn.functional.linear_cross_entropy`, with the options of
    /// [`cross_entropy`](Self::cross_entropy).
    pub fn linear_cross_entropy<'a>(
        &mut self,
        hidden: &Tensor<f32>,
        weight: &Tensor<f32>,
        bias: Option<&Tensor<f32>>,
        targets: impl Into<Targets<'a>>,
        options: &LinearCrossEntropy,
    ) -> Result<Tensor<f32>> {
        let request = LinearCrossEntropyRequest::default();
        let layer = Layer::new(self, "linear_cross_entropy", hidden, weight, bias)?;
        Ok(self.linear_loss("linear_cross_entropy", &layer, targets.into(), options, request)?.loss)
    }

    /// [`linear_cross_entropy`](Self::linear_cross_entropy), and what `request` asks for: the gradients of hidden states, weight and bias,
    /// and the [`Statistics`].
    ///
    /// With the gradient `g` of the logits, as [`cross_entropy_backward`](Self::cross_entropy_backward) gives it, those are `g weight`,
    /// `g^T hidden`, and the sums of the columns of `g`. They do not depend on how many tokens' logits are stored at a time, to
    /// the bit: each element is one `f32` sum over the tokens or the classes in their order. (On GPUs the sums over the classes are cut
    /// into parts of 8192, whatever the tokens.)
    ///
    /// # Edge cases
    /// An ignored token adds nothing to the gradients of weight and bias unless its hidden states are not finite: 0 times those is NaN, as
    /// in PyTorch. A token whose loss is NaN makes all gradients of the weight NaN.
    ///
    /// # Errors
    /// As [`linear_cross_entropy`](Self::linear_cross_entropy); [`Error::Aliasing`] if a gradient's tensor shares its buffer with an argument;
    /// [`Error::Value`] for a tensor for a gradient that is not computed.
    ///
    /// # Cost
    /// With gradients `6 N D V` floating-point operations.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{Gpu, LinearCrossEntropy, LinearCrossEntropyRequest, Tensor};
    /// # if let Ok(gpu) = Gpu::headless() {
    /// let hidden = Tensor::from_slice(&gpu, [1, 2], &[1.0, 2.0f32])?;
    /// let weight = Tensor::from_slice(&gpu, [2, 2], &[1.0, 0.0, 1.0, 0.0f32])?;
    /// let targets = Tensor::targets(&gpu, [1], &[0], 2, -100)?;
    /// let request = LinearCrossEntropyRequest { backward: true, ..Default::default() };
    /// let mut batch = gpu.batch();
    /// let options = LinearCrossEntropy::default();
    /// let out = batch.linear_cross_entropy_with(&hidden, &weight, None, &targets, &options, request)?;
    /// let grads = out.grads.expect("they were asked for");
    /// let mut weight_grad = batch.read(&grads.weight)?;
    /// batch.submit()?;
    /// assert_eq!(weight_grad.wait(Duration::from_secs(10))?, [-0.5, -1.0, 0.5, 1.0]);
    /// # }
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn linear_cross_entropy_with<'a>(
        &mut self,
        hidden: &Tensor<f32>,
        weight: &Tensor<f32>,
        bias: Option<&Tensor<f32>>,
        targets: impl Into<Targets<'a>>,
        options: &LinearCrossEntropy,
        request: LinearCrossEntropyRequest<'_>,
    ) -> Result<LinearCrossEntropyResult> {
        let layer = Layer::new(self, "linear_cross_entropy", hidden, weight, bias)?;
        self.linear_loss("linear_cross_entropy", &layer, targets.into(), options, request)
    }

    fn linear_loss(
        &mut self,
        op: &'static str,
        layer: &Layer<'_>,
        targets: Targets<'_>,
        options: &LinearCrossEntropy,
        request: LinearCrossEntropyRequest<'_>,
    ) -> Result<LinearCrossEntropyResult> {
        let LinearSizes { tokens, inputs, classes } = layer.sizes;
        let plan = LinearPlan::new(op, self.gpu().caps(), layer.sizes, options.scratch, request.backward)?;
        self.check_destinations(op, layer, targets, request)?;
        let scratch = self.output(op, [plan.tokens_at_once(), classes])?;
        let call = RowLoss {
            op,
            kernel: &KERNEL,
            input: &scratch,
            shape: [tokens, classes].into(),
            targets,
            options: options.loss.clone(),
            upstream: request.upstream,
            grad: if request.backward { Grad::InPlace } else { Grad::No },
            statistics: request.statistics,
        };
        let begun = self.rows_begin(&call)?;
        let grads = request.backward.then(|| self.linear_grads(op, layer, request)).transpose()?;
        for chunk in plan.chunks() {
            let hidden = layer.hidden.rows(chunk.clone())?;
            let logits = scratch.rows(0..chunk.len())?;
            self.matmul_sums(Layout::Nt, [&hidden, layer.weight], layer.bias, Sums::Whole, &logits)?;
            // Tensors have fewer than 2^32 rows unless they are empty.
            let rows = [chunk.start, chunk.end].map(|row| u32::try_from(row).unwrap_or(u32::MAX));
            let outer = rows[0]..rows[1];
            if !chunk.is_empty() {
                let part = RowsPart { outer: outer.clone(), first: outer.start, input: &logits, grad: None };
                self.rows_part(&call, &begun, &part)?;
            }
            if let Some(grads) = &grads {
                let over_classes = plan.summands().map_or(Sums::Whole, Sums::Parts);
                let to = grads.hidden.rows(chunk.clone())?;
                self.matmul_sums(Layout::Nn, [&logits, layer.weight], None, over_classes, &to)?;
                let over_tokens = if chunk.start == 0 { Sums::Whole } else { Sums::Resumed };
                self.matmul_sums(Layout::Tn, [&logits, &hidden], None, over_tokens, &grads.weight)?;
                if let Some(bias) = &grads.bias {
                    self.column_sum_resumed(&logits, outer, bias)?;
                }
            }
        }
        let RowsEnded { loss, statistics, check } = self.rows_ended(&call, begun)?;
        let grads = grads.map(|LinearGrads { hidden, weight, bias }| LinearGrads {
            hidden: hidden.with_check(check.clone()),
            weight: weight.with_check(check.clone()),
            bias: bias.map(|bias| bias.with_check(check.clone())),
        });
        debug_assert!(inputs == layer.hidden.shape()[1]);
        Ok(LinearCrossEntropyResult { loss, grads, statistics })
    }

    /// The caller's tensors for gradients fit, and share no memory with what is read.
    fn check_destinations(
        &self,
        op: &'static str,
        layer: &Layer<'_>,
        targets: Targets<'_>,
        request: LinearCrossEntropyRequest<'_>,
    ) -> Result<()> {
        let weight = request.weight_grad.map(|grad| ("weight_grad", grad, layer.weight.shape().clone()));
        let classes = Shape::from([layer.sizes.classes]);
        let bias = request.bias_grad.map(|grad| ("bias_grad", grad, classes));
        for (what, grad, shape) in weight.iter().chain(&bias) {
            if !request.backward || (*what == "bias_grad" && layer.bias.is_none()) {
                let (expected, got) = ("absent: that gradient is not computed".to_owned(), "a tensor".to_owned());
                return Err(Error::Value { op, what, expected, got });
            }
            self.own(op, what, grad)?;
            if grad.shape() != shape {
                return Err(shape_error(op, what, format!("shape {shape}"), grad.shape()));
            }
            for (other, tensor) in layer.tensors() {
                no_alias(op, (what, grad), (other, tensor))?;
            }
            match targets {
                Targets::Index(targets) => no_alias(op, (what, grad), ("targets", targets))?,
                Targets::IndexU32(targets) => no_alias(op, (what, grad), ("targets", targets))?,
                Targets::Probabilities(targets) => no_alias(op, (what, grad), ("targets", targets))?,
            }
            if let Some(upstream) = request.upstream {
                no_alias(op, (what, grad), ("upstream", upstream))?;
            }
        }
        if let (Some((what, weight, _)), Some((_, bias, _))) = (&weight, &bias) {
            // No dispatch writes both, so they may share a buffer, as those of `Parameters` do.
            let range = |tensor: &Tensor<f32>| tensor.offset()..tensor.offset() + 4 * tensor.len() as u64;
            let (a, b) = (range(weight), range(bias));
            if a.start < b.end && b.start < a.end {
                no_alias(op, (what, weight), ("bias_grad", bias))?;
            }
        }
        Ok(())
    }

    fn linear_grads(
        &self,
        op: &'static str,
        layer: &Layer<'_>,
        request: LinearCrossEntropyRequest<'_>,
    ) -> Result<LinearGrads> {
        let given = |tensor: Option<&Tensor<f32>>, like: &Tensor<f32>| match tensor {
            Some(tensor) => Ok(tensor.clone()),
            None => self.output(op, like.shape().clone()),
        };
        Ok(LinearGrads {
            hidden: self.output(op, layer.hidden.shape().clone())?,
            weight: given(request.weight_grad, layer.weight)?,
            bias: layer.bias.map(|bias| given(request.bias_grad, bias)).transpose()?,
        })
    }
}
