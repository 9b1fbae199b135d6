//! What the losses of two tensors of one shape share.

use std::ops::Range;

use crate::error::Result;
use crate::kernel::{Binding, Field, Kernel, Variant, params};
use crate::options::{Reduction, narrow};
use crate::plan::{BLOCK, Cut, Work, turns};
use crate::recorder::Recorder;
use crate::tensor::{Shape, Tensor};
use crate::weights::Weights;

use super::broadcast::Broadcast;
use super::reduce::{Divisor, check_of, partials, partials_of};
use super::row_loss::check_upstream;
use super::{Denominator, Grad, LossGrad, shape_error};

params! {
    struct Params {
        /// Elements of this dispatch, and where the first of them lies in the whole tensor.
        count: u32,
        first: u32,
        /// Elements of a block: what a workgroup sums.
        block: u32,
        /// What the gradient is multiplied with: the loss's own factor, divided by n for a mean.
        scale: f32,
        weight_first: u32,
        weight_inner: u32,
        weight_size: u32,
        pos_weight_first: u32,
        pos_weight_inner: u32,
        pos_weight_size: u32,
        /// 1: the upstream gradient is the product of two numbers.
        upstream_factors: u32,
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
    /// Whether a mean is divided by its denominator, and not left a sum.
    pub(super) divided: bool,
    pub(super) upstream: Option<&'a Tensor<f32>>,
    pub(super) grad: Grad,
    pub(super) weight: Option<&'a Weights>,
    /// The mean divides by the sum of the weights, not by the number of elements, unless it is `Reduction::MeanByCount`.
    pub(super) mean_by_weight: bool,
    pub(super) pos_weight: Option<&'a Weights>,
    /// A constant factor of the gradient; part of the scale, so that it overflows no sooner than the result.
    pub(super) slope: f64,
}

/// A call on its way: what its dispatches share.
pub(super) struct ElementsBegun {
    weight: Option<Broadcast>,
    pos_weight: Option<Broadcast>,
    total_weight: Option<Tensor<u32>>,
    /// A scalar, one for each loss, or two factors of a scalar.
    upstream: Tensor<f32>,
    in_factors: bool,
    scale: f64,
    count: u32,
}

/// Elements of a call, and where they are.
pub(super) struct ElementsPart<'a> {
    /// Counted in the whole tensors.
    pub(super) elements: Range<u32>,
    /// The element that `x`, `losses` and `grad` begin with.
    pub(super) first: u32,
    pub(super) x: &'a Tensor<f32>,
    pub(super) losses: Option<&'a Tensor<f32>>,
    /// Where the gradient goes, if it is not written over `x`.
    pub(super) grad: Option<&'a Tensor<f32>>,
    /// A partial result for each block of the elements.
    pub(super) partials: &'a Tensor<u32>,
}

impl ElementwiseLoss<'_> {
    fn divisor<'d>(&self, begun: &'d ElementsBegun) -> Divisor<'d> {
        match self.divided {
            true => Divisor::of(self.reduction, begun.mean_divisor()),
            false => Divisor::One,
        }
    }
}

impl ElementsBegun {
    fn mean_divisor(&self) -> Divisor<'_> {
        self.total_weight.as_ref().map_or(Divisor::Count(self.count), Divisor::Sum)
    }

    /// What the mean divides by.
    pub(super) fn denominator(&self, rec: &Recorder<'_>) -> Denominator {
        Denominator::of(rec, self.mean_divisor())
    }
}

impl Recorder<'_> {
    /// Records an elementwise loss; the gradient is the first tensor itself unless one is wanted.
    pub(super) fn elementwise_loss(&mut self, call: &ElementwiseLoss<'_>) -> Result<LossGrad> {
        let ElementwiseLoss { op, x: (what, x), .. } = *call;
        self.own(op, what, x)?;
        let count = x.count(op)?;
        Cut::by_blocks(op, count, &[x.per_row(1)]).ranges(self.gpu().caps())?;
        let begun = self.elements_begin(call, x.shape())?;
        let unreduced = call.reduction == Reduction::None;
        let losses = unreduced.then(|| self.output(op, x.shape().clone())).transpose()?;
        let grad = (call.grad == Grad::New).then(|| self.output(op, x.shape().clone())).transpose()?;
        let partials = partials(self, op, count, 1)?;
        let (losses_to, grad_to) = (losses.as_ref(), grad.as_ref());
        let all =
            ElementsPart { elements: 0..count, first: 0, x, losses: losses_to, grad: grad_to, partials: &partials };
        self.elements_part(call, &begun, &all)?;
        let (loss, total) = match losses {
            Some(losses) => (losses, self.sum_of_partials(op, partials, 1)?),
            None => self.loss_of_partials(op, partials, call.divisor(&begun))?,
        };
        let check = check_of(op, "an input or a target", &total);
        let grad = grad.unwrap_or_else(|| x.clone());
        let denominator = begun.denominator(self);
        Ok(LossGrad { loss: loss.with_check(check.clone()), grad: grad.with_check(check), denominator })
    }

    /// Begins a loss whose elements, of this shape in all, come in parts.
    pub(super) fn elements_begin(&mut self, call: &ElementwiseLoss<'_>, shape: &Shape) -> Result<ElementsBegun> {
        let ElementwiseLoss { op, targets, .. } = *call;
        self.own(op, "targets", targets)?;
        if targets.shape() != shape {
            return Err(shape_error(op, "targets", format!("shape {shape}"), targets.shape()));
        }
        if let Some(upstream) = call.upstream {
            self.own(op, "upstream", upstream)?;
            let scalar = Shape::default();
            check_upstream(op, upstream, if call.reduction == Reduction::None { shape } else { &scalar })?;
        }
        let weight = call.weight.map(|w| self.plan_broadcast(op, "weight", w, shape)).transpose()?;
        let pos_weight = call.pos_weight.map(|w| self.plan_broadcast(op, "pos_weight", w, shape)).transpose()?;
        // Everything fits: from here on things are recorded.
        let weight = weight.map(|plan| self.broadcast(plan)).transpose()?;
        let pos_weight = pos_weight.map(|plan| self.broadcast(plan)).transpose()?;
        let by_weight = call.mean_by_weight && call.reduction != Reduction::MeanByCount;
        let total_weight = call.weight.filter(|_| by_weight).map(|w| self.total_weight(op, w)).transpose()?;
        let upstream = call.upstream.cloned().unwrap_or_else(|| self.gpu().one());
        let scale = call.slope;
        let (in_factors, count) = (false, targets.count(op)?);
        let mut begun = ElementsBegun { weight, pos_weight, total_weight, upstream, in_factors, scale, count };
        match call.divisor(&begun) {
            Divisor::One => {}
            // Rounded once.
            Divisor::Count(count) => begun.scale = call.slope / f64::from(count.max(1)),
            Divisor::Sum(pair) => {
                begun.upstream = self.row_factor(op, &begun.upstream, pair)?;
                begun.in_factors = true;
            }
        }
        Ok(begun)
    }

    /// The end of a loss of which the losses of rows are known.
    pub(super) fn loss_of_rows(
        &mut self,
        call: &ElementwiseLoss<'_>,
        begun: &ElementsBegun,
        rows: &Tensor<f32>,
    ) -> Result<Tensor<f32>> {
        self.loss_of_values(call.op, rows, call.divisor(begun))
    }

    /// The dispatches of some of the elements.
    pub(super) fn elements_part(
        &mut self,
        call: &ElementwiseLoss<'_>,
        begun: &ElementsBegun,
        part: &ElementsPart<'_>,
    ) -> Result<()> {
        let ElementsBegun { weight, pos_weight, upstream: begun_upstream, in_factors, scale, .. } = begun;
        let ElementsPart { elements, first: part_first, losses, grad, partials, .. } = part;
        let upstream_stride = u32::from(!begun_upstream.shape().is_empty() && !in_factors);
        let in_place = call.grad == Grad::InPlace;
        let count = elements.end - elements.start;
        let here = |tensor: &Tensor<f32>, first: u32| tensor.part(first as usize, Shape::default()).per_row(1);
        let per_element = [here(part.x, elements.start - part_first), here(call.targets, elements.start)];
        for range in Cut::by_blocks(call.op, count, &per_element).ranges(self.gpu().caps())? {
            let start = elements.start + range.start;
            let (first, len) = (u64::from(start), u64::from(range.end - range.start));
            let within = u64::from(start - part_first);
            let groups = len.div_ceil(BLOCK.into());
            let x = self.window(part.x, within, len);
            let y = self.window(call.targets, first, len);
            let loss_window = losses.map(|losses| self.window(losses, within, len));
            let grad_window = grad.map(|grad| self.window(grad, within, len));
            let upstream = match upstream_stride {
                0 => self.whole(begun_upstream),
                _ => self.window(begun_upstream, first, len),
            };
            let to = partials_of(self, partials, range.start, groups, 1);
            let weight_window = weight.as_ref().map(|weight| weight.window(self, first, len));
            let pos_weight_window = pos_weight.as_ref().map(|weight| weight.window(self, first, len));
            let params = Params {
                count: range.end - range.start,
                first: start,
                block: BLOCK,
                scale: narrow(*scale),
                weight_first: weight_window.as_ref().map_or(0, |(_, first)| *first),
                weight_inner: weight.as_ref().map_or(1, |w| w.inner),
                weight_size: weight.as_ref().map_or(1, |w| w.size),
                pos_weight_first: pos_weight_window.as_ref().map_or(0, |(_, first)| *first),
                pos_weight_inner: pos_weight.as_ref().map_or(1, |w| w.inner),
                pos_weight_size: pos_weight.as_ref().map_or(1, |w| w.size),
                upstream_factors: u32::from(*in_factors),
            };
            let ([_, quads], [workgroup, subgroup]) = (turns(self.gpu().caps()), self.gpu().caps().threads());
            let constants = call.kernel.constants.iter().map(|&name| match name {
                "GRAD" => u32::from(in_place || grad.is_some()),
                "LOSSES" => u32::from(losses.is_some()),
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
            let constants = constants.collect();
            let variant = Variant { constants, vec4: true, by_element, in_place, ..Variant::default() };
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
            let work = Work::by_blocks(self.gpu().caps(), groups);
            self.dispatch(call.kernel, variant, &params, &slots, work)?;
        }
        Ok(())
    }

    /// The sum of weights, as a partial result.
    fn total_weight(&mut self, op: &'static str, weights: &Weights) -> Result<Tensor<u32>> {
        let values = weights.on(self.gpu())?;
        self.sum_of_values(op, &values)
    }
}
