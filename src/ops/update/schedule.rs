//! Learning rates that depend on the number of skipped updates.

use crate::engine::kernel::{Kernel, kernel, params, read, update};
use crate::error::Result;
use crate::plan::Work;
use crate::record::{Launch, Recorder};
use crate::tensor::Tensor;

params! {
    struct Params {
        /// The number of earlier updates, including skipped ones.
        updates: u32,
        /// For a step schedule: the number of updates after which the exponent grows by 1.
        every: u32,
        /// For a cosine schedule, like `steps` and `floor`.
        warm_up: u32,
        steps: u32,
        floor: f32,
    }
}

pub(crate) static KERNEL: Kernel = kernel!(
    "schedule",
    Params::FIELDS,
    &[read("skipped", "u32"), update("skips", "u32"), read("table", "f32"), update("factor", "f32")]
);

impl Recorder<'_> {
    /// Computes the learning rate of an update. `skipped` is a scalar: 1 if this update is skipped.
    /// `skips` is a scalar: the number of skipped updates. `factor` has the two factors of the
    /// gradients, then the factor of the learning rates: -1 until an update is skipped, because the
    /// host knows it until then.
    pub(crate) fn schedule_step(
        &mut self,
        (cosine, params): (bool, Params),
        [skipped, skips]: [&Tensor<u32>; 2],
        [table, factor]: [&Tensor<f32>; 2],
    ) -> Result<()> {
        let launch = Launch::new("schedule", &KERNEL)
            .constant("COSINE", cosine)
            .bind("skipped", self.whole(skipped))
            .bind("skips", self.whole(skips))
            .bind("table", self.whole(table))
            .bind("factor", self.whole(factor));
        self.launch(launch, &params, Work::new(1, 0))
    }
}
