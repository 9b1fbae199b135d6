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

/// The kind of a schedule, and its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ScheduleKind {
    Step { every: u32 },
    Cosine { warm_up: u32, steps: u32, floor: f32 },
}

/// An update whose learning rate is to be computed.
#[derive(Debug)]
pub(crate) struct ScheduleStep<'a> {
    pub(crate) kind: ScheduleKind,
    /// The number of earlier updates, including skipped ones.
    pub(crate) updates: u32,
    /// A scalar: 1 if this update is skipped.
    pub(crate) skipped: &'a Tensor<u32>,
    /// A scalar: the number of skipped updates.
    pub(crate) skips: &'a Tensor<u32>,
    pub(crate) table: &'a Tensor<f32>,
    /// The two factors of the gradients, then the factor of the learning rates: -1 until an update
    /// is skipped, because the host knows it until then.
    pub(crate) factor: &'a Tensor<f32>,
}

impl Recorder<'_> {
    pub(crate) fn schedule_step(&mut self, step: &ScheduleStep<'_>) -> Result<()> {
        let ScheduleStep { kind, updates, skipped, skips, table, factor } = *step;
        let (cosine, every, warm_up, steps, floor) = match kind {
            ScheduleKind::Step { every } => (0u32, every, 0, 0, 0.0),
            ScheduleKind::Cosine { warm_up, steps, floor } => (1, 1, warm_up, steps, floor),
        };
        let params = Params { updates, every, warm_up, steps, floor };
        let launch = Launch::new(&KERNEL)
            .constant("COSINE", cosine)
            .bind("skipped", self.whole(skipped))
            .bind("skips", self.whole(skips))
            .bind("table", self.whole(table))
            .bind("factor", self.whole(factor));
        self.launch(&launch, &params, Work::new(1, 0))
    }
}
