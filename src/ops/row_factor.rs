//! What the gradients of rows are multiplied with.

use crate::error::Result;
use crate::kernel::{Kernel, Variant, read, wgsl, write};
use crate::plan::Work;
use crate::recorder::Recorder;
use crate::tensor::Tensor;

pub(super) const KERNEL: Kernel = Kernel {
    label: "xent.row_factor",
    source: wgsl!["lib/grid", "lib/numerics", "lib/wide", "row_factor"],
    bindings: &[read("upstream", "f32"), read("denominator", "u32"), write("factor", "f32")],
    params: &[],
    constants: &["WORKGROUP"],
};

impl Recorder<'_> {
    /// An upstream gradient, which is a scalar as a mean is, over a sum, which is a partial result: two factors, whose product it is.
    pub(super) fn row_factor(
        &mut self,
        op: &'static str,
        upstream: &Tensor<f32>,
        denominator: &Tensor<u32>,
    ) -> Result<Tensor<f32>> {
        let factor = self.output(op, [2])?;
        // There is no row to divide for.
        if denominator.is_empty() {
            return Ok(factor);
        }
        let (from, denominator, to) = (self.whole(upstream), self.whole(denominator), self.whole(&factor));
        let variant = Variant::new(&[self.gpu().caps().workgroup_size()]);
        self.dispatch(&KERNEL, variant, &(), &[Some(&from), Some(&denominator), Some(&to)], Work::new(1, 0))?;
        Ok(factor)
    }
}
