//! What the losses of two tensors of one shape share.

use crate::error::Result;
use crate::kernel::{Binding, Field, Kernel, Variant, params, read, read4, write, write4};
use crate::options::Reduction;
use crate::plan::BLOCK;
use crate::recorder::Recorder;
use crate::tensor::{Shape, Tensor};

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
        upstream_stride: u32,
        partials_base: u32,
        scale: f32,
    }
}

pub(super) const PARAMS: &[Field] = Params::FIELDS;
pub(super) const CONSTANTS: &[&str] = &["WORKGROUP", "GRAD", "LOSSES"];
pub(super) const BINDINGS: &[Binding] =
    &[read4("x"), read4("y"), read("upstream", "f32"), write4("losses"), write4("grad"), write("partials", "u32")];

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
        let losses = unreduced.then(|| self.output(op, loss_shape)).transpose()?;
        let grad = (call.grad == Grad::New).then(|| self.output(op, x.shape().clone())).transpose()?;
        let partials = pairs(self, op, count)?;
        let upstream = call.upstream.cloned().unwrap_or_else(|| self.gpu().one());
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
            let params = Params {
                count: range.end - range.start,
                first: range.start,
                block: BLOCK,
                x_base: x.base,
                y_base: y.base,
                losses_base: loss_window.as_ref().map_or(0, |w| w.base),
                grad_base: grad_window.as_ref().map_or(0, |w| w.base),
                upstream_base: upstream.base,
                upstream_stride,
                partials_base: to.base,
                scale: scale(call, count),
            };
            let workgroup = self.gpu().caps().workgroup_size();
            let variant =
                Variant { vec4: true, ..Variant::new(&[workgroup, u32::from(grad.is_some()), u32::from(unreduced)]) };
            let slots = [Some(&x), Some(&y), Some(&upstream), loss_window.as_ref(), grad_window.as_ref(), Some(&to)];
            self.dispatch(call.kernel, variant, &params, &slots, groups)?;
        }
        let total = self.reduce_partials(op, partials)?;
        let check = check_of(op, "an input or a target", &total);
        let loss = match losses {
            Some(losses) => losses,
            None => self.finish_loss(op, &total, Divisor::of(call.reduction, Divisor::Count(count)))?,
        };
        let grad = grad.unwrap_or_else(|| x.clone());
        Ok(LossGrad { loss: loss.with_check(check.clone()), grad: grad.with_check(check) })
    }
}

/// What gradients are multiplied with, rounded once.
#[expect(clippy::cast_possible_truncation, reason = "rounding is meant")]
fn scale(call: &ElementwiseLoss<'_>, count: u32) -> f32 {
    match call.reduction {
        Reduction::Mean => (call.slope / f64::from(count.max(1))) as f32,
        Reduction::Sum | Reduction::None => call.slope as f32,
    }
}
