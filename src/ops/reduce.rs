//! Sums in a fixed order: values into partial results, those into one, and the last of them into a loss.

use crate::error::Result;
use crate::kernel::{Kernel, Variant, params, read, wgsl, write};
use crate::options::Reduction;
use crate::plan::{BLOCK, Cut, Work};
use crate::recorder::{Recorder, Window};
use crate::tensor::{Check, Element, Shape, Tensor};

params! {
    struct Params {
        /// Values or partial results of this dispatch.
        count: u32,
        /// Those of a block: what a workgroup combines.
        block: u32,
        /// What the loss is divided by if there is no denominator.
        divisor: f32,
    }
}

pub(super) const SUMS: Kernel = Kernel {
    label: "xent.reduce",
    source: wgsl!["lib/grid", "lib/numerics", "lib/lanes", "lib/sum", "lib/sum_across", "lib/partials", "reduce"],
    bindings: &[read("input", "u32"), read("denominator", "u32"), write("partials", "u32"), write("loss", "f32")],
    params: Params::FIELDS,
    constants: &["WORKGROUP", "SUBGROUP", "INPUTS", "SUMS", "DENOMINATOR"],
};

params! {
    struct CountsParams {
        /// Pairs of this dispatch.
        count: u32,
        /// Pairs of a block: what a workgroup sums.
        block: u32,
    }
}

pub(super) const COUNTS: Kernel = Kernel {
    label: "xent.reduce_counts",
    source: wgsl!["lib/grid", "lib/lanes", "lib/counts", "reduce_counts"],
    bindings: &[read("input", "u32"), write("partials", "u32")],
    params: CountsParams::FIELDS,
    constants: &["WORKGROUP", "SUBGROUP"],
};

/// What is summed.
#[derive(Clone, Copy, Debug)]
enum Input {
    Values,
    /// With so many sums each.
    Partials(u32),
}

/// What a reduced loss is divided by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Divisor<'a> {
    One,
    /// The number of elements.
    Count(u32),
    /// A sum, as its partial result.
    Sum(&'a Tensor<u32>),
}

impl<'a> Divisor<'a> {
    pub(super) fn of(reduction: Reduction, mean: Self) -> Self {
        match reduction {
            Reduction::Mean | Reduction::MeanByCount => mean,
            Reduction::Sum | Reduction::None => Self::One,
        }
    }
}

/// Words of a partial result with one sum.
pub(super) const WORDS: u32 = words(1);

/// Words of a partial result: those of its sums, and the first bad position.
pub(super) const fn words(sums: u32) -> u32 {
    2 * sums + 1
}

/// Partial results that a workgroup combines: as many as the smallest binding holds.
const fn block_of_partials(sums: u32) -> u32 {
    if sums == 1 { BLOCK } else { BLOCK / 2 }
}

/// Room for a partial result with so many sums for each block of `count` values.
pub(super) fn partials(rec: &mut Recorder<'_>, op: &'static str, count: u32, sums: u32) -> Result<Tensor<u32>> {
    rec.output(op, [count.div_ceil(BLOCK) as usize, words(sums) as usize])
}

/// The partial results of a dispatch whose first block is that of element `first`.
pub(super) fn partials_of(rec: &Recorder<'_>, partials: &Tensor<u32>, first: u32, groups: u64, sums: u32) -> Window {
    let words = u64::from(words(sums));
    rec.window(partials, u64::from(first / BLOCK) * words, groups * words)
}

impl Recorder<'_> {
    /// Sums values by blocks until one partial result is left, or none if there was no value.
    pub(super) fn sum_of_values(&mut self, op: &'static str, values: &Tensor<f32>) -> Result<Tensor<u32>> {
        let partials = self.sum_blocks(op, values, Input::Values, None)?;
        self.sum_of_partials(op, partials, 1)
    }

    /// Combines partial results by blocks until one is left, or none if there was none.
    pub(super) fn sum_of_partials(
        &mut self,
        op: &'static str,
        mut partials: Tensor<u32>,
        sums: u32,
    ) -> Result<Tensor<u32>> {
        while partials.len() > words(sums) as usize {
            partials = self.sum_blocks(op, &partials, Input::Partials(sums), None)?;
        }
        Ok(partials)
    }

    /// The scalar loss of values.
    pub(super) fn loss_of_values(
        &mut self,
        op: &'static str,
        values: &Tensor<f32>,
        divisor: Divisor<'_>,
    ) -> Result<Tensor<f32>> {
        if values.len() > BLOCK as usize {
            let partials = self.sum_blocks(op, values, Input::Values, None)?;
            return Ok(self.loss_of_partials(op, partials, divisor)?.0);
        }
        let loss = self.output(op, Shape::default())?;
        self.sum_blocks(op, values, Input::Values, Some((&loss, divisor)))?;
        Ok(loss)
    }

    /// The sum of losses that are not reduced.
    pub(crate) fn total_of(&mut self, losses: &Tensor<f32>) -> Result<Tensor<f32>> {
        self.loss_of_values("sum", losses, Divisor::One)
    }

    /// The scalar loss of partial results, and the last of them.
    pub(super) fn loss_of_partials(
        &mut self,
        op: &'static str,
        mut partials: Tensor<u32>,
        divisor: Divisor<'_>,
    ) -> Result<(Tensor<f32>, Tensor<u32>)> {
        while partials.len() > (WORDS * BLOCK) as usize {
            partials = self.sum_blocks(op, &partials, Input::Partials(1), None)?;
        }
        let loss = self.output(op, Shape::default())?;
        let total = self.sum_blocks(op, &partials, Input::Partials(1), Some((&loss, divisor)))?;
        Ok((loss, total))
    }

    /// Sums values or partial results by blocks. A loss is made of a single block, or of nothing.
    fn sum_blocks<T: Element>(
        &mut self,
        op: &'static str,
        input: &Tensor<T>,
        kind: Input,
        loss: Option<(&Tensor<f32>, Divisor<'_>)>,
    ) -> Result<Tensor<u32>> {
        let (words, sums, inputs, block) = match kind {
            Input::Values => (1, 1, 0, BLOCK),
            Input::Partials(sums) => (words(sums), sums, sums, block_of_partials(sums)),
        };
        let all = input.count(op)? / words;
        let words_of_sums = u64::from(self::words(sums));
        let partials: Tensor<u32> = self.output(op, [all.div_ceil(block) as usize, self::words(sums) as usize])?;
        let (divisor, denominator) = match loss.map(|(_, divisor)| divisor) {
            None | Some(Divisor::One) => (1.0, None),
            Some(Divisor::Count(count)) => (as_f32(count), None),
            Some(Divisor::Sum(pair)) => (1.0, Some(pair)),
        };
        let loss = loss.map(|(loss, _)| self.whole(loss));
        let of_nothing = denominator.is_some_and(Tensor::is_empty);
        let denominator = denominator.filter(|_| !of_nothing).map(|pair| self.whole(pair));
        let per_row = [input.per_row(words.into())];
        let cut = Cut { granule: block, ..Cut::by_blocks(op, all, &per_row) };
        let mut ranges = cut.ranges(self.gpu().caps())?;
        if ranges.is_empty() && loss.is_some() {
            ranges.push(0..0);
        }
        for range in ranges {
            let count = range.end - range.start;
            let (first, groups) = (u64::from(range.start), u64::from(count.div_ceil(block)));
            let from = (count > 0).then(|| self.window(input, first * u64::from(words), (count * words).into()));
            let first = first / u64::from(block) * words_of_sums;
            let to = (count > 0).then(|| self.window(&partials, first, groups * words_of_sums));
            let params = Params {
                count,
                block,
                divisor: if of_nothing { 0.0 } else { divisor },
            };
            let [workgroup, subgroup] = self.gpu().caps().threads();
            let constants = [workgroup, subgroup, inputs, sums, u32::from(denominator.is_some())];
            let slots = [from.as_ref(), denominator.as_ref(), to.as_ref(), loss.as_ref()];
            let work = Work::by_blocks(self.gpu().caps(), groups.max(1));
            self.dispatch(&SUMS, Variant::new(&constants), &params, &slots, work)?;
        }
        Ok(partials)
    }

    /// Sums pairs of counts by blocks until one is left, or none if there was none.
    pub(super) fn sum_of_counts(&mut self, op: &'static str, mut counts: Tensor<u32>) -> Result<Tensor<u32>> {
        while counts.len() > 2 {
            let pairs_of_counts = counts.count(op)? / 2;
            let sums: Tensor<u32> = self.output(op, [pairs_of_counts.div_ceil(BLOCK) as usize, 2])?;
            for range in Cut::by_blocks(op, pairs_of_counts, &[counts.per_row(2)]).ranges(self.gpu().caps())? {
                let count = range.end - range.start;
                let groups = u64::from(count.div_ceil(BLOCK));
                let from = self.window(&counts, u64::from(range.start) * 2, u64::from(count) * 2);
                let to = self.window(&sums, u64::from(range.start / BLOCK) * 2, groups * 2);
                let params = CountsParams { count, block: BLOCK };
                let variant = Variant::new(&self.gpu().caps().threads());
                let work = Work::by_blocks(self.gpu().caps(), groups);
                self.dispatch(&COUNTS, variant, &params, &[Some(&from), Some(&to)], work)?;
            }
            counts = sums;
        }
        Ok(counts)
    }
}

/// The check of a partial result with one sum, by its first bad position.
pub(super) fn check_of(op: &'static str, what: &'static str, total: &Tensor<u32>) -> Option<Check> {
    let check = || Check { op, what, storage: total.storage().clone(), offset: total.bytes().end - 4 };
    (!total.is_empty()).then(check)
}

/// A count as a kernel's float, rounded to nearest.
#[expect(clippy::cast_precision_loss, reason = "rounding is meant")]
pub(super) fn as_f32(count: u32) -> f32 {
    count as f32
}
