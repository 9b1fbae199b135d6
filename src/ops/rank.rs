//! The ranks of targets among the logits of their rows.

use crate::error::Result;
use crate::kernel::{Kernel, Variant, params, read, read4, update, wgsl, write};
use crate::plan::RowPlan;
use crate::recorder::Recorder;
use crate::tensor::{Real, Tensor};

use super::Classes;
use super::strips::Strip;

params! {
    struct Params {
        rows: u32,
        classes: u32,
        inner: u32,
        /// The blocks of this dispatch.
        first_block: u32,
        end_block: u32,
    }
}

pub(super) const KERNEL: Kernel = Kernel {
    label: "xent.rank",
    source: wgsl!["lib/grid", "lib/lanes", "lib/rows", "rank"],
    bindings: &[read4("logits"), read("targets", "i32"), write("ranks", "u32"), update("lanes", "u32")],
    params: Params::FIELDS,
    constants: &RowPlan::CONSTANTS,
};

impl Recorder<'_> {
    /// How many logits of each row lie above its target's. There is at least one class; the targets have the logits' shape without
    /// classes.
    pub(crate) fn target_ranks(
        &mut self,
        op: &'static str,
        logits: &Tensor<Real>,
        targets: &Tensor<i32>,
    ) -> Result<Tensor<u32>> {
        let whole = Classes::of(op, "logits", logits.shape())?;
        let plan = RowPlan::streamed(self.gpu().caps(), whole.classes, whole.inner);
        let ranks = self.output(op, targets.shape().clone())?;
        for strip in Strip::all(op, self.gpu().caps(), whole, &[logits.placed()], 4, 1)? {
            let Classes { classes, inner, .. } = strip.dims();
            let rows = strip.dims().rows();
            let x = self.strip_of(op, logits, &strip)?;
            let from = self.whole(&x);
            let target = self.window(targets, strip.first_row(), rows.into());
            let to = self.window(&ranks, strip.first_row(), rows.into());
            let dispatches = plan.dispatches(op, self.gpu().caps(), (rows, classes), plan.sweep(1))?;
            let lanes = self.lanes(op, plan, rows as usize, (1, dispatches.len()))?;
            for (blocks, work) in dispatches {
                let params = Params {
                    rows,
                    classes,
                    inner,
                    first_block: blocks.start,
                    end_block: blocks.end,
                };
                let slots = [Some(&from), Some(&target), Some(&to), lanes.as_ref()];
                let vec4 = inner == 1 && classes.is_multiple_of(4);
                let variant = Variant { vec4, ..Variant::new(&plan.constants()) };
                self.dispatch(&KERNEL, variant, &params, &slots, work)?;
            }
        }
        Ok(ranks)
    }
}
