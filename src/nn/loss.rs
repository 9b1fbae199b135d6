//! The losses that a training supports.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ops::loss::definition::ElementwiseLoss;
use crate::ops::loss::{CrossEntropy, Grad, LossOutput, LossRequest, Reduction, Targets};
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
    CrossEntropy(Box<CrossEntropy>),
    Elementwise(Arc<dyn ElementwiseLoss>),
}

impl Loss {
    /// Cross-entropy of logits, with default options.
    #[must_use]
    pub fn cross_entropy() -> Self {
        CrossEntropy::new().into()
    }

    /// Sets the weight in the sum, which is 1 by default.
    #[must_use]
    pub fn weighted(self, weight: f64) -> Self {
        Self { weight, ..self }
    }

    pub(super) fn reduction(&self) -> Reduction {
        match &self.kind {
            Kind::CrossEntropy(options) => options.reduction,
            Kind::Elementwise(options) => options.describe().reduction,
        }
    }

    /// Records the loss and its gradient. `divided`: whether a mean is divided by its denominator,
    /// or left as a sum.
    pub(super) fn record(
        &self,
        rec: &mut Recorder<'_>,
        output: &Tensor<f32>,
        targets: &Targets,
        upstream: Option<&Tensor<f32>>,
        divided: bool,
    ) -> Result<LossOutput> {
        let request = LossRequest::new().grad(Grad::New).upstream(upstream);
        match &self.kind {
            Kind::CrossEntropy(options) => rec.cross_entropy_loss(output, targets, options, &request, divided),
            Kind::Elementwise(options) => rec.elementwise_loss(&**options, output, floats(targets)?, &request, divided),
        }
    }
}

fn floats(targets: &Targets) -> Result<&Tensor<f32>> {
    targets
        .probabilities()
        .ok_or_else(|| Error::value("Training::step", "the targets of this loss", "a Tensor<f32>", "class indices"))
}

impl From<CrossEntropy> for Loss {
    fn from(options: CrossEntropy) -> Self {
        Self { kind: Kind::CrossEntropy(Box::new(options)), weight: 1.0 }
    }
}

macro_rules! conversions {
    ($($(#[$doc:meta])* $name:ident, $with:ident, $backward:ident: $Options:ident, $inputs:expr, $targets:expr;)*) => {
        /// Elementwise losses, with default options.
        impl Loss {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name() -> Self {
                    crate::ops::loss::$Options::new().into()
                }
            )*
        }

        $(
            impl From<crate::ops::loss::$Options> for Loss {
                fn from(options: crate::ops::loss::$Options) -> Self {
                    Self { kind: Kind::Elementwise(Arc::new(options)), weight: 1.0 }
                }
            }
        )*
    };
}
elementwise_losses!(conversions);
