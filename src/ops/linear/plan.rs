//! Plans of linear losses, for callers who want to know them in advance.

use crate::engine::Gpu;
use crate::error::Result;
use crate::ops::linear::{LinearBceWithLogits, LinearCrossEntropy};
use crate::plan::linear::{LinearPlan, LinearSizes};

/// Plans of linear losses.
impl Gpu {
    /// The plan of [`linear_cross_entropy`](crate::Recorder::linear_cross_entropy) for sizes
    /// `[N, D, V]`, with gradients if `backward`.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) if the logits of a single token exceed the allowed
    /// scratch, or a binding or buffer of this device.
    pub fn plan_linear_cross_entropy(
        &self,
        [tokens, inputs, classes]: [usize; 3],
        options: &LinearCrossEntropy,
        backward: bool,
    ) -> Result<LinearPlan> {
        let sizes = LinearSizes { tokens, inputs, classes };
        LinearPlan::new("plan_linear_cross_entropy", self.caps(), sizes, (options.scratch, 1), backward)
    }

    /// The plan of [`linear_cross_entropy_sgd`](crate::Recorder::linear_cross_entropy_sgd) for
    /// sizes `[N, D, V]`, with probabilities as targets if `by_probabilities`.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) if the logits of a single token, or a row of the
    /// weight, exceed half of the allowed scratch, or a binding or buffer of this device.
    pub fn plan_linear_cross_entropy_sgd(
        &self,
        [tokens, inputs, classes]: [usize; 3],
        options: &LinearCrossEntropy,
        by_probabilities: bool,
    ) -> Result<LinearPlan> {
        let sizes = LinearSizes { tokens, inputs, classes };
        let op = "plan_linear_cross_entropy_sgd";
        LinearPlan::with_update(op, self.caps(), sizes, options.scratch, by_probabilities)
    }

    /// The plan of [`linear_bce_with_logits`](crate::Recorder::linear_bce_with_logits) for sizes
    /// `[N, D, V]`, with gradients if `backward`.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) if the logits and losses of a single token exceed the
    /// allowed scratch, or a binding or buffer of this device.
    pub fn plan_linear_bce_with_logits(
        &self,
        [tokens, inputs, classes]: [usize; 3],
        options: &LinearBceWithLogits,
        backward: bool,
    ) -> Result<LinearPlan> {
        let sizes = LinearSizes { tokens, inputs, classes };
        LinearPlan::new("plan_linear_bce_with_logits", self.caps(), sizes, (options.scratch, 2), backward)
    }
}
