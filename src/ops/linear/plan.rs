//! Plans of linear losses, for callers who want to know before.

use crate::engine::Gpu;
use crate::error::Result;
use crate::options::{LinearBceWithLogits, LinearCrossEntropy};
use crate::plan::linear::{LinearPlan, LinearSizes};

/// Plans of linear losses.
impl Gpu {
    /// What [`linear_cross_entropy`](crate::Recorder::linear_cross_entropy) would do for sizes `[N, D, V]`, with gradients if `backward`.
    ///
    /// # Errors
    /// [`Error::Limit`] if the scratch that is allowed, a binding or a buffer of this device cannot hold the logits of a single token.
    pub fn plan_linear_cross_entropy(
        &self,
        [tokens, inputs, classes]: [usize; 3],
        options: &LinearCrossEntropy,
        backward: bool,
    ) -> Result<LinearPlan> {
        let sizes = LinearSizes { tokens, inputs, classes };
        LinearPlan::new("plan_linear_cross_entropy", self.caps(), sizes, (options.scratch, 1), backward)
    }

    /// What [`linear_cross_entropy_sgd`](crate::Recorder::linear_cross_entropy_sgd) would do for sizes `[N, D, V]`, with probabilities as
    /// targets if `by_probabilities`.
    ///
    /// # Errors
    /// [`Error::Limit`] if half of the scratch that is allowed, a binding or a buffer of this device cannot hold the logits of a single
    /// token, or a row of the weight.
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

    /// What [`linear_bce_with_logits`](crate::Recorder::linear_bce_with_logits) would do for sizes `[N, D, V]`, with gradients if
    /// `backward`.
    ///
    /// # Errors
    /// [`Error::Limit`] if the scratch that is allowed, a binding or a buffer of this device cannot hold the logits of a single token and
    /// their losses.
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
