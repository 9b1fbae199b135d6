//! Learning rates that depend on which updates were skipped.

use crate::engine::kernel::{Kernel, kernel, params, read, update};
use crate::error::Result;
use crate::plan::Work;
use crate::record::{Launch, Recorder};
use crate::tensor::Tensor;

params! {
    struct Params {
        /// Updates before this one, skipped ones included.
        updates: u32,
        /// Of powers: updates between two of them.
        every: u32,
        /// Of a cosine.
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

/// What the table is of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ScheduleKind {
    Step { every: u32 },
    Cosine { warm_up: u32, steps: u32, floor: f32 },
}

/// An update whose rates are to be found.
#[derive(Debug)]
pub(crate) struct ScheduleStep<'a> {
    pub(crate) kind: ScheduleKind,
    /// Updates before this one, skipped ones included.
    pub(crate) updates: u32,
    /// Whether this one is skipped.
    pub(crate) skipped: &'a Tensor<u32>,
    /// How many were.
    pub(crate) skips: &'a Tensor<u32>,
    pub(crate) table: &'a Tensor<f32>,
    /// The two factors of the gradients; after them comes that of the learning rates, or -1 as long as the host knows it.
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
