//! The ranks of targets among the logits of their rows.

use crate::engine::kernel::{Kernel, kernel, read, read4, update, write};
use crate::error::Result;
use crate::plan::RowPlan;
use crate::record::{Launch, Recorder};
use crate::tensor::{Real, Tensor};

use crate::ops::Classes;
use crate::plan::strips::Strip;

pub(crate) static KERNEL: Kernel =
    kernel!("rank", &[], &[read4("logits"), read("targets", "i32"), write("ranks", "u32"), update("lanes", "u32")]);

impl Recorder<'_> {
    /// Counts, for each row, the logits above the logit of the target. There is at least one class;
    /// `targets` has the shape of the logits without the class dimension.
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
            let lanes = self.lanes(op, plan, rows as usize, 1, dispatches.len() > 1)?;
            for (blocks, work) in dispatches {
                let launch = Launch::new(op, &KERNEL)
                    .rows(&plan, [rows, classes, inner], &blocks)
                    .bind("logits", from.clone())
                    .bind("targets", target.clone())
                    .bind("ranks", to.clone())
                    .bind("lanes", lanes.clone());
                self.launch(launch, &(), work)?;
            }
        }
        Ok(ranks)
    }
}
