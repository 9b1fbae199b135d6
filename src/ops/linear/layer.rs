//! Linear layers whose losses are computed from a few tokens' logits at a time: code shared by the
//! losses.

use std::ops::Range;

use crate::error::Result;
use crate::plan::linear::{LinearPlan, LinearSizes};
use crate::plan::product::Layout;
use crate::record::Recorder;
use crate::tensor::{Check, Element, Float, Format, Real, Shape, Tensor, Weights, size32};

use crate::ops::linear::running_product::RunningProduct;
use crate::ops::loss::Targets;
use crate::ops::loss::row_loss::Inputs;
use crate::ops::product::matmul::{Sums, Zeros};
use crate::ops::{no_alias, shape_error};

/// The upstream gradient of a linear layer's loss, and the destinations of the layer's gradients.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinearBackward<'a> {
    /// The upstream gradient: a scalar, or one value per loss; 1 if `None`.
    pub upstream: Option<&'a Tensor<f32>>,
    /// The destination of the weight's gradient, such as a gradient of
    /// [`Parameters`](crate::Parameters); a new tensor if `None`.
    pub weight_grad: Option<&'a Tensor<f32>>,
    /// The destination of the bias's gradient; a new tensor if `None`.
    pub bias_grad: Option<&'a Tensor<f32>>,
}

/// The gradients of a linear layer.
#[derive(Clone, Debug)]
pub struct LinearGrads<T: Element = f32> {
    /// With respect to the hidden states, `[N, D]`.
    pub hidden: Tensor<T>,
    /// With respect to the weight, `[V, D]`: a sum over the tokens, in `f32` whatever the type of
    /// the weight.
    pub weight: Tensor<f32>,
    /// With respect to the bias, `[V]`, if there is one.
    pub bias: Option<Tensor<f32>>,
}

impl<T: Float> LinearGrads<T> {
    pub(crate) fn with_check(self, check: Option<&Check>) -> Self {
        Self {
            hidden: self.hidden.with_check(check.cloned()),
            weight: self.weight.with_check(check.cloned()),
            bias: self.bias.map(|bias| bias.with_check(check.cloned())),
        }
    }
}

/// The tensors of a linear layer; their shapes fit each other.
pub(crate) struct Layer {
    pub(crate) hidden: Tensor<Real>,
    pub(crate) weight: Tensor<Real>,
    pub(crate) bias: Option<Tensor<Real>>,
    pub(crate) sizes: LinearSizes,
}

impl Layer {
    pub(crate) fn new<T: Float>(
        rec: &Recorder<'_>,
        op: &'static str,
        hidden: &Tensor<T>,
        weight: &Tensor<T>,
        bias: Option<&Tensor<T>>,
    ) -> Result<Self> {
        rec.check_device(op, "hidden", hidden)?;
        rec.check_device(op, "weight", weight)?;
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
            rec.check_device(op, "bias", bias)?;
            if bias.shape()[..] != [classes] {
                return Err(shape_error(op, "bias", format!("shape [{classes}]"), bias.shape()));
            }
        }
        let sizes = LinearSizes { tokens, inputs, classes };
        Ok(Self { hidden: hidden.real(), weight: weight.real(), bias: bias.map(Tensor::real), sizes })
    }

    /// Checks that the caller's tensors for gradients fit, and share no buffer with tensors that
    /// are read.
    pub(crate) fn check(
        &self,
        rec: &Recorder<'_>,
        op: &'static str,
        targets: &Targets,
        weights: &[(&'static str, Option<&Weights>)],
        backward: LinearBackward<'_>,
    ) -> Result<()> {
        let weight = backward.weight_grad.map(|grad| ("weight_grad", grad, self.weight.shape().clone()));
        // Without a bias, no tensor fits as its gradient.
        let bias_shape = self.bias.as_ref().map_or(Shape::from([0, 0]), |bias| bias.shape().clone());
        let bias = backward.bias_grad.map(|grad| ("bias_grad", grad, bias_shape));
        for (what, grad, shape) in weight.iter().chain(&bias) {
            rec.check_device(op, what, grad)?;
            if grad.shape() != shape {
                let expected = match shape[..] {
                    [0, 0] => "no shape: there is no bias".to_owned(),
                    _ => format!("shape {shape}"),
                };
                return Err(shape_error(op, what, expected, grad.shape()));
            }
            let upstream = backward.upstream.map(Tensor::real);
            let read = [("hidden", Some(&self.hidden)), ("weight", Some(&self.weight)), ("bias", self.bias.as_ref())];
            for (other, tensor) in read.into_iter().chain([("upstream", upstream.as_ref())]) {
                tensor.map_or(Ok(()), |tensor| no_alias(op, (what, *grad), (other, tensor)))?;
            }
            targets.no_alias(op, (what, *grad))?;
            for (other, weights) in weights {
                weights.map_or(Ok(()), |weights| no_alias(op, (what, *grad), (other, &weights.on(rec.gpu())?)))?;
            }
        }
        if let (Some((what, weight, _)), Some((_, bias, _))) = (&weight, &bias) {
            // No dispatch writes both, so they may share a buffer (like those of `Parameters`).
            if weight.overlaps(bias) {
                no_alias(op, (what, *weight), ("bias_grad", *bias))?;
            }
        }
        Ok(())
    }
}

impl Recorder<'_> {
    /// Processes the tokens in chunks: computes a chunk's logits, lets `loss` compute the losses
    /// from them and, if there is a `backward`, replace the logits by their gradient, which is
    /// added to the layer's gradients. `loss` gets the tokens of the chunk and their logits. Tokens
    /// that `ignoring` marks as ignored do not contribute to the weight's gradient.
    pub(crate) fn linear_chunks<T: Float>(
        &mut self,
        op: &'static str,
        layer: &Layer,
        plan: &LinearPlan,
        (backward, ignoring): (Option<(&LinearGrads<T>, Zeros)>, Option<&Inputs>),
        mut loss: impl FnMut(&mut Self, Range<u32>, &Tensor<f32>) -> Result<()>,
    ) -> Result<()> {
        let scratch: Tensor<f32> = self.output(op, [plan.tokens_at_once(), layer.sizes.classes])?;
        let tokens = size32(layer.sizes.tokens);
        let mut over_tokens = match backward {
            Some((grads, zeros)) => {
                let order = plan.over_tokens();
                let weight = RunningProduct::new(self, op, (Layout::Tn, zeros), order, &grads.weight)?;
                let lows: Option<Tensor<f32>> =
                    grads.bias.as_ref().map(|bias| self.output(op, bias.shape().clone())).transpose()?;
                let at_once = [plan.tokens_at_once(), layer.sizes.inputs];
                let counted = ignoring.map(|inputs| Ok((inputs, self.output(op, at_once)?))).transpose()?;
                Some((weight, lows, counted))
            }
            None => None,
        };
        for chunk in plan.chunks() {
            let hidden = layer.hidden.rows(chunk.clone())?;
            let logits = scratch.rows(0..chunk.len())?;
            self.matmul_sums(
                Layout::Nt,
                [&hidden, &layer.weight],
                layer.bias.as_ref(),
                (Sums::OF_LOGITS, Zeros::Count),
                &logits,
            )?;
            // Tensors have fewer than 2^32 rows unless they are empty.
            let [start, end] = [chunk.start, chunk.end].map(size32);
            if !chunk.is_empty() {
                loss(self, start..end, &logits)?;
            }
            if let Some((grads, zeros)) = backward {
                let over_classes = Sums::Sections { at_once: LinearPlan::SECTIONS_AT_ONCE };
                self.hidden_grads(layer, &logits, (over_classes, zeros), &grads.hidden.rows(chunk.clone())?)?;
                let Some((weight, lows, counted)) = &mut over_tokens else { continue };
                let hidden = match counted {
                    Some((inputs, to)) => self.counted_rows(op, (&hidden, inputs, chunk), to)?,
                    None => hidden,
                };
                weight.add(self, [&logits.real(), &hidden], start..end)?;
                if let (Some(bias), Some(lows)) = (&grads.bias, lows) {
                    self.column_sum_resumed(&logits, (start..end, tokens), (bias, lows))?;
                }
            }
        }
        Ok(())
    }

    /// Computes the gradients of some tokens' hidden states. For halves, those of a few tokens at a
    /// time are summed in `f32`, then rounded.
    fn hidden_grads<T: Float>(
        &mut self,
        layer: &Layer,
        logits: &Tensor<f32>,
        over_classes: (Sums, Zeros),
        to: &Tensor<T>,
    ) -> Result<()> {
        const FEW: usize = 64;
        let to = to.real();
        if to.format() == Format::Word {
            return self.matmul_sums(Layout::Nn, [&logits.real(), &layer.weight], None, over_classes, &to.typed());
        }
        let LinearSizes { inputs, .. } = layer.sizes;
        let tokens = logits.shape().first().copied().unwrap_or(0);
        for start in (0..tokens).step_by(FEW) {
            let few = start..tokens.min(start + FEW);
            let exact = self.output("linear_hidden_grads", [few.len(), inputs])?;
            let logits = logits.rows(few.clone())?.real();
            self.matmul_sums(Layout::Nn, [&logits, &layer.weight], None, over_classes, &exact)?;
            self.cast_into(&exact, &to.rows(few)?)?;
        }
        Ok(())
    }

    /// The tensors for the gradients: the caller's, or new ones.
    pub(crate) fn linear_grads<T: Float>(
        &mut self,
        op: &'static str,
        layer: &Layer,
        backward: LinearBackward<'_>,
    ) -> Result<LinearGrads<T>> {
        let mut given = |tensor: Option<&Tensor<f32>>, like: &Tensor<Real>| match tensor {
            Some(tensor) => Ok(tensor.clone()),
            None => self.output(op, like.shape().clone()),
        };
        let weight = given(backward.weight_grad, &layer.weight)?;
        let bias = layer.bias.as_ref().map(|bias| given(backward.bias_grad, bias)).transpose()?;
        Ok(LinearGrads { hidden: self.output(op, layer.hidden.shape().clone())?, weight, bias })
    }
}
