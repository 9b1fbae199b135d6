//! What cross-entropy and the negative log-likelihood share: a loss for every row of classes.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::kernel::{Field, Kernel, Variant, params};
use crate::options::{Reduction, device_ignore_index};
use crate::plan::{Cut, lanes_per_row};
use crate::recorder::{Recorder, Window};
use crate::tensor::{Shape, Tensor};
use crate::weights::Weights;

use super::reduce::{Divisor, as_f32, check_of};
use super::{Classes, Grad, LossGrad, Targets, no_alias, same_shape, shape_error};

params! {
    struct Params {
        rows: u32,
        classes: u32,
        inner: u32,
        input_base: u32,
        grad_base: u32,
        targets_base: u32,
        weight_base: u32,
        losses_base: u32,
        upstream_base: u32,
        denominator_base: u32,
        weight_stride: u32,
        upstream_stride: u32,
        ignore_index: i32,
        divisor: u32,
        count: f32,
        label_smoothing: f32,
    }
}

pub(super) const PARAMS: &[Field] = Params::FIELDS;

/// A loss of rows, as its operation was called.
#[derive(Debug)]
pub(super) struct RowLoss<'a> {
    pub(super) op: &'static str,
    pub(super) kernel: &'static Kernel,
    pub(super) input: &'a Tensor<f32>,
    pub(super) targets: Targets<'a>,
    pub(super) weight: Option<&'a Weights>,
    pub(super) reduction: Reduction,
    pub(super) ignore_index: i64,
    pub(super) label_smoothing: f32,
    pub(super) upstream: Option<&'a Tensor<f32>>,
    pub(super) grad: Grad,
}

/// What a validated call works on.
struct Inputs {
    dims: Classes,
    /// The input's shape without its classes.
    rows: Shape,
    /// A scalar 1, or one for each class.
    weight: Tensor<f32>,
    /// A scalar 1, the caller's scalar, or one for each loss.
    upstream: Tensor<f32>,
}

impl RowLoss<'_> {
    fn input_name(&self) -> &'static str {
        self.kernel.bindings[0].name
    }

    fn validate(&self, rec: &Recorder<'_>) -> Result<Inputs> {
        let (op, what) = (self.op, self.input_name());
        rec.own(op, what, self.input)?;
        let dims = Classes::of(op, what, self.input)?;
        let mut rows = self.input.shape().to_vec();
        rows.remove(usize::from(rows.len() > 1));
        let rows = Shape::from(rows);
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            let (expected, got) = ("in 0..=1".to_owned(), self.label_smoothing.to_string());
            return Err(Error::Value { op, what: "label_smoothing", expected, got });
        }
        match self.targets {
            Targets::Index(targets) => {
                rec.own(op, "targets", targets)?;
                if *targets.shape() != rows {
                    let expected = format!("shape {rows} for {what} of shape {}", self.input.shape());
                    return Err(shape_error(op, "targets", expected, targets.shape()));
                }
            }
            Targets::Probabilities(targets) => {
                rec.own(op, "targets", targets)?;
                same_shape(op, "targets", targets, self.input)?;
                if self.ignore_index >= 0 {
                    let (expected, got) = ("below 0 with probabilities".to_owned(), self.ignore_index.to_string());
                    return Err(Error::Value { op, what: "ignore_index", expected, got });
                }
            }
        }
        if let Some(weight) = self.weight
            && weight.shape()[..] != [dims.classes as usize]
        {
            return Err(shape_error(op, "weight", format!("shape [{}]", dims.classes), weight.shape()));
        }
        let scalar = Shape::default();
        let loss = if self.reduction == Reduction::None { &rows } else { &scalar };
        if let Some(upstream) = self.upstream {
            rec.own(op, "upstream", upstream)?;
            check_upstream(op, upstream, loss)?;
        }
        let weight = self.weight.map_or_else(|| Ok(rec.gpu().one()), |weight| weight.on(rec.gpu()))?;
        rec.own(op, "weight", &weight)?;
        let upstream = self.upstream.cloned().unwrap_or_else(|| rec.gpu().one());
        if self.grad == Grad::InPlace {
            let written = (what, self.input);
            match self.targets {
                Targets::Index(targets) => no_alias(op, written, ("targets", targets))?,
                Targets::Probabilities(targets) => no_alias(op, written, ("targets", targets))?,
            }
            no_alias(op, written, ("weight", &weight))?;
            no_alias(op, written, ("upstream", &upstream))?;
        }
        Ok(Inputs { dims, rows, weight, upstream })
    }
}

/// An upstream gradient is a scalar or has the loss's shape.
pub(super) fn check_upstream(op: &'static str, upstream: &Tensor<f32>, loss: &Shape) -> Result<()> {
    if upstream.shape().is_empty() || upstream.shape() == loss {
        return Ok(());
    }
    let expected = match loss.is_empty() {
        true => "shape []".to_owned(),
        false => format!("shape [] or {loss}"),
    };
    Err(shape_error(op, "upstream", expected, upstream.shape()))
}

impl Recorder<'_> {
    /// Records a loss of rows; the gradient is the input itself unless a new one is wanted.
    pub(super) fn row_loss(&mut self, call: &RowLoss<'_>) -> Result<LossGrad> {
        let op = call.op;
        let Inputs { dims, rows, weight, upstream } = call.validate(self)?;
        let cut = Cut {
            op,
            rows: dims.outer,
            row_bytes: &[dims.part() * 4, u64::from(dims.inner) * 4],
            granule: 1,
            groups_per_granule: u64::from(dims.inner),
        };
        let ranges = cut.ranges(self.gpu().caps())?;
        let losses = self.output(op, rows)?;
        let grad = match call.grad {
            Grad::New => self.output(op, call.input.shape().clone())?,
            Grad::No | Grad::InPlace => call.input.clone(),
        };
        // Of class indices: the sum of their weights, and the first that is no class.
        let denominator = match call.targets {
            Targets::Index(targets) => {
                Some(self.sum_target_weights(op, targets, &weight, dims.classes, call.ignore_index)?)
            }
            Targets::Probabilities(_) => None,
        };
        let mean = match &denominator {
            Some(denominator) => Divisor::Sum(denominator),
            None => Divisor::Count(dims.rows()),
        };
        let divisor = Divisor::of(call.reduction, mean);
        for outer in ranges.into_iter().filter(|_| dims.rows() > 0) {
            self.row_loss_part(call, dims, outer, [&losses, &grad, &weight, &upstream], divisor)?;
        }
        let check = denominator.as_ref().and_then(|pair| check_of(op, "a target", pair));
        let loss = match call.reduction {
            Reduction::None => losses,
            Reduction::Mean | Reduction::Sum => {
                let partials = self.reduce_values(op, &losses)?;
                let total = self.reduce_partials(op, partials)?;
                self.finish_loss(op, &total, divisor)?
            }
        };
        Ok(LossGrad { loss: loss.with_check(check.clone()), grad: grad.with_check(check) })
    }

    /// One dispatch: the rows of some of the outer parts.
    fn row_loss_part(
        &mut self,
        call: &RowLoss<'_>,
        dims: Classes,
        outer: Range<u32>,
        [losses, grad, weight, upstream]: [&Tensor<f32>; 4],
        divisor: Divisor<'_>,
    ) -> Result<()> {
        let first = u64::from(outer.start) * u64::from(dims.inner);
        let count = (outer.end - outer.start) * dims.inner;
        let (start, len) = (u64::from(outer.start) * dims.part(), u64::from(count) * u64::from(dims.classes));
        // A row of no classes has no element to bind, and a loss all the same: NaN, or 0 if it is ignored.
        let elements = |tensor: &Tensor<f32>| (len > 0).then(|| self.window(tensor, start, len));
        let one_a_row = |tensor: &Tensor<f32>| match tensor.shape().is_empty() {
            true => self.whole(tensor),
            false => self.window(tensor, first, count.into()),
        };
        let input = elements(call.input);
        let (targets, probabilities) = match call.targets {
            Targets::Index(targets) => (Some(self.window(targets, first, count.into())), None),
            Targets::Probabilities(targets) => (None, elements(targets)),
        };
        let weight_window = (!weight.is_empty()).then(|| self.whole(weight));
        let upstream_window = one_a_row(upstream);
        let (divisor, divisor_count, denominator) = match divisor {
            Divisor::One => (0, 1.0, None),
            Divisor::Count(count) => (1, as_f32(count), None),
            Divisor::Sum(pair) => (2, 1.0, Some(self.whole(pair))),
        };
        let loss = self.window(losses, first, count.into());
        let new_grad = (call.grad == Grad::New).then(|| elements(grad)).flatten();
        let in_place = call.grad == Grad::InPlace && len > 0;
        let base = |window: Option<&Window>| window.map_or(0, |w| w.base);
        let params = Params {
            rows: count,
            classes: dims.classes,
            inner: dims.inner,
            input_base: base(input.as_ref()),
            grad_base: base(if in_place { input.as_ref() } else { new_grad.as_ref() }),
            targets_base: base(targets.as_ref().or(probabilities.as_ref())),
            weight_base: base(weight_window.as_ref()),
            losses_base: loss.base,
            upstream_base: upstream_window.base,
            denominator_base: base(denominator.as_ref()),
            weight_stride: u32::from(!weight.shape().is_empty()),
            upstream_stride: u32::from(!upstream.shape().is_empty()),
            ignore_index: device_ignore_index(call.ignore_index),
            divisor,
            count: divisor_count,
            label_smoothing: call.label_smoothing,
        };
        let kind = match call.targets {
            Targets::Index(_) if call.label_smoothing == 0.0 => 0,
            Targets::Index(_) => 1,
            Targets::Probabilities(_) => 2,
        };
        let workgroup = self.gpu().caps().workgroup_size();
        let lanes = lanes_per_row(self.gpu().caps(), dims.classes, dims.inner);
        let constants = call.kernel.constants.iter().map(|&name| match name {
            "WORKGROUP" => workgroup,
            "LANES" => lanes,
            "GRAD" => u32::from(call.grad != Grad::No),
            _ => kind,
        });
        let variant = Variant {
            constants: constants.collect(),
            vec4: dims.inner == 1 && dims.classes.is_multiple_of(4),
            in_place,
            absent: 0,
        };
        let slots: Vec<_> = call
            .kernel
            .bindings
            .iter()
            .map(|binding| match binding.name {
                "targets" => targets.as_ref(),
                "probabilities" => probabilities.as_ref(),
                "weight" => weight_window.as_ref(),
                "denominator" => denominator.as_ref(),
                "upstream" => Some(&upstream_window),
                "losses" => Some(&loss),
                "grad" => new_grad.as_ref(),
                _ => input.as_ref(),
            })
            .collect();
        let groups = u64::from(count).div_ceil(u64::from(workgroup / lanes));
        self.dispatch(call.kernel, variant, &params, &slots, groups)
    }
}
