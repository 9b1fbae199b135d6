//! What the losses of two tensors of one shape share.

use crate::error::Result;
use crate::kernel::{Binding, Field, Kernel, Variant, params};
use crate::options::{Reduction, narrow};
use crate::plan::{BLOCK, turns};
use crate::recorder::Recorder;
use crate::tensor::{Shape, Tensor};
use crate::weights::Weights;

use super::reduce::{Divisor, by_blocks, check_of, pairs};
use super::row_loss::check_upstream;
use super::{Grad, LossGrad, same_shape};

params! {
    struct Params {
        count: u32,
        first: u32,
        block: u32,
        x_base: u32,
        y_base: u32,
        losses_base: u32,
        grad_base: u32,
        upstream_base: u32,
        partials_base: u32,
        scale: f32,
        weight_base: u32,
        weight_first: u32,
        weight_inner: u32,
        weight_size: u32,
        pos_weight_base: u32,
        pos_weight_first: u32,
        pos_weight_inner: u32,
        pos_weight_size: u32,
    }
}

pub(super) const PARAMS: &[Field] = Params::FIELDS;

/// An elementwise loss, as its operation was called.
#[derive(Debug)]
pub(super) struct ElementwiseLoss<'a> {
    pub(super) op: &'static str,
    pub(super) kernel: &'static Kernel,
    /// The first tensor and what it is called.
    pub(super) x: (&'static str, &'a Tensor<f32>),
    pub(super) targets: &'a Tensor<f32>,
    pub(super) reduction: Reduction,
    pub(super) upstream: Option<&'a Tensor<f32>>,
    pub(super) grad: Grad,
    pub(super) weight: Option<&'a Weights>,
    /// The mean divides by the sum of the weights, not by the number of elements.
    pub(super) mean_by_weight: bool,
    pub(super) pos_weight: Option<&'a Weights>,
    /// A constant factor of the gradient; part of the scale, so that it overflows no sooner than the result.
    pub(super) slope: f64,
}

impl Recorder<'_> {
    /// Records an elementwise loss; the gradient is the first tensor itself unless one is wanted.
    pub(super) fn elementwise_loss(&mut self, call: &ElementwiseLoss<'_>) -> Result<LossGrad> {
        let ElementwiseLoss { op, x: (what, x), targets: y, .. } = *call;
        self.own(op, what, x)?;
        self.own(op, "targets", y)?;
        same_shape(op, "targets", y, x)?;
        let unreduced = call.reduction == Reduction::None;
        let loss_shape = if unreduced { x.shape().clone() } else { Shape::default() };
        if let Some(upstream) = call.upstream {
            self.own(op, "upstream", upstream)?;
            check_upstream(op, upstream, &loss_shape)?;
        }
        let count = x.count();
        let ranges = by_blocks(op, count, &[4]).ranges(self.gpu().caps())?;
        let weight = call.weight.map(|w| self.plan_broadcast(op, "weight", w, x.shape())).transpose()?;
        let pos_weight = call.pos_weight.map(|w| self.plan_broadcast(op, "pos_weight", w, x.shape())).transpose()?;
        // Everything fits: from here on things are recorded.
        let weight = weight.map(|plan| self.broadcast(plan)).transpose()?;
        let pos_weight = pos_weight.map(|plan| self.broadcast(plan)).transpose()?;
        let losses = unreduced.then(|| self.output(op, loss_shape)).transpose()?;
        let grad = (call.grad == Grad::New).then(|| self.output(op, x.shape().clone())).transpose()?;
        let partials = pairs(self, op, count)?;
        let total_weight = call.weight.filter(|_| call.mean_by_weight).map(|w| self.total_weight(op, w)).transpose()?;
        let mean = match &total_weight {
            Some(total) => Divisor::Sum(total),
            None => Divisor::Count(count),
        };
        let divisor = Divisor::of(call.reduction, mean);
        let upstream = call.upstream.cloned().unwrap_or_else(|| self.gpu().one());
        let (upstream, scale) = match divisor {
            Divisor::One => (upstream, call.slope),
            // Rounded once.
            Divisor::Count(count) => (upstream, call.slope / f64::from(count.max(1))),
            Divisor::Sum(pair) => (self.row_factor(op, upstream, pair)?, call.slope),
        };
        let upstream_stride = u32::from(!upstream.shape().is_empty());
        for range in ranges {
            let (first, len) = (u64::from(range.start), u64::from(range.end - range.start));
            let groups = len.div_ceil(BLOCK.into());
            let x = self.window(x, first, len);
            let y = self.window(y, first, len);
            let loss_window = losses.as_ref().map(|losses| self.window(losses, first, len));
            let grad_window = grad.as_ref().map(|grad| self.window(grad, first, len));
            let upstream = match upstream_stride {
                0 => self.whole(&upstream),
                _ => self.window(&upstream, first, len),
            };
            let to = self.window(&partials, first / u64::from(BLOCK) * 2, groups * 2);
            let weight_window = weight.as_ref().map(|weight| weight.window(self, first, len));
            let pos_weight_window = pos_weight.as_ref().map(|weight| weight.window(self, first, len));
            let params = Params {
                count: range.end - range.start,
                first: range.start,
                block: BLOCK,
                x_base: x.base,
                y_base: y.base,
                losses_base: loss_window.as_ref().map_or(0, |w| w.base),
                grad_base: grad_window.as_ref().map_or(0, |w| w.base),
                upstream_base: upstream.base,
                partials_base: to.base,
                scale: narrow(scale),
                weight_base: weight_window.as_ref().map_or(0, |(w, _)| w.base),
                weight_first: weight_window.as_ref().map_or(0, |(_, first)| *first),
                weight_inner: weight.as_ref().map_or(1, |w| w.inner),
                weight_size: weight.as_ref().map_or(1, |w| w.size),
                pos_weight_base: pos_weight_window.as_ref().map_or(0, |(w, _)| w.base),
                pos_weight_first: pos_weight_window.as_ref().map_or(0, |(_, first)| *first),
                pos_weight_inner: pos_weight.as_ref().map_or(1, |w| w.inner),
                pos_weight_size: pos_weight.as_ref().map_or(1, |w| w.size),
            };
            let ([_, quads], [workgroup, subgroup]) = (turns(self.gpu().caps()), self.gpu().caps().threads());
            let constants = call.kernel.constants.iter().map(|&name| match name {
                "GRAD" => u32::from(grad.is_some()),
                "LOSSES" => u32::from(unreduced),
                "UPSTREAM" => upstream_stride,
                "QUADS" => quads,
                "SUBGROUP" => subgroup,
                "WEIGHTED" => u32::from(weight.is_some()),
                "POS_WEIGHTED" => u32::from(pos_weight.is_some()),
                _ => workgroup,
            });
            // A scalar upstream gradient is no quad.
            let upstream_slot = call.kernel.bindings.iter().position(|binding| binding.name == "upstream");
            let by_element = upstream_slot.filter(|_| upstream_stride == 0).map_or(0, |i| 1 << i);
            let variant = Variant { constants: constants.collect(), vec4: true, by_element, ..Variant::default() };
            let slot = |binding: &Binding| match binding.name {
                "x" => Some(&x),
                "y" => Some(&y),
                "weight" => weight_window.as_ref().map(|(w, _)| w),
                "pos_weight" => pos_weight_window.as_ref().map(|(w, _)| w),
                "losses" => loss_window.as_ref(),
                "grad" => grad_window.as_ref(),
                "partials" => Some(&to),
                _ => Some(&upstream),
            };
            let slots: Vec<_> = call.kernel.bindings.iter().map(slot).collect();
            self.dispatch(call.kernel, variant, &params, &slots, groups)?;
        }
        let (loss, total) = match losses {
            Some(losses) => (losses, self.sum_of_partials(op, partials)?),
            None => self.loss_of_partials(op, partials, divisor)?,
        };
        let check = check_of(op, "an input or a target", &total);
        let grad = grad.unwrap_or_else(|| x.clone());
        Ok(LossGrad { loss: loss.with_check(check.clone()), grad: grad.with_check(check) })
    }

    /// The sum of weights, as a partial result.
    fn total_weight(&mut self, op: &'static str, weights: &Weights) -> Result<Tensor<u32>> {
        let values = weights.on(self.gpu())?;
        self.sum_of_values(op, &values)
    }
}
