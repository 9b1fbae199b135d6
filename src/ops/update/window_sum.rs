//! Sums of the losses and denominators of the passes of an update.

use crate::engine::kernel::{Kernel, kernel, params, read, update, write};
use crate::error::Result;
use crate::plan::Work;
use crate::record::{Launch, Recorder};
use crate::tensor::{Shape, Tensor, expect_shape};

use crate::ops::loss::Denominator;

params! {
    struct Params {
        /// The denominator of the pass, unless it is a tensor.
        count: u32,
        /// 1: this is the first pass.
        first: u32,
    }
}

pub(crate) static KERNEL: Kernel = kernel!(
    "window_sum",
    Params::FIELDS,
    &[read("loss", "f32"), read("denominator", "f32"), update("sums", "f32"), write("means", "f32")]
);

impl Recorder<'_> {
    /// Checks that a caller's denominator is a scalar of this device.
    pub(crate) fn check_denominator(&self, op: &'static str, denominator: &Denominator) -> Result<()> {
        let Denominator::Scalar(scalar) = denominator else { return Ok(()) };
        self.check_device(op, "the denominator", scalar)?;
        expect_shape(op, "the denominator", scalar.shape(), &Shape::default())
    }

    /// Adds the loss and the denominator of a pass to `sums` (two compensated sums, `[4]`), which
    /// the first pass overwrites. Returns `[2]`: the loss of the pass and of all passes so far,
    /// divided by the denominators if there are any.
    pub(crate) fn window_sum(
        &mut self,
        loss: Option<&Tensor<f32>>,
        denominator: Option<&Denominator>,
        sums: &Tensor<f32>,
        first: bool,
    ) -> Result<Tensor<f32>> {
        let means = self.output("window_sum", [2])?;
        let (kind, count, scalar) = match denominator {
            None => (0u32, 0, None),
            Some(Denominator::Count(count)) => (1, *count, None),
            Some(Denominator::Scalar(scalar)) => (2, 0, Some(self.whole(scalar))),
        };
        let launch = Launch::new("window_sum", &KERNEL)
            .constant("DENOMINATOR", kind)
            .bind("loss", loss.map(|loss| self.whole(loss)))
            .bind("denominator", scalar)
            .bind("sums", self.whole(sums))
            .bind("means", self.whole(&means));
        self.launch(launch, &Params { count, first: u32::from(first) }, Work::new(1, 0))?;
        Ok(means)
    }
}
