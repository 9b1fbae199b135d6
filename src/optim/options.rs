//! What an optimiser can be told.

use crate::error::{Error, Result};
use crate::options::Sgd;
use crate::tensor::narrow;

use super::schedule::Schedule;

/// How a model is updated. The defaults are plain [`Sgd`] with its defaults.
#[derive(Clone, Debug)]
pub struct Optimization {
    /// The options of all parameters that no group names.
    pub sgd: Sgd,
    /// Parameters with a learning rate or a weight decay of their own.
    pub groups: Vec<Group>,
    /// What every learning rate is multiplied with, from update to update.
    pub schedule: Schedule,
    /// Whether an update that [`skip_non_finite`](Self::skip_non_finite) skips moves the schedule on, too. By default it does not, as in
    /// PyTorch's recipe for its `GradScaler`. The GPU decides what is skipped, so it counts, and nothing is read back.
    pub schedule_counts_skipped: bool,
    /// The largest absolute value of a gradient: larger ones are cut to it, first of all.
    pub clip_value: Option<f64>,
    /// The largest norm of all gradients together: with a larger one, all are multiplied with `clip_norm / (norm + 1e-6)`.
    pub clip_norm: Option<f64>,
    /// How many backward passes there are to an update, at least 1: the passes of a window. The update takes the sum of their gradients, or the mean
    /// that [`window_mean`](Self::window_mean) says. Of more than 16 passes the sum takes 4 bytes a parameter more, for what additions round off.
    pub accumulate: u32,
    /// What the mean of a [`Training`](crate::nn::Training)'s losses is over, where a window has several passes. An [`Optimizer`](crate::Optimizer) that
    /// is driven by hand is told at each pass: [`step`](crate::Optimizer::step) adds gradients up,
    /// [`step_mean`](crate::Optimizer::step_mean) divides by the sum of the passes' denominators.
    pub window_mean: WindowMean,
    /// What the losses were multiplied with, from 1.2e-38 to 8.5e37; gradients are divided by it before everything else.
    pub loss_scale: f64,
    /// Leave everything as it is if a gradient is NaN or infinite.
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

/// What the mean of losses is over, where an update takes the gradients of several passes. Where every pass has the same denominator,
/// both are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WindowMean {
    /// All tokens (elements, rows) of the window: the sum of the passes' losses over the sum of their denominators, as if all passes were
    /// one batch. A token counts the same wherever it is.
    #[default]
    Tokens,
    /// The passes: the mean of their means. The tokens of a pass with few of them count more than those of one with many.
    Passes,
}

impl WindowMean {
    /// What states call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Passes => "passes",
        }
    }
}

/// Parameters with options of their own, as PyTorch's parameter groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// The parameters' names.
    pub names: Vec<String>,
    /// Their learning rate; that of the others if there is none.
    pub lr: Option<f64>,
    /// Their weight decay; that of the others if there is none.
    pub weight_decay: Option<f64>,
}

impl Optimization {
    /// Whether the GPU counts the updates that move the schedule.
    pub(super) fn counts_on_gpu(&self) -> bool {
        self.skip_non_finite && !self.schedule_counts_skipped && self.schedule != Schedule::Constant
    }

    pub(super) fn validate(&self) -> Result<()> {
        let fail = |what, expected: &str, got: String| {
            Err(Error::Value { op: "Optimizer::new", what, expected: expected.to_owned(), got })
        };
        for (what, value) in [("clip_value", self.clip_value), ("clip_norm", self.clip_norm)] {
            if let Some(value) = value.filter(|&value| !positive(value)) {
                return fail(what, "above 0 and finite", value.to_string());
            }
        }
        // Gradients are multiplied with the inverse, and hardware may take a subnormal one for 0.
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
