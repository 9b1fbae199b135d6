//! A linear layer and its loss, a few tokens' logits at a time: what the losses share.

use std::ops::Range;

use crate::error::Result;
use crate::linear_plan::{LinearPlan, LinearSizes};
use crate::options::Layout;
use crate::recorder::Recorder;
use crate::tensor::{Check, Element, Shape, Tensor};

use super::matmul::Sums;
use super::{no_alias, shape_error};

/// Where the gradients of a linear layer's loss come from and go.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinearBackward<'a> {
    /// The upstream gradient: a scalar, or one for each loss; 1 if there is none.
    pub upstream: Option<&'a Tensor<f32>>,
    /// Where the weight's gradient goes, such as a gradient of [`Parameters`](crate::Parameters); into a tensor of its own if that is
    /// not said.
    pub weight_grad: Option<&'a Tensor<f32>>,
    /// Where the bias's gradient goes.
    pub bias_grad: Option<&'a Tensor<f32>>,
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

impl LinearGrads {
    pub(super) fn with_check(self, check: Option<&Check>) -> Self {
        Self {
            hidden: self.hidden.with_check(check.cloned()),
            weight: self.weight.with_check(check.cloned()),
            bias: self.bias.map(|bias| bias.with_check(check.cloned())),
        }
    }
}

/// A linear layer's tensors, which fit each other.
pub(super) struct Layer<'a> {
    pub(super) hidden: &'a Tensor<f32>,
    pub(super) weight: &'a Tensor<f32>,
    pub(super) bias: Option<&'a Tensor<f32>>,
    pub(super) sizes: LinearSizes,
}

impl<'a> Layer<'a> {
    pub(super) fn new(
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

    /// The caller's tensors for gradients fit, and share no memory with what is read.
    pub(super) fn check<T: Element>(
        &self,
        rec: &Recorder<'_>,
        op: &'static str,
        targets: &Tensor<T>,
        backward: LinearBackward<'_>,
    ) -> Result<()> {
        let weight = backward.weight_grad.map(|grad| ("weight_grad", grad, self.weight.shape().clone()));
        // Without a bias there is nothing that its gradient fits.
        let bias_shape = self.bias.map_or(Shape::from([0, 0]), |bias| bias.shape().clone());
        let bias = backward.bias_grad.map(|grad| ("bias_grad", grad, bias_shape));
        for (what, grad, shape) in weight.iter().chain(&bias) {
            rec.own(op, what, grad)?;
            if grad.shape() != shape {
                let expected = match shape[..] {
                    [0, 0] => "no shape: there is no bias".to_owned(),
                    _ => format!("shape {shape}"),
                };
                return Err(shape_error(op, what, expected, grad.shape()));
            }
            let read = [("hidden", Some(self.hidden)), ("weight", Some(self.weight)), ("bias", self.bias)];
            for (other, tensor) in read.into_iter().chain([("upstream", backward.upstream)]) {
                tensor.map_or(Ok(()), |tensor| no_alias(op, (what, *grad), (other, tensor)))?;
            }
            no_alias(op, (what, *grad), ("targets", targets))?;
        }
        if let (Some((what, weight, _)), Some((_, bias, _))) = (&weight, &bias) {
            // No dispatch writes both, so they may share a buffer, as those of `Parameters` do.
            let range = |tensor: &Tensor<f32>| tensor.offset()..tensor.offset() + 4 * tensor.len() as u64;
            let (a, b) = (range(weight), range(bias));
            if a.start < b.end && b.start < a.end {
                no_alias(op, (what, *weight), ("bias_grad", *bias))?;
            }
        }
        Ok(())
    }
}

impl Recorder<'_> {
    /// Goes through the tokens chunk by chunk: computes their logits, lets `loss` turn them into what it computes and, if there are to be
    /// gradients, into their own gradient, and adds that to the layer's. `loss` gets the chunk's tokens and their logits.
    pub(super) fn linear_chunks(
        &mut self,
        op: &'static str,
        layer: &Layer<'_>,
        plan: &LinearPlan,
        backward: Option<LinearBackward<'_>>,
        mut loss: impl FnMut(&mut Self, Range<u32>, &Tensor<f32>) -> Result<()>,
    ) -> Result<Option<LinearGrads>> {
        let scratch: Tensor<f32> = self.output(op, [plan.tokens_at_once(), layer.sizes.classes])?;
        let grads = backward.map(|backward| self.linear_grads(op, layer, backward)).transpose()?;
        for chunk in plan.chunks() {
            let hidden = layer.hidden.rows(chunk.clone())?;
            let logits = scratch.rows(0..chunk.len())?;
            self.matmul_sums(Layout::Nt, [&hidden, layer.weight], layer.bias, Sums::Whole, &logits)?;
            // Tensors have fewer than 2^32 rows unless they are empty.
            let [start, end] = [chunk.start, chunk.end].map(|row| u32::try_from(row).unwrap_or(u32::MAX));
            if !chunk.is_empty() {
                loss(self, start..end, &logits)?;
            }
            if let Some(grads) = &grads {
                let over_classes = plan.summands().map_or(Sums::Whole, Sums::Parts);
                let to = grads.hidden.rows(chunk)?;
                self.matmul_sums(Layout::Nn, [&logits, layer.weight], None, over_classes, &to)?;
                let over_tokens = if start == 0 { Sums::Whole } else { Sums::Resumed };
                self.matmul_sums(Layout::Tn, [&logits, &hidden], None, over_tokens, &grads.weight)?;
                if let Some(bias) = &grads.bias {
                    self.column_sum_resumed(&logits, start..end, bias)?;
                }
            }
        }
        Ok(grads)
    }

    fn linear_grads(
        &mut self,
        op: &'static str,
        layer: &Layer<'_>,
        backward: LinearBackward<'_>,
    ) -> Result<LinearGrads> {
        let mut given = |tensor: Option<&Tensor<f32>>, like: &Tensor<f32>| match tensor {
            Some(tensor) => Ok(tensor.clone()),
            None => self.output(op, like.shape().clone()),
        };
        let weight = given(backward.weight_grad, layer.weight)?;
        let bias = layer.bias.map(|bias| given(backward.bias_grad, bias)).transpose()?;
        Ok(LinearGrads { hidden: self.output(op, layer.hidden.shape().clone())?, weight, bias })
    }
}
