//! Linear layers whose losses are computed from a few tokens' logits at a time: code shared by the
//! losses.

use std::ops::Range;

use crate::error::Result;
use crate::plan::linear::{LinearPlan, LinearSizes};
use crate::plan::product::Layout;
use crate::record::Recorder;
use crate::tensor::{Check, Element, Float, Format, Real, Tensor, expect_shape, size32};

use crate::ops::linear::running_product::RunningProduct;
use crate::ops::loss::row_loss::Inputs;
use crate::ops::product::matmul::{Sums, Zeros};
use crate::ops::shape_error;

/// The tensors of a linear layer; their shapes fit each other.
pub(crate) struct Layer {
    pub(crate) hidden: Tensor<Real>,
    pub(crate) weight: Tensor<Real>,
    pub(crate) bias: Option<Tensor<Real>>,
    pub(crate) sizes: LinearSizes,
}

/// The tensors that gradients of a layer are written to.
#[derive(Debug)]
pub(crate) struct LayerGrads<T: Element> {
    pub(crate) hidden: Option<Tensor<T>>,
    pub(crate) weight: Option<Tensor<f32>>,
    pub(crate) bias: Option<Tensor<f32>>,
}

impl<T: Float> LayerGrads<T> {
    pub(crate) fn with_check(self, check: Option<&Check>) -> Self {
        Self {
            hidden: self.hidden.map(|grad| grad.with_check(check.cloned())),
            weight: self.weight.map(|grad| grad.with_check(check.cloned())),
            bias: self.bias.map(|grad| grad.with_check(check.cloned())),
        }
    }
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
            expect_shape(op, "bias", bias.shape(), &[classes].into())?;
        }
        let sizes = LinearSizes { tokens, inputs, classes };
        Ok(Self { hidden: hidden.real(), weight: weight.real(), bias: bias.map(Tensor::real), sizes })
    }
}

impl Recorder<'_> {
    /// Processes the tokens in chunks: computes a chunk's logits, lets `loss` compute the losses
    /// from them and, if gradients are requested, replace the logits by their gradient, which is
    /// added to the layer's gradients. `loss` gets the tokens of the chunk and their logits. Tokens
    /// that `ignoring` marks as ignored do not contribute to the weight's gradient.
    pub(crate) fn linear_chunks<T: Float>(
        &mut self,
        op: &'static str,
        layer: &Layer,
        plan: &LinearPlan,
        (grads, zeros): (&LayerGrads<T>, Zeros),
        ignoring: Option<&Inputs>,
        mut loss: impl FnMut(&mut Self, Range<u32>, &Tensor<f32>) -> Result<()>,
    ) -> Result<()> {
        let scratch: Tensor<f32> = self.output(op, [plan.tokens_at_once(), layer.sizes.classes])?;
        let tokens = size32(layer.sizes.tokens);
        let weight = grads.weight.as_ref();
        let over_tokens = (Layout::Tn, zeros);
        let mut weight_grad =
            weight.map(|to| RunningProduct::new(self, op, over_tokens, plan.over_tokens(), to)).transpose()?;
        let lows = grads.bias.as_ref().map(|bias| self.output(op, bias.shape().clone())).transpose()?;
        let at_once = [plan.tokens_at_once(), layer.sizes.inputs];
        let counted = ignoring.filter(|_| weight.is_some());
        let counted = counted.map(|inputs| Ok((inputs, self.output(op, at_once)?))).transpose()?;
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
            if let Some(to) = &grads.hidden {
                let over_classes = Sums::Sections { at_once: plan.sections_at_once() };
                self.hidden_grads(layer, &logits, (over_classes, zeros), &to.rows(chunk.clone())?)?;
            }
            if let Some(weight_grad) = &mut weight_grad {
                let hidden = match &counted {
                    Some((inputs, to)) => self.counted_rows(op, &hidden, inputs, chunk, to)?,
                    None => hidden,
                };
                weight_grad.add(self, [&logits.real(), &hidden], start..end)?;
            }
            if let (Some(bias), Some(lows)) = (&grads.bias, &lows) {
                self.column_sum_resumed(&logits, (start..end, tokens), (bias, lows))?;
            }
        }
        Ok(())
    }

    /// Computes the gradients of some tokens' hidden states. For halves, sums the gradients of a
    /// few tokens at a time in `f32`, then rounds them.
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
}
