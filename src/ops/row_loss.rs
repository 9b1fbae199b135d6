//! What cross-entropy and the negative log-likelihood share: a loss for every row of classes.

use crate::error::Result;
use crate::kernel::{Binding, Field, Kernel, Variant, params, read, read4, write, write4_over};
use crate::options::{Reduction, device_ignore_index};
use crate::plan::{Cut, lanes_per_row};
use crate::recorder::Recorder;
use crate::tensor::{Shape, Tensor};

use super::reduce::{Divisor, PARTIALS, check_of};
use super::{Classes, Grad, LossGrad, no_alias, shape_error};

params! {
    struct Params {
        rows: u32,
        classes: u32,
        inner: u32,
        input_base: u32,
        grad_base: u32,
        targets_base: u32,
        losses_base: u32,
        upstream_base: u32,
        upstream_stride: u32,
        ignore_index: i32,
        mean: u32,
    }
}

pub(super) const PARAMS: &[Field] = Params::FIELDS;
pub(super) const CONSTANTS: &[&str] = &["WORKGROUP", "LANES", "GRAD"];

/// The bindings of a kernel whose input is named `input`.
pub(super) const fn bindings(input: &'static str) -> [Binding; 6] {
    [
        read4(input),
        read("targets", "i32"),
        read("counts", "u32"),
        read("upstream", "f32"),
        write("losses", "f32"),
        write4_over("grad", input),
    ]
}

/// A loss of rows, as its operation was called.
#[derive(Debug)]
pub(super) struct RowLoss<'a> {
    pub(super) op: &'static str,
    pub(super) kernel: &'static Kernel,
    pub(super) input: &'a Tensor<f32>,
    pub(super) targets: &'a Tensor<i32>,
    pub(super) reduction: Reduction,
    pub(super) ignore_index: i64,
    pub(super) upstream: Option<&'a Tensor<f32>>,
    pub(super) grad: Grad,
}

impl RowLoss<'_> {
    fn validate(&self, rec: &Recorder<'_>) -> Result<Classes> {
        let op = self.op;
        let what = self.kernel.bindings[0].name;
        rec.own(op, what, self.input)?;
        rec.own(op, "targets", self.targets)?;
        let classes = Classes::of(op, what, self.input)?;
        let mut rows: Vec<usize> = self.input.shape().to_vec();
        rows.remove(usize::from(rows.len() > 1));
        let rows = Shape::from(rows);
        if *self.targets.shape() != rows {
            let expected = format!("shape {rows} for {what} of shape {}", self.input.shape());
            return Err(shape_error(op, "targets", expected, self.targets.shape()));
        }
        let loss = match self.reduction {
            Reduction::None => rows,
            Reduction::Mean | Reduction::Sum => Shape::default(),
        };
        if let Some(upstream) = self.upstream {
            rec.own(op, "upstream", upstream)?;
            check_upstream(op, upstream, &loss)?;
        }
        if self.grad == Grad::InPlace {
            no_alias(op, (what, self.input), ("targets", self.targets))?;
            if let Some(upstream) = self.upstream {
                no_alias(op, (what, self.input), ("upstream", upstream))?;
            }
        }
        Ok(classes)
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
        let dims = call.validate(self)?;
        let rows = dims.rows();
        let cut = Cut {
            op,
            rows: dims.outer,
            row_bytes: &[dims.part() * 4, u64::from(dims.inner) * 4],
            granule: 1,
            groups_per_granule: u64::from(dims.inner),
        };
        let ranges = cut.ranges(self.gpu().caps())?;
        let losses = self.output(op, call.targets.shape().clone())?;
        let grad = match call.grad {
            Grad::New => self.output(op, call.input.shape().clone())?,
            Grad::No | Grad::InPlace => call.input.clone(),
        };
        let counts = self.count_targets(op, call.targets, dims.classes, call.ignore_index)?;
        let upstream = call.upstream.cloned().unwrap_or_else(|| self.gpu().one());
        let upstream_stride = u32::from(!upstream.shape().is_empty());
        let workgroup = self.gpu().caps().workgroup_size();
        let lanes = lanes_per_row(self.gpu().caps(), dims.classes, dims.inner);
        for outer in ranges.into_iter().filter(|_| rows > 0) {
            let first = u64::from(outer.start) * u64::from(dims.inner);
            let count = (outer.end - outer.start) * dims.inner;
            let elements = (u64::from(outer.start) * dims.part(), u64::from(count) * u64::from(dims.classes));
            // A row of no classes has no element to bind, and a loss all the same: NaN, or 0 if it is ignored.
            let bind = |tensor| (elements.1 > 0).then(|| self.window(tensor, elements.0, elements.1));
            let from = bind(call.input);
            let to = (call.grad == Grad::New).then(|| bind(&grad)).flatten();
            let targets = self.window(call.targets, first, count.into());
            let counted = self.whole(&counts);
            let upstream = match upstream_stride {
                0 => self.whole(&upstream),
                _ => self.window(&upstream, first, count.into()),
            };
            let loss = self.window(&losses, first, count.into());
            let in_place = call.grad == Grad::InPlace && elements.1 > 0;
            let grad_window = if in_place { from.as_ref() } else { to.as_ref() };
            let params = Params {
                rows: count,
                classes: dims.classes,
                inner: dims.inner,
                input_base: from.as_ref().map_or(0, |w| w.base),
                grad_base: grad_window.map_or(0, |w| w.base),
                targets_base: targets.base,
                losses_base: loss.base,
                upstream_base: upstream.base,
                upstream_stride,
                ignore_index: device_ignore_index(call.ignore_index),
                mean: u32::from(call.reduction == Reduction::Mean),
            };
            let variant = Variant {
                vec4: dims.inner == 1 && dims.classes.is_multiple_of(4),
                in_place,
                ..Variant::new(&[workgroup, lanes, u32::from(call.grad != Grad::No)])
            };
            let slots = [from.as_ref(), Some(&targets), Some(&counted), Some(&upstream), Some(&loss), to.as_ref()];
            let groups = u64::from(count).div_ceil(u64::from(workgroup / lanes));
            self.dispatch(call.kernel, variant, &params, &slots, groups)?;
        }
        let check = check_of(op, "a target", &counts);
        let loss = match call.reduction {
            Reduction::None => losses,
            reduction => {
                let partials = self.reduce_values(op, &losses)?;
                let total = self.reduce_pairs(op, &PARTIALS, partials)?;
                self.finish_loss(op, &total, Divisor::of(reduction, Divisor::Valid(&counts)))?
            }
        };
        Ok(LossGrad { loss: loss.with_check(check.clone()), grad: grad.with_check(check) })
    }
}
