//! The quotient of an upstream gradient and a sum of weights, for all losses.

use crate::engine::kernel::{Kernel, kernel, read, write};
use crate::error::Result;
use crate::plan::Work;
use crate::record::{Launch, Recorder};
use crate::tensor::Tensor;

pub(crate) static KERNEL: Kernel =
    kernel!("upstream_quotient", &[], &[read("upstream", "f32"), read("denominator", "u32"), write("factor", "f32")]);

impl Recorder<'_> {
    /// Divides a scalar upstream gradient by a sum (a partial result). Returns the quotient as two
    /// factors.
    pub(crate) fn upstream_quotient(
        &mut self,
        op: &'static str,
        upstream: &Tensor<f32>,
        denominator: &Tensor<u32>,
    ) -> Result<Tensor<f32>> {
        let factor = self.output(op, [2])?;
        // The sum is empty only if there are no losses; then nothing reads the factor.
        if denominator.is_empty() {
            return Ok(factor);
        }
        let launch = Launch::new(op, &KERNEL)
            .bind("upstream", self.whole(upstream))
            .bind("denominator", self.whole(denominator))
            .bind("factor", self.whole(&factor));
        self.launch(launch, &(), Work::new(1, 0))?;
        Ok(factor)
    }
}
