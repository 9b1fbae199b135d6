//! What the maps of rows share.

use crate::error::Result;
use crate::kernel::{Binding, Field, Kernel, Variant, params, read, read4, write4};
use crate::plan::{Cut, RowPlan};
use crate::recorder::Recorder;
use crate::tensor::{Float, Tensor};

use super::row_parts::Rows;
use super::{Classes, same_shape};

params! {
    struct ForwardParams { rows: u32, classes: u32, inner: u32, input_base: u32, output_base: u32, parts_base: u32 }
}

pub(super) const FORWARD_PARAMS: &[Field] = ForwardParams::FIELDS;
pub(super) const FORWARD_BINDINGS: &[Binding] = &[read4("logits"), write4("output"), read("parts", "f32")];

params! {
    struct BackwardParams {
        rows: u32,
        classes: u32,
        inner: u32,
        output_base: u32,
        upstream_base: u32,
        grad_base: u32,
    }
}

pub(super) const BACKWARD_PARAMS: &[Field] = BackwardParams::FIELDS;
pub(super) const BACKWARD_BINDINGS: &[Binding] = &[read4("output"), read4("upstream"), write4("grad")];

pub(super) const CONSTANTS: &[&str] = &RowPlan::CONSTANTS;

impl Recorder<'_> {
    /// Maps the rows along dimension `dim`.
    pub(super) fn row_map<T: Float>(
        &mut self,
        op: &'static str,
        kernel: &'static Kernel,
        logits: &Tensor<T>,
        dim: usize,
    ) -> Result<Tensor<T>> {
        self.own(op, "logits", logits)?;
        let dims = Classes::along(op, "logits", logits.shape(), dim)?;
        let caps = self.gpu().caps();
        let plan = RowPlan::new(caps, dims.classes, dims.inner).in_parts(caps, dims.classes, dims.rows());
        let groups_per_granule = u64::from(dims.inner) * u64::from(plan.parts());
        let part_bytes = [dims.part() * logits.format().bytes()];
        let cut = Cut { op, rows: dims.outer, row_bytes: &part_bytes, granule: 1, groups_per_granule };
        let ranges = cut.ranges(caps)?;
        let output = self.output(op, logits.shape().clone())?;
        for outer in ranges.into_iter().filter(|_| !logits.is_empty()) {
            let rows = (outer.end - outer.start) * dims.inner;
            let (first, len) = (u64::from(outer.start) * dims.part(), u64::from(rows) * u64::from(dims.classes));
            let (from, to) = (self.window(logits, first, len), self.window(&output, first, len));
            let logits = Rows { window: &from, rows, classes: dims.classes, logits: 0, logit_scale: 1.0, softcap: 1.0 };
            let parts = self.row_parts(op, plan, &logits)?;
            let params = ForwardParams {
                rows,
                classes: dims.classes,
                inner: dims.inner,
                input_base: from.base,
                output_base: to.base,
                parts_base: parts.as_ref().map_or(0, |parts| parts.base),
            };
            let slots = [Some(&from), Some(&to), parts.as_ref()];
            self.dispatch(kernel, variant_of(plan, dims), &params, &slots, plan.groups(rows))?;
        }
        Ok(output)
    }

    /// The gradient of a map of rows along dimension `dim`, from its output.
    pub(super) fn row_map_backward<T: Float>(
        &mut self,
        op: &'static str,
        kernel: &'static Kernel,
        output: &Tensor<T>,
        upstream: &Tensor<T>,
        dim: usize,
    ) -> Result<Tensor<T>> {
        self.own(op, "output", output)?;
        self.own(op, "upstream", upstream)?;
        let dims = Classes::along(op, "output", output.shape(), dim)?;
        same_shape(op, "upstream", upstream, output)?;
        let part_bytes = [dims.part() * output.format().bytes()];
        let cut =
            Cut { op, rows: dims.outer, row_bytes: &part_bytes, granule: 1, groups_per_granule: u64::from(dims.inner) };
        let ranges = cut.ranges(self.gpu().caps())?;
        let grad = self.output(op, output.shape().clone())?;
        for outer in ranges.into_iter().filter(|_| !output.is_empty()) {
            let rows = (outer.end - outer.start) * dims.inner;
            let (first, len) = (u64::from(outer.start) * dims.part(), u64::from(rows) * u64::from(dims.classes));
            let (y, g) = (self.window(output, first, len), self.window(upstream, first, len));
            let to = self.window(&grad, first, len);
            let params = BackwardParams {
                rows,
                classes: dims.classes,
                inner: dims.inner,
                output_base: y.base,
                upstream_base: g.base,
                grad_base: to.base,
            };
            let plan = RowPlan::new(self.gpu().caps(), dims.classes, dims.inner);
            let slots = [Some(&y), Some(&g), Some(&to)];
            self.dispatch(kernel, variant_of(plan, dims), &params, &slots, plan.groups(rows))?;
        }
        Ok(grad)
    }
}

fn variant_of(plan: RowPlan, dims: Classes) -> Variant {
    let vec4 = dims.inner == 1 && dims.classes.is_multiple_of(4);
    Variant { vec4, ..Variant::new(&plan.constants()) }
}
