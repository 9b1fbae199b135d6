//! Learning-rate schedules, and how a GPU finds a rate that depends on skipped updates.

use std::f64::consts::FRAC_PI_2;

use crate::engine::Gpu;
use crate::error::{Error, Result};
use crate::ops::update::schedule::Params;
use crate::record::Recorder;
use crate::tensor::{Shape, Tensor, narrow};

/// The factor of the learning rates at update `n`, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Schedule {
    /// 1.
    #[default]
    Constant,
    /// `factor` to the power of `n / every`, which is rounded down (PyTorch's `StepLR`).
    Step {
        /// The number of updates between two changes, at least 1.
        every: u64,
        /// The factor of the learning rate at each change.
        factor: f64,
    },
    /// Linear from 0, excluded, to 1 over `warm_up` updates, then half a cosine down to `floor` at
    /// update `steps`.
    Cosine {
        /// The number of updates in the warm-up.
        warm_up: u64,
        /// The number of updates in total.
        steps: u64,
        /// The factor at the end and after it.
        floor: f64,
    },
}

impl Schedule {
    /// The factor at update `n`.
    ///
    /// # Examples
    /// ```
    /// use xent::optim::Schedule;
    /// let schedule = Schedule::Cosine { warm_up: 2, steps: 12, floor: 0.0 };
    /// assert_eq!([0, 1, 2, 12].map(|n| schedule.factor(n)), [0.5, 1.0, 1.0, 0.0]);
    /// assert!((schedule.factor(7) - 0.5).abs() < 1e-15);
    /// ```
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "no training has 2^53 updates")]
    pub fn factor(&self, n: u64) -> f64 {
        match *self {
            Self::Constant => 1.0,
            Self::Step { every, factor } => factor.powf((n / every.max(1)) as f64),
            Self::Cosine { warm_up, .. } if n < warm_up => (n + 1) as f64 / warm_up as f64,
            Self::Cosine { steps, floor, .. } if n >= steps => floor,
            Self::Cosine { warm_up, steps, floor } => {
                // Equals (1 + cos(pi x)) / 2, which would suffer from cancellation towards the end.
                let left = (steps - n) as f64 / (steps - warm_up) as f64;
                floor + (1.0 - floor) * (FRAC_PI_2 * left).sin().powi(2)
            }
        }
    }
}

/// A schedule that skipped updates do not advance: the GPU counts the skipped updates.
///
/// Until an update is skipped, the host knows the factor. After that, the GPU computes it from a
/// table with an entry for every value of each byte of the number of steps: it multiplies powers,
/// or computes the sine of a sum from the sines and cosines of its terms.
#[derive(Debug)]
pub(super) struct GpuSchedule {
    /// Whether it is a cosine schedule, or a step schedule.
    cosine: bool,
    params: Params,
    table: Tensor<f32>,
    /// The number of skipped updates: one word.
    pub(super) skips: Tensor<u32>,
}

impl GpuSchedule {
    /// Returns `None` for a constant schedule. Clamps numbers to `u32`, which changes no factor of
    /// a validated schedule.
    pub(super) fn new(gpu: &Gpu, schedule: Schedule) -> Result<Option<Self>> {
        let clamped = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let bytes = (0..4u32).flat_map(|byte| (0..256u64).map(move |value| value << (8 * byte)));
        let (cosine, params, table): (_, _, Vec<f32>) = match schedule {
            Schedule::Constant => return Ok(None),
            Schedule::Step { every, factor } => {
                let power = |k: u64| narrow(Schedule::Step { every: 1, factor }.factor(k));
                let params = Params { every: clamped(every.max(1)), ..Params::default() };
                (false, params, bytes.map(power).collect())
            }
            Schedule::Cosine { warm_up, steps, floor } => {
                let (warm_up, steps) = (clamped(warm_up), clamped(steps));
                let span = f64::from(steps.saturating_sub(warm_up).max(1));
                // No entry needs more than a right angle.
                let angle = |k: u64| FRAC_PI_2 * (f64::from(clamped(k)) / span).min(1.0);
                // The sine, and 1 - cosine in a form without cancellation.
                let entry = |x: f64| [narrow(x.sin()), narrow(2.0 * (x / 2.0).sin().powi(2))];
                let params = Params { updates: 0, every: 1, warm_up, steps, floor: narrow(floor) };
                (true, params, bytes.flat_map(|k| entry(angle(k))).collect())
            }
        };
        let table = Tensor::from_slice(gpu, [table.len()], &table)?;
        Ok(Some(Self { cosine, params, table, skips: Tensor::zeros(gpu, Shape::default())? }))
    }

    /// Checks that the GPU can count one more update after `updates`. Returns `updates`.
    pub(super) fn check(&self, updates: u64) -> Result<u32> {
        let counted = u32::try_from(updates).ok().filter(|&updates| updates < u32::MAX);
        counted.ok_or_else(|| {
            let (what, allowed) = ("updates where skipped ones do not count", u64::from(u32::MAX));
            Error::limit("Optimizer::step", what, updates.saturating_add(1), allowed)
        })
    }

    /// Records the computation of an update's learning-rate factor, which is stored after the
    /// factors of its gradients. Counts the update if it is skipped.
    pub(super) fn record(
        &self,
        rec: &mut Recorder<'_>,
        updates: u64,
        skipped: &Tensor<u32>,
        factor: &Tensor<f32>,
    ) -> Result<()> {
        let updates = self.check(updates)?;
        let params = Params { updates, ..self.params };
        rec.schedule_step((self.cosine, params), [skipped, &self.skips], [&self.table, factor])
    }
}
