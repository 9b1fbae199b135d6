//! Options of losses of a linear layer.

use crate::error::{Error, Result, ensure};
use crate::ops::loss::{BceWithLogits, CrossEntropy};
use crate::options::options;
use crate::plan::linear::LinearPlan;
use crate::tensor::narrow;

options! {
    /// Options of cross-entropy of a linear layer's outputs (`linear_cross_entropy` and related
    /// operations).
    pub struct LinearCrossEntropy {
        /// The options of the cross-entropy.
        loss: CrossEntropy = CrossEntropy::new(),
        /// The most bytes of scratch memory, 32 MiB by default. The logits of one token must fit: 4
        /// bytes a class, and up to a fourth more, because buffer sizes are rounded up.
        /// `linear_cross_entropy_sgd` uses half of the scratch for logits.
        scratch: u64 = LinearPlan::DEFAULT_SCRATCH,
        /// Gradients with respect to logits count as 0 if their magnitude is below this threshold,
        /// and products of nothing but such zeros are skipped. The default of 0 skips nothing. The
        /// threshold is compared with the gradient of the token's own loss, before position
        /// weights, the denominator of the mean and the upstream gradient (together the factor
        /// `f`). An element of the gradient of the hidden states is then off by at most
        /// `threshold * |f_n| * sum over v of |W[v, d]|`, an element of the weight's gradient by
        /// `threshold * sum over n of |f_n h[n, d]|`, and an element of the bias's gradient by
        /// `threshold * sum over n of |f_n|`. With a large vocabulary most probabilities are tiny.
        /// Weights and hidden states that are not finite go unnoticed if all products with them are
        /// skipped.
        gradient_threshold: f64 = 0.0,
    }
}

impl LinearCrossEntropy {
    /// Checks the numbers that are not options of the loss.
    pub(crate) fn validate(&self, op: &'static str) -> Result<()> {
        let threshold = self.gradient_threshold;
        let valid = threshold >= 0.0 && narrow(threshold).is_finite();
        ensure!(valid, Error::value(op, "gradient_threshold", "at least 0 and finite", threshold));
        Ok(())
    }
}

impl From<CrossEntropy> for LinearCrossEntropy {
    fn from(loss: CrossEntropy) -> Self {
        Self { loss, ..Self::default() }
    }
}

options! {
    /// Options of binary cross-entropy of a linear layer's outputs (`linear_bce_with_logits` and
    /// related operations).
    pub struct LinearBceWithLogits {
        /// The options of the binary cross-entropy.
        loss: BceWithLogits = BceWithLogits::new(),
        /// The most bytes of scratch memory, 32 MiB by default. The logits of one token and their
        /// losses must fit, 8 bytes a class.
        scratch: u64 = LinearPlan::DEFAULT_SCRATCH,
    }
}

impl From<BceWithLogits> for LinearBceWithLogits {
    fn from(loss: BceWithLogits) -> Self {
        Self { loss, ..Self::default() }
    }
}
