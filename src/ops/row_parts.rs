//! The softmax statistics of rows that several workgroups share.

use crate::error::Result;
use crate::kernel::{Kernel, Variant, params, read4, wgsl, write};
use crate::plan::RowPlan;
use crate::recorder::{Recorder, Window};

params! {
    struct Params {
        rows: u32,
        classes: u32,
        inner: u32,
        input_base: u32,
        parts_base: u32,
        logit_scale: f32,
        softcap: f32,
    }
}

pub(super) const KERNEL: Kernel = Kernel {
    label: "xent.row_parts",
    source: wgsl!["lib/grid", "lib/numerics", "lib/lanes", "lib/rows", "lib/scaled_logits", "lib/softmax", "row_parts"],
    bindings: &[read4("logits"), write("parts", "f32")],
    params: Params::FIELDS,
    constants: &["WORKGROUP", "SUBGROUP", "LANES", "PARTS", "SPAN", "HELD", "CLASSES", "WHOLE", "LOGITS"],
};

/// Words of a part's statistics.
const WORDS: usize = 4;

/// Rows of logits.
pub(super) struct Rows<'a> {
    pub(super) window: &'a Window,
    pub(super) rows: u32,
    pub(super) classes: u32,
    /// The constant `LOGITS`, and what it goes with.
    pub(super) logits: u32,
    pub(super) logit_scale: f32,
    pub(super) softcap: f32,
}

impl Recorder<'_> {
    /// The statistics of all parts, if the rows have several.
    pub(super) fn row_parts(&mut self, op: &'static str, plan: RowPlan, rows: &Rows<'_>) -> Result<Option<Window>> {
        if plan.parts() == 1 {
            return Ok(None);
        }
        let parts = self.output::<f32>(op, [rows.rows as usize, plan.parts() as usize, WORDS])?;
        let to = self.whole(&parts);
        let params = Params {
            rows: rows.rows,
            classes: rows.classes,
            inner: 1,
            input_base: rows.window.base,
            parts_base: to.base,
            logit_scale: rows.logit_scale,
            softcap: rows.softcap,
        };
        let constants = plan.constants().into_iter().chain([rows.logits]).collect();
        let variant = Variant { constants, vec4: rows.classes.is_multiple_of(4), ..Variant::default() };
        self.dispatch(&KERNEL, variant, &params, &[Some(rows.window), Some(&to)], plan.groups(rows.rows))?;
        Ok(Some(to))
    }
}
