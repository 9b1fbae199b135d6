//! Sums in a fixed order: values into partial results, those into one, and that into a loss.

use crate::error::Result;
use crate::kernel::{Kernel, Variant, params, read, wgsl, write};
use crate::options::Reduction;
use crate::plan::{BLOCK, Cut};
use crate::recorder::Recorder;
use crate::tensor::{Check, Shape, Tensor};

params! {
    struct ValuesParams { count: u32, block: u32, values_base: u32, partials_base: u32 }
}

pub(super) const VALUES: Kernel = Kernel {
    label: "xent.reduce_values",
    source: wgsl!["lib/grid", "lib/numerics", "lib/partials", "reduce_values"],
    bindings: &[read("values", "f32"), write("partials", "u32")],
    params: ValuesParams::FIELDS,
    constants: &["WORKGROUP"],
};

params! {
    struct PartialsParams { count: u32, block: u32, input_base: u32, partials_base: u32 }
}

pub(super) const PARTIALS: Kernel = Kernel {
    label: "xent.reduce_partials",
    source: wgsl!["lib/grid", "lib/numerics", "lib/partials", "reduce_partials"],
    bindings: &[read("input", "u32"), write("partials", "u32")],
    params: PartialsParams::FIELDS,
    constants: &["WORKGROUP"],
};

pub(super) const COUNTS: Kernel = Kernel {
    label: "xent.reduce_counts",
    source: wgsl!["lib/grid", "lib/counts", "reduce_counts"],
    bindings: &[read("input", "u32"), write("partials", "u32")],
    params: PartialsParams::FIELDS,
    constants: &["WORKGROUP"],
};

params! {
    struct FinishParams { total_base: u32, denominator_base: u32, loss_base: u32, count: f32 }
}

pub(super) const FINISH: Kernel = Kernel {
    label: "xent.finish_loss",
    source: wgsl!["lib/grid", "lib/numerics", "finish_loss"],
    bindings: &[read("total", "u32"), read("denominator", "u32"), write("loss", "f32")],
    params: FinishParams::FIELDS,
    constants: &["WORKGROUP", "DIVISOR"],
};

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
            Reduction::Mean => mean,
            Reduction::Sum | Reduction::None => Self::One,
        }
    }
}

/// An array of pairs of words, one for each block of `count` values.
pub(super) fn pairs(rec: &Recorder<'_>, op: &'static str, count: u32) -> Result<Tensor<u32>> {
    rec.output(op, [count.div_ceil(BLOCK) as usize, 2])
}

/// Cuts `count` values, of `bytes` each in their widest binding, at blocks.
pub(super) fn by_blocks<'a>(op: &'static str, count: u32, bytes: &'a [u64]) -> Cut<'a> {
    Cut { op, rows: count, row_bytes: bytes, granule: BLOCK, groups_per_granule: 1 }
}

impl Recorder<'_> {
    /// Sums values by blocks.
    pub(super) fn reduce_values(&mut self, op: &'static str, values: &Tensor<f32>) -> Result<Tensor<u32>> {
        let partials = pairs(self, op, values.count())?;
        for range in by_blocks(op, values.count(), &[4]).ranges(self.gpu().caps())? {
            let count = range.end - range.start;
            let groups = u64::from(count.div_ceil(BLOCK));
            let from = self.window(values, range.start.into(), count.into());
            let to = self.window(&partials, u64::from(range.start / BLOCK) * 2, groups * 2);
            let params = ValuesParams { count, block: BLOCK, values_base: from.base, partials_base: to.base };
            let variant = Variant::new(&[self.gpu().caps().workgroup_size()]);
            self.dispatch(&VALUES, variant, &params, &[Some(&from), Some(&to)], groups)?;
        }
        Ok(partials)
    }

    /// Combines partial results by blocks until one is left, or none if there was none.
    pub(super) fn reduce_partials(&mut self, op: &'static str, partials: Tensor<u32>) -> Result<Tensor<u32>> {
        self.reduce_pairs(op, &PARTIALS, partials)
    }

    /// Combines pairs of words, by blocks, until one is left, or none if there was none.
    pub(super) fn reduce_pairs(
        &mut self,
        op: &'static str,
        kernel: &'static Kernel,
        mut pairs_in: Tensor<u32>,
    ) -> Result<Tensor<u32>> {
        while pairs_in.count() > 2 {
            let pairs_out = pairs(self, op, pairs_in.count() / 2)?;
            for range in by_blocks(op, pairs_in.count() / 2, &[8]).ranges(self.gpu().caps())? {
                let count = range.end - range.start;
                let groups = u64::from(count.div_ceil(BLOCK));
                let from = self.window(&pairs_in, u64::from(range.start) * 2, u64::from(count) * 2);
                let to = self.window(&pairs_out, u64::from(range.start / BLOCK) * 2, groups * 2);
                let params = PartialsParams { count, block: BLOCK, input_base: from.base, partials_base: to.base };
                let variant = Variant::new(&[self.gpu().caps().workgroup_size()]);
                self.dispatch(kernel, variant, &params, &[Some(&from), Some(&to)], groups)?;
            }
            pairs_in = pairs_out;
        }
        Ok(pairs_in)
    }

    /// Turns a sum's partial results into a scalar loss.
    pub(super) fn finish_loss(
        &mut self,
        op: &'static str,
        total: &Tensor<u32>,
        divisor: Divisor<'_>,
    ) -> Result<Tensor<f32>> {
        let loss = self.output(op, Shape::default())?;
        let (kind, count, denominator) = match divisor {
            Divisor::One => (0, 1.0, None),
            Divisor::Count(count) => (1, as_f32(count), None),
            Divisor::Sum(denominator) => (2, 1.0, Some(denominator)),
        };
        let total = (!total.is_empty()).then(|| self.whole(total));
        let denominator = denominator.filter(|pair| !pair.is_empty()).map(|pair| self.whole(pair));
        let to = self.whole(&loss);
        let params = FinishParams {
            total_base: total.as_ref().map_or(0, |w| w.base),
            denominator_base: denominator.as_ref().map_or(0, |w| w.base),
            loss_base: to.base,
            count,
        };
        let variant = Variant::new(&[self.gpu().caps().workgroup_size(), kind]);
        self.dispatch(&FINISH, variant, &params, &[total.as_ref(), denominator.as_ref(), Some(&to)], 1)?;
        Ok(loss)
    }
}

/// The check of a pair of words whose second is the first bad position.
pub(super) fn check_of(op: &'static str, what: &'static str, pair: &Tensor<u32>) -> Option<Check> {
    let check = || Check { op, what, storage: pair.storage().clone(), offset: pair.offset() + 4 };
    (!pair.is_empty()).then(check)
}

/// A count as a kernel's float, rounded to nearest.
#[expect(clippy::cast_precision_loss, reason = "rounding is meant")]
pub(super) fn as_f32(count: u32) -> f32 {
    count as f32
}
