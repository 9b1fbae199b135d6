//! Copies of rows in which the rows of ignored tokens are 0.

use std::ops::Range;

use crate::engine::kernel::{Kernel, kernel, params, read, write};
use crate::error::Result;
use crate::record::{BlockLaunch, Recorder};
use crate::tensor::{Real, Tensor, size32};

use crate::ops::loss::row_loss::Inputs;

params! {
    struct Params {
        columns: u32,
        /// 0: one weight for all tokens; 1: one per token.
        position_weight_stride: u32,
        ignored: i32,
    }
}

pub(crate) static KERNEL: Kernel = kernel!(
    "counted_rows",
    Params::FIELDS,
    &[read("x", "f32"), read("targets", "i32"), read("position_weight", "f32"), write("y", "f32")]
);

impl Inputs {
    /// Whether tokens can be ignored: by their targets, or by a weight of 0.
    pub(crate) fn may_ignore(&self) -> bool {
        self.targets.probabilities().is_none() || !self.position_weight.shape().is_empty()
    }
}

impl Recorder<'_> {
    /// Copies the rows `x` of some tokens to the first rows of `to`, with 0 for ignored tokens, and
    /// returns the copies.
    pub(crate) fn counted_rows(
        &mut self,
        op: &'static str,
        x: &Tensor<Real>,
        inputs: &Inputs,
        tokens: Range<usize>,
        to: &Tensor<f32>,
    ) -> Result<Tensor<Real>> {
        let y = to.rows(0..tokens.len())?;
        let columns = x.shape().get(1).copied().unwrap_or(0);
        let (targets, ignored) = match inputs.targets.probabilities() {
            None => inputs.targets.indices(op).map(|(index, ignored)| (Some(index), ignored))?,
            Some(_) => (None, 0),
        };
        let weight = &inputs.position_weight;
        let one_for_all = weight.shape().is_empty();
        let position_weight_stride = u32::from(!one_for_all);
        let params = Params { columns: size32(columns), position_weight_stride, ignored };
        // Kernels count elements in 32 bits.
        let at_once = ((1 << 31) / columns.max(1)).max(1);
        for start in (0..tokens.len()).step_by(at_once) {
            let some = start..tokens.len().min(start + at_once);
            let (first, len) = (tokens.start + start, some.len());
            let (from, to) = (x.rows(some.clone())?, y.rows(some)?);
            let targets = targets.map(|index| index.part(first, [len].into()));
            let weight = if one_for_all { weight.clone() } else { weight.part(first, [len].into()) };
            BlockLaunch::new(op, &KERNEL, from.count(op)?)
                .constant("TARGETS", targets.is_none())
                .per_element("x", &from)
                .whole("targets", targets.as_ref())
                .whole("position_weight", &weight)
                .per_element("y", &to)
                .run(self, &params)?;
        }
        Ok(y.real())
    }
}
