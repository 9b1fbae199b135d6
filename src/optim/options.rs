//! The options of an optimiser.

use crate::error::{Error, Result};
use crate::ops::update::Sgd;
use crate::tensor::narrow;

use super::schedule::Schedule;

/// How a model is updated. The default is plain [`Sgd`] with its defaults.
#[derive(Clone, Debug)]
pub struct Optimization {
    /// The options of all parameters that are in no group.
    pub sgd: Sgd,
    /// Parameters with their own learning rate or weight decay.
    pub groups: Vec<Group>,
    /// The factor of all learning rates, from update to update.
    pub schedule: Schedule,
    /// Whether an update that [`skip_non_finite`](Self::skip_non_finite) skips advances the
    /// schedule. By default it does not, as in PyTorch's recipe for its `GradScaler`. The GPU
    /// decides which updates are skipped, so the GPU counts them, and nothing is read back.
    pub schedule_counts_skipped: bool,
    /// The largest absolute value of a gradient. Larger values are clipped to it, before the norm
    /// is computed.
    pub clip_value: Option<f64>,
    /// The largest norm of all gradients together. If it is exceeded, all gradients are multiplied
    /// by `clip_norm / (norm + 1e-6)`.
    pub clip_norm: Option<f64>,
    /// The number of backward passes per update, at least 1: the passes of a window. The update
    /// takes the sum of their gradients, or the mean that [`window_mean`](Self::window_mean)
    /// selects. With more than 16 passes, the sum takes 4 more bytes a parameter, for rounding
    /// errors.
    pub accumulate: u32,
    /// How a [`Training`](crate::nn::Training) takes the mean of its losses, if a window has
    /// several passes. With an [`Optimizer`](crate::optim::Optimizer) that is driven by hand, the
    /// call decides: [`step`](crate::optim::Optimizer::step) adds gradients up,
    /// [`step_mean`](crate::optim::Optimizer::step_mean) divides by the sum of the passes'
    /// denominators.
    pub window_mean: WindowMean,
    /// The factor that the losses were multiplied by, from 1.2e-38 to 8.5e37. Gradients are divided
    /// by it before clipping and the update.
    pub loss_scale: f64,
    /// Whether to skip an update, and change nothing, if a gradient is NaN or infinite.
    pub skip_non_finite: bool,
}

impl Default for Optimization {
    fn default() -> Self {
        Self {
            sgd: Sgd::default(),
            groups: Vec::new(),
            schedule: Schedule::Constant,
            schedule_counts_skipped: false,
            clip_value: None,
            clip_norm: None,
            accumulate: 1,
            window_mean: WindowMean::default(),
            loss_scale: 1.0,
            skip_non_finite: false,
        }
    }
}

/// How the mean of losses is taken, if an update takes the gradients of several passes. If every
/// pass has the same denominator, both means are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WindowMean {
    /// Over all tokens (elements, rows) of the window: the sum of the passes' losses divided by the
    /// sum of their denominators, as if all passes were one batch. A token counts the same in every
    /// pass.
    #[default]
    Tokens,
    /// Over the passes: the mean of their means. A token counts more in a pass with few tokens than
    /// in a pass with many.
    Passes,
}

impl WindowMean {
    /// The name in a state.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Passes => "passes",
        }
    }
}

/// Parameters with their own options, like PyTorch's parameter groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// The names of the parameters.
    pub names: Vec<String>,
    /// Their learning rate; `None` takes the rate of the parameters in no group.
    pub lr: Option<f64>,
    /// Their weight decay; `None` takes the decay of the parameters in no group.
    pub weight_decay: Option<f64>,
}

impl Optimization {
    /// Whether the GPU counts the updates that advance the schedule.
    pub(super) fn counts_on_gpu(&self) -> bool {
        self.skip_non_finite && !self.schedule_counts_skipped && self.schedule != Schedule::Constant
    }

    pub(super) fn validate(&self) -> Result<()> {
        let fail = |what, expected: &str, got: String| Err(Error::value("Optimizer::new", what, expected, got));
        for (what, value) in [("clip_value", self.clip_value), ("clip_norm", self.clip_norm)] {
            if let Some(value) = value.filter(|&value| !positive(value)) {
                return fail(what, "above 0 and finite", value.to_string());
            }
        }
        // Gradients are multiplied by the inverse, and hardware may flush a subnormal inverse to 0.
        let normal = |value: f64| positive(value) && narrow(value).is_normal();
        if !normal(self.loss_scale) || !normal(1.0 / self.loss_scale) {
            return fail("loss_scale", "from 1.2e-38 to 8.5e37", format!("{:e}", self.loss_scale));
        }
        if self.accumulate == 0 {
            return fail("accumulate", "at least 1", "0".to_owned());
        }
        match self.schedule {
            Schedule::Step { every: 0, .. } => fail("the schedule's every", "at least 1", "0".to_owned()),
            Schedule::Step { factor, .. } if !positive(factor) => {
                fail("the schedule's factor", "above 0 and finite", factor.to_string())
            }
            Schedule::Cosine { warm_up, steps, .. } if steps <= warm_up => {
                fail("the schedule's steps", "more than its warm-up's", steps.to_string())
            }
            Schedule::Cosine { floor, .. } if !(0.0..=1.0).contains(&floor) => {
                fail("the schedule's floor", "in 0..=1", floor.to_string())
            }
            Schedule::Cosine { steps, .. } if self.counts_on_gpu() && u32::try_from(steps).is_err() => {
                fail("the schedule's steps", "below 2^32 where skipped updates do not count", steps.to_string())
            }
            _ => Ok(()),
        }
    }
}

fn positive(value: f64) -> bool {
    narrow(value) > 0.0 && narrow(value).is_finite()
}
