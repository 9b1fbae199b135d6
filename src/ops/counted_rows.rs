//! The rows of tokens that are not ignored.

use std::ops::Range;

use crate::error::Result;
use crate::kernel::{Kernel, Variant, params, read, wgsl, write};
use crate::plan::{BLOCK, Cut, Work};
use crate::recorder::Recorder;
use crate::tensor::{Real, Tensor, size32};

use super::row_loss::Inputs;
use super::targets::KernelTargets;

params! {
    struct Params {
        /// Elements of this dispatch, and where the first of them lies among those of the tokens.
        count: u32,
        first: u32,
        /// Elements that a workgroup copies.
        block: u32,
        columns: u32,
        /// 0: one weight for all tokens.
        position_weight_stride: u32,
        ignore_index: i32,
    }
}

pub(super) const KERNEL: Kernel = Kernel {
    label: "xent.counted_rows",
    source: wgsl!["lib/grid", "lib/numerics", "counted_rows"],
    bindings: &[read("x", "f32"), read("targets", "i32"), read("position_weight", "f32"), write("y", "f32")],
    params: Params::FIELDS,
    constants: &["WORKGROUP", "TARGETS"],
};

impl Inputs {
    /// Whether tokens can be ignored: by their targets, or by a weight of 0.
    pub(super) fn may_ignore(&self) -> bool {
        matches!(self.targets, KernelTargets::Index(..)) || !self.position_weight.shape().is_empty()
    }
}

impl Recorder<'_> {
    /// The rows `x` of some of a call's tokens, those of ignored tokens as 0. They are copied to the first rows of `to`.
    pub(super) fn counted_rows(
        &mut self,
        op: &'static str,
        (x, inputs, tokens): (&Tensor<Real>, &Inputs, Range<usize>),
        to: &Tensor<f32>,
    ) -> Result<Tensor<Real>> {
        let y = to.rows(0..tokens.len())?;
        let columns = x.shape().get(1).copied().unwrap_or(0);
        // Elements are counted in 32 bits.
        let at_once = ((1 << 31) / columns.max(1)).max(1);
        for start in (0..tokens.len()).step_by(at_once) {
            let some = start..tokens.len().min(start + at_once);
            let (from, to) = (x.rows(some.clone())?, y.rows(some.clone())?);
            self.some_counted_rows(op, &from, inputs, tokens.start + some.start..tokens.start + some.end, &to)?;
        }
        Ok(y.real())
    }

    fn some_counted_rows(
        &mut self,
        op: &'static str,
        x: &Tensor<Real>,
        inputs: &Inputs,
        tokens: Range<usize>,
        y: &Tensor<f32>,
    ) -> Result<()> {
        let (token, count) = (tokens.start as u64, tokens.len() as u64);
        let (targets, ignore_index) = match &inputs.targets {
            KernelTargets::Index(targets, ignored) => (Some(self.window(targets, token, count)), *ignored),
            KernelTargets::Probabilities(_) => (None, 0),
        };
        let weight = &inputs.position_weight;
        let stride = u32::from(!weight.shape().is_empty());
        let position_weight = if stride == 0 { self.whole(weight) } else { self.window(weight, token, count) };
        for range in Cut::by_blocks(op, x.count(op)?, &[x.per_row(1), y.per_row(1)]).ranges(self.gpu().caps())? {
            let (first, len) = (range.start.into(), u64::from(range.end - range.start));
            let (from, to) = (self.window(x, first, len), self.window(y, first, len));
            let params = Params {
                count: range.end - range.start,
                first: range.start,
                block: BLOCK,
                columns: size32(x.shape().get(1).copied().unwrap_or(0)),
                position_weight_stride: stride,
                ignore_index,
            };
            let variant = Variant::new(&[self.gpu().caps().workgroup_size(), u32::from(targets.is_none())]);
            let slots = [Some(&from), targets.as_ref(), Some(&position_weight), Some(&to)];
            let work = Work::by_blocks(self.gpu().caps(), len.div_ceil(BLOCK.into()));
            self.dispatch(&KERNEL, variant, &params, &slots, work)?;
        }
        Ok(())
    }
}
