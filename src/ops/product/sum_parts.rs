//! Sums of tensors of equal size, such as the partial results of a product. Only a few are in
//! memory at a time.

use std::ops::Range;

use crate::engine::kernel::{Kernel, kernel, params, read, update};
use crate::engine::{Caps, WORD_BYTES};
use crate::error::Result;
use crate::plan::{RowSplit, Work, most_turns};
use crate::record::{Launch, Recorder};
use crate::tensor::Tensor;

params! {
    struct Params {
        /// The number of elements of this dispatch, and the distance from one part to the next.
        count: u32,
        stride: u32,
        parts: u32,
        /// 1: earlier dispatches have added earlier parts.
        resumed: u32,
        /// 1: these are the last parts.
        last: u32,
    }
}

pub(crate) static KERNEL: Kernel =
    kernel!("sum_parts", Params::FIELDS, &[read("parts", "f32"), update("sums", "f32"), update("lows", "f32")]);

/// A sum of parts in progress.
pub(crate) struct SumOfParts {
    out: Tensor<f32>,
    parts: u32,
    at_once: u64,
    /// The rounding errors of `out` before the last part.
    lows: Option<Tensor<f32>>,
}

impl SumOfParts {
    /// A sum of `parts` parts; at most `at_once` are in memory at a time.
    pub(crate) fn new(out: &Tensor<f32>, parts: u32, at_once: u64) -> Self {
        Self { out: out.clone(), parts, at_once, lows: None }
    }

    /// The batches of parts to add; each fits a binding and the loop budget.
    pub(crate) fn batches(&self, caps: &Caps) -> impl Iterator<Item = Range<u32>> + use<> {
        let by_binding = caps.usable_binding() / (self.out.len() as u64 * WORD_BYTES).max(1);
        let at_once = self.at_once.min(by_binding).min(most_turns(caps)).clamp(1, self.parts.into());
        let (parts, at_once) = (self.parts, u32::try_from(at_once).unwrap_or(u32::MAX));
        (0..parts).step_by(at_once as usize).map(move |start| start..parts.min(start.saturating_add(at_once)))
    }
}

impl Recorder<'_> {
    /// Adds the next batch of parts.
    pub(crate) fn sum_parts(&mut self, sum: &mut SumOfParts, parts: &Tensor<f32>, batch: Range<u32>) -> Result<()> {
        let op = "sum_parts";
        let SumOfParts { out, parts: all, .. } = &*sum;
        let (resumed, last, count) = (batch.start > 0, batch.end == *all, out.len());
        if count == 0 {
            return Ok(());
        }
        if sum.lows.is_none() && (resumed || !last) {
            sum.lows = Some(self.output(op, [count])?);
        }
        let SumOfParts { out, lows, .. } = &*sum;
        let workgroup = self.gpu().caps().workgroup_size();
        let single = batch.len() == 1;
        let per_element = [parts.per_row(1), out.per_row(1)];
        // Several parts share one binding, which no range can split.
        let per_row = if single { &per_element[..] } else { &per_element[1..] };
        let split = RowSplit::new(op, out.count(op)?, per_row, workgroup);
        for range in split.ranges(self.gpu().caps())? {
            let (first, len) = (u64::from(range.start), u64::from(range.end - range.start));
            let stride = count as u64;
            let from = self.window(parts, first, stride * (batch.len() as u64 - 1) + len);
            let to = self.window(out, first, len);
            let low = lows.as_ref().map(|lows| self.window(lows, first, len));
            let params = Params {
                count: range.end - range.start,
                stride: out.count(op)?,
                parts: batch.end - batch.start,
                resumed: u32::from(resumed),
                last: u32::from(last),
            };
            let work = Work::new(len.div_ceil(workgroup.into()), (batch.end - batch.start).into());
            let launch = Launch::new(op, &KERNEL).bind("parts", from).bind("sums", to).bind("lows", low);
            self.launch(launch, &params, work)?;
        }
        Ok(())
    }
}
