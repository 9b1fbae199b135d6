//! What the gradients of rows are multiplied with.

use crate::error::Result;
use crate::kernel::{Kernel, Variant, params, read, wgsl, write};
use crate::plan::{BLOCK, Cut, Work};
use crate::recorder::Recorder;
use crate::tensor::Tensor;

params! {
    struct Params {
        count: u32,
        block: u32,
        upstream_base: u32,
        denominator_base: u32,
        factor_base: u32,
    }
}

pub(super) const KERNEL: Kernel = Kernel {
    label: "xent.row_factor",
    source: wgsl!["lib/grid", "lib/numerics", "row_factor"],
    bindings: &[read("upstream", "f32"), read("denominator", "u32"), write("factor", "f32")],
    params: Params::FIELDS,
    constants: &["WORKGROUP"],
};

impl Recorder<'_> {
    /// The upstream gradient (a scalar, or one for each loss) over a sum, which is a partial result.
    pub(super) fn row_factor(
        &mut self,
        op: &'static str,
        upstream: Tensor<f32>,
        denominator: &Tensor<u32>,
    ) -> Result<Tensor<f32>> {
        // There is no row to divide for.
        if denominator.is_empty() {
            return Ok(upstream);
        }
        let denominator = self.whole(denominator);
        let factor = self.output(op, upstream.shape().clone())?;
        for range in Cut::by_blocks(op, upstream.count(op)?, &[upstream.per_row(1)]).ranges(self.gpu().caps())? {
            let (first, len) = (range.start.into(), u64::from(range.end - range.start));
            let (from, to) = (self.window(&upstream, first, len), self.window(&factor, first, len));
            let params = Params {
                count: range.end - range.start,
                block: BLOCK,
                upstream_base: from.base,
                denominator_base: denominator.base,
                factor_base: to.base,
            };
            let variant = Variant::new(&[self.gpu().caps().workgroup_size()]);
            let slots = [Some(&from), Some(&denominator), Some(&to)];
            let work = Work::by_blocks(self.gpu().caps(), len.div_ceil(BLOCK.into()));
            self.dispatch(&KERNEL, variant, &params, &slots, work)?;
        }
        Ok(factor)
    }
}
