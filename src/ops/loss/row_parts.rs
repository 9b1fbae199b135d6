//! Computes the softmax statistics of the parts of rows, in dispatches before those that use them.

use crate::engine::kernel::{Kernel, kernel, params, read4, update, write};
use crate::error::Result;
use crate::plan::RowPlan;
use crate::record::{Launch, Recorder, Window};
use crate::tensor::Tensor;

params! {
    struct Params {
        logit_scale: f32,
        softcap: f32,
    }
}

pub(crate) static KERNEL: Kernel =
    kernel!("row_parts", Params::FIELDS, &[read4("logits"), write("parts", "f32"), update("lanes", "f32")]);

/// The number of words of the statistics of a part.
const WORDS: usize = 4;

/// The number of words of a lane's state between dispatches.
const LANE_WORDS: usize = 7;

/// Rows of logits.
pub(crate) struct Rows<'a> {
    pub(crate) window: &'a Window,
    pub(crate) rows: u32,
    pub(crate) classes: u32,
    pub(crate) inner: u32,
    /// The constant `LOGITS`, and its parameters.
    pub(crate) logits: u32,
    pub(crate) logit_scale: f32,
    pub(crate) softcap: f32,
}

impl Recorder<'_> {
    /// Computes the softmax statistics of all parts of rows.
    pub(crate) fn row_parts(&mut self, op: &'static str, plan: RowPlan, rows: &Rows<'_>) -> Result<Window> {
        let count = rows.rows as usize;
        let parts = self.output::<f32>(op, [count, plan.parts() as usize, WORDS])?;
        let to = self.whole(&parts);
        let dispatches = plan.dispatches(op, self.gpu().caps(), (rows.rows, rows.classes), plan.softmax_sweep())?;
        let lanes = self.lanes(op, plan, count, LANE_WORDS, dispatches.len() > 1)?;
        for (blocks, work) in dispatches {
            let launch = Launch::new(op, &KERNEL)
                .rows(&plan, [rows.rows, rows.classes, rows.inner], &blocks)
                .constant("LOGITS", rows.logits)
                .bind("logits", rows.window.clone())
                .bind("parts", to.clone())
                .bind("lanes", lanes.clone());
            self.launch(launch, &Params { logit_scale: rows.logit_scale, softcap: rows.softcap }, work)?;
        }
        Ok(to)
    }

    /// Allocates scratch for the state of lanes between dispatches, `words` per lane. Returns
    /// `None` unless it is needed.
    pub(crate) fn lanes(
        &mut self,
        op: &'static str,
        plan: RowPlan,
        rows: usize,
        words: usize,
        needed: bool,
    ) -> Result<Option<Window>> {
        if !needed {
            return Ok(None);
        }
        let lanes: Tensor<u32> = self.output(op, [rows, plan.lanes(), words])?;
        Ok(Some(self.whole(&lanes)))
    }
}
