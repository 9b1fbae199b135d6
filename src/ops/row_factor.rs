//! What the gradients of rows are multiplied with.

use crate::error::Result;
use crate::kernel::{Kernel, Variant, params, read, wgsl, write};
use crate::plan::BLOCK;
use crate::recorder::Recorder;
use crate::tensor::Tensor;

use super::map::elementwise;
use super::reduce::{Divisor, as_f32};

params! {
    struct Params {
        count: u32,
        block: u32,
        upstream_base: u32,
        denominator_base: u32,
        factor_base: u32,
        divisor: f32,
    }
}

pub(super) const KERNEL: Kernel = Kernel {
    label: "xent.row_factor",
    source: wgsl!["lib/grid", "lib/numerics", "row_factor"],
    bindings: &[read("upstream", "f32"), read("denominator", "u32"), write("factor", "f32")],
    params: Params::FIELDS,
    constants: &["WORKGROUP", "DENOMINATOR"],
};

impl Recorder<'_> {
    /// The upstream gradient (a scalar, or one for each loss) over the mean's divisor.
    pub(super) fn row_factor(
        &mut self,
        op: &'static str,
        upstream: Tensor<f32>,
        divisor: Divisor<'_>,
    ) -> Result<Tensor<f32>> {
        let (count, denominator) = match divisor {
            // Nothing to divide by, or no row to divide for.
            Divisor::One => return Ok(upstream),
            Divisor::Sum(pair) if pair.is_empty() => return Ok(upstream),
            Divisor::Count(count) => (as_f32(count), None),
            Divisor::Sum(pair) => (1.0, Some(self.whole(pair))),
        };
        let factor = self.output(op, upstream.shape().clone())?;
        for range in elementwise(op, upstream.count()).ranges(self.gpu().caps())? {
            let (first, len) = (range.start.into(), u64::from(range.end - range.start));
            let (from, to) = (self.window(&upstream, first, len), self.window(&factor, first, len));
            let params = Params {
                count: range.end - range.start,
                block: BLOCK,
                upstream_base: from.base,
                denominator_base: denominator.as_ref().map_or(0, |w| w.base),
                factor_base: to.base,
                divisor: count,
            };
            let constants = [self.gpu().caps().workgroup_size(), u32::from(denominator.is_some())];
            let slots = [Some(&from), denominator.as_ref(), Some(&to)];
            self.dispatch(&KERNEL, Variant::new(&constants), &params, &slots, len.div_ceil(BLOCK.into()))?;
        }
        Ok(factor)
    }
}
