//! The softmax statistics of rows that several workgroups share.

use crate::error::Result;
use crate::kernel::{Kernel, Variant, params, read4, update, wgsl, write};
use crate::plan::RowPlan;
use crate::recorder::{Recorder, Window};
use crate::tensor::Tensor;

params! {
    struct Params {
        rows: u32,
        classes: u32,
        inner: u32,
        logit_scale: f32,
        softcap: f32,
        /// The blocks of this dispatch.
        first_block: u32,
        end_block: u32,
    }
}

pub(super) const KERNEL: Kernel = Kernel {
    label: "xent.row_parts",
    source: wgsl![
        "lib/grid",
        "lib/numerics",
        "lib/lanes",
        "lib/sum",
        "lib/rows",
        "lib/scaled_logits",
        "lib/softmax",
        "row_parts"
    ],
    bindings: &[read4("logits"), write("parts", "f32"), update("lanes", "f32")],
    params: Params::FIELDS,
    constants: &["WORKGROUP", "SUBGROUP", "LANES", "PARTS", "SPAN", "HELD", "CLASSES", "WHOLE", "RUNS", "LOGITS"],
};

/// Words of a part's statistics.
const WORDS: usize = 4;

/// Words that a lane hands on.
const LANE_WORDS: usize = 7;

/// Rows of logits.
pub(super) struct Rows<'a> {
    pub(super) window: &'a Window,
    pub(super) rows: u32,
    pub(super) classes: u32,
    pub(super) inner: u32,
    /// The constant `LOGITS`, and what it goes with.
    pub(super) logits: u32,
    pub(super) logit_scale: f32,
    pub(super) softcap: f32,
}

impl Recorder<'_> {
    /// The softmax statistics of all parts of rows.
    pub(super) fn row_parts(&mut self, op: &'static str, plan: RowPlan, rows: &Rows<'_>) -> Result<Window> {
        let count = rows.rows as usize;
        let parts = self.output::<f32>(op, [count, plan.parts() as usize, WORDS])?;
        let to = self.whole(&parts);
        let dispatches = plan.dispatches(op, self.gpu().caps(), (rows.rows, rows.classes), plan.softmax_sweep())?;
        let lanes = self.lanes(op, plan, count, (LANE_WORDS, dispatches.len()))?;
        for (blocks, work) in dispatches {
            let params = Params {
                rows: rows.rows,
                classes: rows.classes,
                inner: rows.inner,
                logit_scale: rows.logit_scale,
                softcap: rows.softcap,
                first_block: blocks.start,
                end_block: blocks.end,
            };
            let constants = plan.constants().into_iter().chain([rows.logits]).collect();
            let vec4 = rows.inner == 1 && rows.classes.is_multiple_of(4);
            let variant = Variant { constants, vec4, ..Variant::default() };
            self.dispatch(&KERNEL, variant, &params, &[Some(rows.window), Some(&to), lanes.as_ref()], work)?;
        }
        Ok(to)
    }

    /// Room for what the lanes of rows hand on from dispatch to dispatch, so many words each, if there are several.
    pub(super) fn lanes(
        &mut self,
        op: &'static str,
        plan: RowPlan,
        rows: usize,
        (words, dispatches): (usize, usize),
    ) -> Result<Option<Window>> {
        if dispatches <= 1 {
            return Ok(None);
        }
        let lanes: Tensor<u32> = self.output(op, [rows, plan.lanes(), words])?;
        Ok(Some(self.whole(&lanes)))
    }
}
