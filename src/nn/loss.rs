//! The losses that a training supports.

use crate::error::{Error, Result};
use crate::ops::{LossGrad, Targets};
use crate::options::{Bce, BceWithLogits, CrossEntropy, Mse, Reduction};
use crate::record::Recorder;
use crate::tensor::Tensor;

/// The loss of a head, and its weight in the sum of all losses.
#[derive(Clone, Debug)]
pub struct Loss {
    kind: Kind,
    pub(super) weight: f64,
}

#[derive(Clone, Debug)]
enum Kind {
    CrossEntropy(CrossEntropy),
    Bce(Bce),
    BceWithLogits(BceWithLogits),
    Mse(Mse),
}

impl Loss {
    /// Cross-entropy of logits, with default options.
    #[must_use]
    pub fn cross_entropy() -> Self {
        CrossEntropy::default().into()
    }

    /// Binary cross-entropy of probabilities, with default options.
    #[must_use]
    pub fn bce() -> Self {
        Bce::default().into()
    }

    /// Binary cross-entropy of logits, with default options.
    #[must_use]
    pub fn bce_with_logits() -> Self {
        BceWithLogits::default().into()
    }

    /// Squared error, with default options.
    #[must_use]
    pub fn mse() -> Self {
        Mse::default().into()
    }

    /// Sets the weight in the sum, which is 1 by default.
    #[must_use]
    pub fn weighted(self, weight: f64) -> Self {
        Self { weight, ..self }
    }

    pub(super) fn reduction(&self) -> Reduction {
        match &self.kind {
            Kind::CrossEntropy(options) => options.reduction,
            Kind::Bce(options) => options.reduction,
            Kind::BceWithLogits(options) => options.reduction,
            Kind::Mse(options) => options.reduction,
        }
    }

    pub(super) fn record(
        &self,
        rec: &mut Recorder<'_>,
        output: &Tensor<f32>,
        targets: Targets<'_>,
        upstream: Option<&Tensor<f32>>,
    ) -> Result<LossGrad> {
        match &self.kind {
            Kind::CrossEntropy(options) => rec.cross_entropy_backward(output, targets, options, upstream),
            Kind::Bce(options) => rec.bce_backward(output, floats(targets)?, options, upstream),
            Kind::BceWithLogits(options) => rec.bce_with_logits_backward(output, floats(targets)?, options, upstream),
            Kind::Mse(options) => rec.mse_backward(output, floats(targets)?, options, upstream),
        }
    }

    /// As [`record`](Self::record), but a mean is not divided by its denominator yet.
    pub(super) fn record_undivided(
        &self,
        rec: &mut Recorder<'_>,
        output: &Tensor<f32>,
        targets: Targets<'_>,
        upstream: Option<&Tensor<f32>>,
    ) -> Result<LossGrad> {
        // Both means of these losses divide by the number of elements: undivided, they are sums.
        let undivided = |reduction: Reduction| if reduction.is_mean() { Reduction::Sum } else { reduction };
        match &self.kind {
            Kind::CrossEntropy(options) => rec.cross_entropy_undivided(output, targets, options, upstream),
            Kind::Bce(options) => {
                let options = Bce { reduction: undivided(options.reduction), ..options.clone() };
                rec.bce_backward(output, floats(targets)?, &options, upstream)
            }
            Kind::BceWithLogits(options) => {
                let options = BceWithLogits { reduction: undivided(options.reduction), ..options.clone() };
                rec.bce_with_logits_backward(output, floats(targets)?, &options, upstream)
            }
            Kind::Mse(options) => rec.mse_undivided(output, floats(targets)?, options, upstream),
        }
    }
}

fn floats<'a>(targets: Targets<'a>) -> Result<&'a Tensor<f32>> {
    match targets {
        Targets::Probabilities(targets) => Ok(targets),
        Targets::Index(_) | Targets::IndexU32(_) => Err(Error::Value {
            op: "Training::step",
            what: "the targets of this loss",
            expected: "a Tensor<f32>".to_owned(),
            got: "class indices".to_owned(),
        }),
    }
}

impl From<CrossEntropy> for Loss {
    fn from(options: CrossEntropy) -> Self {
        Self { kind: Kind::CrossEntropy(options), weight: 1.0 }
    }
}

impl From<Bce> for Loss {
    fn from(options: Bce) -> Self {
        Self { kind: Kind::Bce(options), weight: 1.0 }
    }
}

impl From<BceWithLogits> for Loss {
    fn from(options: BceWithLogits) -> Self {
        Self { kind: Kind::BceWithLogits(options), weight: 1.0 }
    }
}

impl From<Mse> for Loss {
    fn from(options: Mse) -> Self {
        Self { kind: Kind::Mse(options), weight: 1.0 }
    }
}
