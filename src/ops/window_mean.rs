//! Sums of gradients over the denominators of their passes.

use crate::error::Result;
use crate::kernel::{Kernel, Variant, params, read, read4, update4, wgsl};
use crate::plan::{BLOCK, Cut, Work, turns};
use crate::recorder::Recorder;
use crate::tensor::Tensor;

params! {
    struct Params {
        count: u32,
        /// Elements that a workgroup divides.
        block: u32,
    }
}

pub(super) const KERNEL: Kernel = Kernel {
    label: "xent.window_mean",
    source: wgsl!["lib/grid", "lib/numerics", "lib/turns", "lib/sum", "window_mean"],
    bindings: &[read4("values"), update4("total"), read("sums", "f32")],
    params: Params::FIELDS,
    constants: &["WORKGROUP", "QUADS", "ADDED"],
};

impl Recorder<'_> {
    /// Divides `total` by the denominator in `sums`; or adds `values` over it to `total`.
    pub(crate) fn window_mean(
        &mut self,
        values: Option<&Tensor<f32>>,
        total: &Tensor<f32>,
        sums: &Tensor<f32>,
    ) -> Result<()> {
        let op = "window_mean";
        let per_element: Vec<_> = values.into_iter().chain([total]).map(|tensor| tensor.per_row(1)).collect();
        for range in Cut::by_blocks(op, total.count(op)?, &per_element).ranges(self.gpu().caps())? {
            let (first, len) = (range.start.into(), u64::from(range.end - range.start));
            let from = values.map(|values| self.window(values, first, len));
            let (to, sums) = (self.window(total, first, len), self.whole(sums));
            let params = Params {
                count: range.end - range.start,
                block: BLOCK,
            };
            let [workgroup, quads] = turns(self.gpu().caps());
            let constants = [workgroup, quads, u32::from(values.is_some())];
            let variant = Variant { vec4: true, ..Variant::new(&constants) };
            let work = Work::by_blocks(self.gpu().caps(), len.div_ceil(BLOCK.into()));
            self.dispatch(&KERNEL, variant, &params, &[from.as_ref(), Some(&to), Some(&sums)], work)?;
        }
        Ok(())
    }
}
