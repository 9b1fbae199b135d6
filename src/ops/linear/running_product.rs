//! A product whose summands arrive a few at a time, such as a weight's gradient: it sums over all
//! tokens, but the logits of only some tokens are in memory at a time.

use std::ops::Range;

use crate::error::Result;
use crate::record::Recorder;
use crate::tensor::{Real, Tensor};

use crate::ops::product::matmul::Zeros;
use crate::ops::product::sum_parts::SumOfParts;
use crate::plan::product::Layout;
use crate::plan::summands::{Order, Summands};

/// A product in progress. The order of additions depends on the number of all summands, not on how
/// many arrive at a time.
pub(crate) struct RunningProduct {
    layout: Layout,
    zeros: Zeros,
    out: Tensor<f32>,
    order: Order,
    /// The sum of the current section; `None` if there is only one section, which is summed in
    /// `out`.
    section: Option<Tensor<f32>>,
    sections: SumOfParts,
    /// The sums of an unfinished run.
    runs: Option<Tensor<f32>>,
}

impl RunningProduct {
    pub(crate) fn new(
        rec: &mut Recorder<'_>,
        op: &'static str,
        (layout, zeros): (Layout, Zeros),
        order: Order,
        out: &Tensor<f32>,
    ) -> Result<Self> {
        let several = order.sections() > 1 && !out.is_empty();
        let section = several.then(|| rec.output(op, out.shape().clone())).transpose()?;
        let sections = SumOfParts::new(&out.reshape([out.len()])?, order.sections(), 1);
        Ok(Self { layout, zeros, out: out.clone(), order, section, sections, runs: None })
    }

    /// Adds the products of factors whose summands have the indices `counted` in the whole sum.
    /// Summands arrive in order.
    pub(crate) fn add(
        &mut self,
        rec: &mut Recorder<'_>,
        factors: [&Tensor<Real>; 2],
        counted: Range<u32>,
    ) -> Result<()> {
        let Order { all, run, section } = self.order;
        let mut start = counted.start;
        loop {
            let index = start / section;
            let first = index * section;
            let last = all.min(first.saturating_add(section));
            let end = counted.end.min(last);
            let summands = Summands { before: start - first, all: last - first, run };
            let to = self.section.as_ref().unwrap_or(&self.out).clone();
            let k = start - counted.start..end - counted.start;
            rec.matmul_summands((self.layout, self.zeros), factors, (k, summands), (&to, &mut self.runs))?;
            if let Some(sum) = self.section.as_ref().filter(|_| end == last) {
                rec.sum_parts(&mut self.sections, &sum.reshape([sum.len()])?, index..index + 1)?;
            }
            start = end;
            if start >= counted.end {
                return Ok(());
            }
        }
    }
}
