//! The losses and denominators of the passes of an update, added up.

use crate::error::Result;
use crate::kernel::{Kernel, Variant, params, read, update, wgsl, write};
use crate::plan::Work;
use crate::recorder::{Recorder, Window};
use crate::tensor::Tensor;

use super::{Denominator, shape_error};

params! {
    struct Params {
        /// The pass's denominator, if there is no tensor with it.
        count: u32,
        /// 1: there are no passes before it.
        first: u32,
    }
}

pub(super) const KERNEL: Kernel = Kernel {
    label: "xent.window_sum",
    source: wgsl!["lib/grid", "lib/numerics", "lib/sum", "window_sum"],
    bindings: &[read("loss", "f32"), read("denominator", "f32"), update("sums", "f32"), write("means", "f32")],
    params: Params::FIELDS,
    constants: &["WORKGROUP", "DENOMINATOR"],
};

impl Recorder<'_> {
    /// Checks that a caller's denominator is a scalar of this device.
    pub(crate) fn check_denominator(&self, op: &'static str, denominator: &Denominator) -> Result<()> {
        let Denominator::Scalar(scalar) = denominator else { return Ok(()) };
        self.own(op, "the denominator", scalar)?;
        match scalar.shape().is_empty() {
            true => Ok(()),
            false => Err(shape_error(op, "the denominator", "shape []", scalar.shape())),
        }
    }

    /// Adds a pass's loss and denominator to `sums`, four numbers, or starts those. Gives the loss of the pass and that of all so far.
    pub(crate) fn window_sum(
        &mut self,
        loss: Option<&Tensor<f32>>,
        denominator: Option<&Denominator>,
        sums: &Tensor<f32>,
        first: bool,
    ) -> Result<Tensor<f32>> {
        let means = self.output("window_sum", [2])?;
        let (kind, count, scalar) = match denominator {
            None => (0, 0, None),
            Some(Denominator::Count(count)) => (1, *count, None),
            Some(Denominator::Scalar(scalar)) => (2, 0, Some(self.whole(scalar))),
        };
        let loss = loss.map(|loss| self.whole(loss));
        let (sums, to) = (self.whole(sums), self.whole(&means));
        let params = Params {
            count,
            first: u32::from(first),
        };
        let variant = Variant::new(&[self.gpu().caps().workgroup_size(), kind]);
        let slots = [loss.as_ref(), scalar.as_ref(), Some(&sums), Some(&to)];
        self.dispatch(&KERNEL, variant, &params, &slots, Work::new(1, 0))?;
        Ok(means)
    }
}
