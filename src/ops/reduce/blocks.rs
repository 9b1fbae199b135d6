//! Sums in a fixed order: of values into partial results, of partial results into one, and of the
//! last partial results into a loss.

use crate::engine::kernel::{Kernel, kernel, params, read, write};
use crate::error::Result;
use crate::ops::loss::Reduction;
use crate::plan::{BLOCK, loss_block, sum_block};
use crate::record::{BlockLaunch, Recorder};
use crate::tensor::{Check, Element, Shape, Tensor};

params! {
    struct Params {
        /// The divisor of the loss if there is no denominator.
        divisor: f32,
    }
}

pub(crate) static SUMS: Kernel = kernel!(
    "reduce",
    Params::FIELDS,
    &[read("input", "u32"), read("denominator", "u32"), write("partials", "u32"), write("loss", "f32")]
);

pub(crate) static COUNTS: Kernel = kernel!("reduce_counts", &[], &[read("input", "u32"), write("partials", "u32")]);

/// The input of a sum.
#[derive(Clone, Copy, Debug)]
enum Input {
    Values,
    /// Partial results with this many sums each.
    Partials(u32),
}

/// The divisor of a reduced loss.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Divisor<'a> {
    One,
    /// The number of elements.
    Count(u32),
    /// A sum, as a partial result.
    Sum(&'a Tensor<u32>),
}

impl<'a> Divisor<'a> {
    pub(crate) fn of(reduction: Reduction, mean: Self) -> Self {
        match reduction {
            Reduction::Mean | Reduction::MeanByCount => mean,
            Reduction::Sum | Reduction::None => Self::One,
        }
    }
}

/// The number of words of a partial result with one sum.
pub(crate) const WORDS: u32 = words(1);

/// The number of words of a partial result: its sums, and the first position of bad data.
pub(crate) const fn words(sums: u32) -> u32 {
    2 * sums + 1
}

/// A tensor for the partial results of `count` values: one per block, each with `sums` sums.
pub(crate) fn partials(
    rec: &mut Recorder<'_>,
    op: &'static str,
    (count, block): (u32, u32),
    sums: u32,
) -> Result<Tensor<u32>> {
    rec.output(op, [count.div_ceil(block) as usize, words(sums) as usize])
}

/// A tensor for the partial results of an elementwise loss: one per block of [`loss_block`].
pub(crate) fn loss_partials(rec: &mut Recorder<'_>, op: &'static str, count: u32) -> Result<Tensor<u32>> {
    let block = loss_block(rec.gpu().caps(), count);
    partials(rec, op, (count, block), 1)
}

impl Recorder<'_> {
    /// Sums values by blocks until one partial result is left; none if there are no values.
    pub(crate) fn sum_of_values(&mut self, op: &'static str, values: &Tensor<f32>) -> Result<Tensor<u32>> {
        let partials = self.sum_blocks(op, values, Input::Values, None)?;
        self.sum_of_partials(op, partials, 1)
    }

    /// Combines partial results by blocks until one is left; none if there were none.
    pub(crate) fn sum_of_partials(
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

    /// Computes the scalar loss of values.
    pub(crate) fn loss_of_values(
        &mut self,
        op: &'static str,
        values: &Tensor<f32>,
        divisor: Divisor<'_>,
    ) -> Result<Tensor<f32>> {
        let count = values.count(op)?;
        if count > sum_block(count) {
            let partials = self.sum_blocks(op, values, Input::Values, None)?;
            return Ok(self.loss_of_partials(op, partials, divisor)?.0);
        }
        let loss = self.output(op, Shape::default())?;
        self.sum_blocks(op, values, Input::Values, Some((&loss, divisor)))?;
        Ok(loss)
    }

    /// Sums unreduced losses.
    pub(crate) fn total_of(&mut self, losses: &Tensor<f32>) -> Result<Tensor<f32>> {
        self.loss_of_values("sum", losses, Divisor::One)
    }

    /// Computes the scalar loss of partial results. Also returns the last partial result.
    pub(crate) fn loss_of_partials(
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

    /// Sums values or partial results by blocks. For a `loss`, the input is a single block, or
    /// empty.
    fn sum_blocks<T: Element>(
        &mut self,
        op: &'static str,
        input: &Tensor<T>,
        kind: Input,
        loss: Option<(&Tensor<f32>, Divisor<'_>)>,
    ) -> Result<Tensor<u32>> {
        let (words, sums, inputs, block) = match kind {
            Input::Values => (1, 1, 0, sum_block(input.count(op)?)),
            // The smallest binding holds that many partial results.
            Input::Partials(sums) => (words(sums), sums, sums, if sums == 1 { BLOCK } else { BLOCK / 2 }),
        };
        let all = input.count(op)? / words;
        let partials = partials(self, op, (all, block), sums)?;
        let (divisor, denominator) = match loss.map(|(_, divisor)| divisor) {
            None | Some(Divisor::One) => (1.0, None),
            Some(Divisor::Count(count)) => (as_f32(count), None),
            Some(Divisor::Sum(partial)) => (1.0, Some(partial)),
        };
        let loss = loss.map(|(loss, _)| loss);
        let of_nothing = denominator.is_some_and(Tensor::is_empty);
        let denominator = denominator.filter(|_| !of_nothing);
        let blocks = BlockLaunch::new(op, &SUMS, all)
            .block_size(block)
            .constant("INPUTS", inputs)
            .constant("SUMS", sums)
            .constant("DENOMINATOR", denominator.is_some())
            .per_element_n("input", input, words)
            .whole("denominator", denominator)
            .per_block("partials", &partials, self::words(sums))
            .whole("loss", loss);
        let blocks = if loss.is_some() { blocks.at_least_once() } else { blocks };
        blocks.run(self, &Params { divisor: if of_nothing { 0.0 } else { divisor } })?;
        Ok(partials)
    }

    /// Sums pairs of counts by blocks until one pair is left; none if there was none.
    pub(crate) fn sum_of_counts(&mut self, op: &'static str, mut counts: Tensor<u32>) -> Result<Tensor<u32>> {
        while counts.len() > 2 {
            let pairs_of_counts = counts.count(op)? / 2;
            let sums: Tensor<u32> = self.output(op, [pairs_of_counts.div_ceil(BLOCK) as usize, 2])?;
            BlockLaunch::new(op, &COUNTS, pairs_of_counts)
                .per_element_n("input", &counts, 2)
                .per_block("partials", &sums, 2)
                .run(self, &())?;
            counts = sums;
        }
        Ok(counts)
    }
}

/// A check of the first position of bad data in a partial result with one sum.
pub(crate) fn check_of(op: &'static str, what: &'static str, total: &Tensor<u32>) -> Option<Check> {
    let check = || Check { op, what, storage: total.storage().clone(), offset: total.bytes().end - 4 };
    (!total.is_empty()).then(check)
}

/// Converts a count to the `f32` of kernels, rounded to nearest.
#[expect(clippy::cast_precision_loss, reason = "rounding is intended")]
pub(crate) fn as_f32(count: u32) -> f32 {
    count as f32
}
