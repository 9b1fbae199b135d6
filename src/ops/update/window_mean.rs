//! Divides sums of gradients by the denominators of their passes.

use crate::engine::kernel::{Kernel, kernel, read, read4, update4};
use crate::error::Result;
use crate::record::{BlockLaunch, Recorder};
use crate::tensor::Tensor;

pub(crate) static KERNEL: Kernel =
    kernel!("window_mean", &[], &[read4("values"), update4("total"), read("sums", "f32")]);

impl Recorder<'_> {
    /// Divides `total` by the denominator in `sums`; or adds `values`, divided by it, to `total`.
    pub(crate) fn window_mean(
        &mut self,
        values: Option<&Tensor<f32>>,
        total: &Tensor<f32>,
        sums: &Tensor<f32>,
    ) -> Result<()> {
        let op = "window_mean";
        BlockLaunch::new(op, &KERNEL, total.count(op)?)
            .constant("ADDED", values.is_some())
            .per_element("values", values)
            .per_element("total", total)
            .whole("sums", sums)
            .run(self, &())
    }
}
