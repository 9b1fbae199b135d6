//! The dispatches of an elementwise loss.

use std::ops::Range;

use crate::engine::kernel::{Field, params};
use crate::error::Result;
use crate::ops::loss::definition::Elementwise;
use crate::ops::loss::request::GradientPlace;
use crate::ops::loss::row_loss::check_upstream;
use crate::ops::loss::{Denominator, Reduction};
use crate::ops::reduce::blocks::{Divisor, words};
use crate::ops::reduce::broadcast::Broadcast;
use crate::plan::loss_block;
use crate::record::{BlockLaunch, Recorder};
use crate::tensor::{Shape, Tensor, expect_shape, narrow};

params! {
    struct Params {
        /// The constant factor of the gradient: `Elementwise::slope_factor`, divided by the number
        /// of losses if the mean divides by it.
        scale: f32,
        /// Element `i` of the dispatch has the weight of index
        /// `((weight_first + i) / weight_inner) % weight_size`.
        weight_first: u32,
        weight_inner: u32,
        weight_size: u32,
        /// The same for positive weights.
        pos_weight_first: u32,
        pos_weight_inner: u32,
        pos_weight_size: u32,
        /// 1: the upstream gradient is the product of two elements.
        upstream_is_factored: u32,
        /// The numbers in `Elementwise::options`.
        option_0: f32,
        option_1: f32,
    }
}

pub(crate) const PARAMS: &[Field] = Params::FIELDS;

/// The arguments of an elementwise loss except its input, which may be recorded slice by slice.
#[derive(Debug)]
pub(crate) struct ElementsCall<'a> {
    pub(crate) loss: Elementwise<'a>,
    pub(crate) targets: &'a Tensor<f32>,
    pub(crate) upstream: Option<&'a Tensor<f32>>,
    pub(crate) gradient: GradientPlace,
    /// Whether a mean is divided by its denominator, or left as a sum.
    pub(crate) divided: bool,
}

/// A call in progress: the values that its dispatches share.
pub(crate) struct ElementsCallState {
    weight: Option<Broadcast>,
    pos_weight: Option<Broadcast>,
    total_weight: Option<Tensor<u32>>,
    /// A scalar, one value per loss, or the two factors of a scalar.
    upstream: Tensor<f32>,
    upstream_is_factored: bool,
    scale: f64,
    count: u32,
}

/// Some elements of a call, and their tensors.
pub(crate) struct ElementsSlice<'a> {
    /// The indices of the elements in the whole tensors.
    pub(crate) elements: Range<u32>,
    /// The index in the whole tensors of the first element that `x`, `losses` and `grad` hold.
    pub(crate) first: u32,
    pub(crate) x: &'a Tensor<f32>,
    pub(crate) losses: Option<&'a Tensor<f32>>,
    /// The gradient, unless it is in place.
    pub(crate) grad: Option<&'a Tensor<f32>>,
    /// One partial result per block.
    pub(crate) partials: &'a Tensor<u32>,
}

impl ElementsCall<'_> {
    pub(crate) fn divisor<'d>(&self, begun: &'d ElementsCallState) -> Divisor<'d> {
        if self.divided { Divisor::of(self.loss.reduction, begun.mean_divisor()) } else { Divisor::One }
    }
}

impl ElementsCallState {
    fn mean_divisor(&self) -> Divisor<'_> {
        self.total_weight.as_ref().map_or(Divisor::Count(self.count), Divisor::Sum)
    }

    /// The denominator of the mean.
    pub(crate) fn denominator(&self, rec: &Recorder<'_>) -> Denominator {
        Denominator::of(rec, self.mean_divisor())
    }
}

impl Recorder<'_> {
    /// Begins a loss of tensors of this shape, whose elements are recorded in slices.
    pub(crate) fn begin_elements(&mut self, call: &ElementsCall<'_>, shape: &Shape) -> Result<ElementsCallState> {
        let ElementsCall { loss, targets, upstream, .. } = call;
        let op = loss.op;
        self.check_device(op, "targets", targets)?;
        expect_shape(op, "targets", targets.shape(), shape)?;
        check_upstream(self, op, *upstream, loss.reduction, shape)?;
        let weight = loss.weight.map(|w| self.plan_broadcast(op, "weight", w, shape)).transpose()?;
        let pos_weight = loss.pos_weight.map(|w| self.plan_broadcast(op, "pos_weight", w, shape)).transpose()?;
        // All arguments are valid; recording starts here.
        let weight = weight.map(|plan| self.broadcast(plan)).transpose()?;
        let pos_weight = pos_weight.map(|plan| self.broadcast(plan)).transpose()?;
        let by_weight = loss.mean_by_weight && loss.reduction != Reduction::MeanByCount;
        let summed = loss.weight.filter(|_| by_weight);
        let total_weight = summed.map(|w| self.sum_of_values(op, &w.on(self.gpu())?)).transpose()?;
        let upstream = upstream.cloned().unwrap_or_else(|| self.gpu().one());
        let scale = loss.slope_factor;
        let (upstream_is_factored, count) = (false, targets.count(op)?);
        let mut begun =
            ElementsCallState { weight, pos_weight, total_weight, upstream, upstream_is_factored, scale, count };
        match call.divisor(&begun) {
            Divisor::One => {}
            // In f64, so that the scale is rounded once.
            Divisor::Count(count) => begun.scale = loss.slope_factor / f64::from(count.max(1)),
            Divisor::Sum(partial) => {
                begun.upstream = self.upstream_quotient(op, &begun.upstream, partial)?;
                begun.upstream_is_factored = true;
            }
        }
        Ok(begun)
    }

    /// Records some of the elements.
    pub(crate) fn elements_slice(
        &mut self,
        call: &ElementsCall<'_>,
        begun: &ElementsCallState,
        slice: &ElementsSlice<'_>,
    ) -> Result<()> {
        let ElementsCallState { weight, pos_weight, upstream, upstream_is_factored, scale, .. } = begun;
        let ElementsSlice { elements, first: slice_first, x, losses, grad, partials } = slice;
        let in_place = call.gradient == GradientPlace::InPlace;
        let [option_0, option_1] = call.loss.options.map(narrow);
        let count = elements.end - elements.start;
        let here = |tensor: &Tensor<f32>, first: u32| tensor.part(first as usize, [count as usize].into());
        let offset = elements.start - slice_first;
        // Whether there is one upstream gradient per element.
        let each = !upstream.shape().is_empty() && !upstream_is_factored;
        let blocks = BlockLaunch::new(call.loss.op, call.loss.kernel, count)
            .block_size(loss_block(self.gpu().caps(), count))
            .first(elements.start)
            .constant("GRAD", in_place || grad.is_some())
            .constant("LOSSES", losses.is_some())
            .constant("UPSTREAM", each)
            .constant("WEIGHTED", weight.is_some())
            .in_place(in_place)
            .per_element("x", &here(x, offset))
            .per_element("y", &here(call.targets, elements.start))
            .per_element("losses", losses.map(|losses| here(losses, offset)).as_ref())
            .per_element("grad", grad.map(|grad| here(grad, offset)).as_ref())
            .per_block("partials", partials, words(1));
        let blocks = if each {
            blocks.per_element("upstream", &here(upstream, elements.start))
        } else {
            // A scalar is too small for a quad binding.
            blocks.whole("upstream", upstream).by_scalar("upstream")
        };
        let weigh = |blocks: BlockLaunch, name: &'static str, weight: &Option<Broadcast>| match weight {
            Some(Broadcast { tensor, each: true, .. }) => blocks.per_element(name, &here(tensor, elements.start)),
            Some(Broadcast { tensor, .. }) => blocks.whole(name, tensor),
            None => blocks.bind_nothing(name),
        };
        let blocks = weigh(blocks, "weight", weight);
        // A `pos_weight` for a kernel that does not declare `POS_WEIGHTED` makes recording fail.
        let blocks = if pos_weight.is_some() || call.loss.kernel.has_constant("POS_WEIGHTED") {
            weigh(blocks.constant("POS_WEIGHTED", pos_weight.is_some()), "pos_weight", pos_weight)
        } else {
            blocks
        };
        let index = |weight: &Option<Broadcast>, first| match weight {
            Some(Broadcast { inner, size, each, .. }) => [if *each { 0 } else { first }, *inner, *size],
            None => [0, 1, 1],
        };
        blocks.run_with(self, |first| {
            let ([weight_first, weight_inner, weight_size], [pos_weight_first, pos_weight_inner, pos_weight_size]) =
                (index(weight, first), index(pos_weight, first));
            Params {
                scale: narrow(*scale),
                weight_first,
                weight_inner,
                weight_size,
                pos_weight_first,
                pos_weight_inner,
                pos_weight_size,
                upstream_is_factored: u32::from(*upstream_is_factored),
                option_0,
                option_1,
            }
        })
    }
}
