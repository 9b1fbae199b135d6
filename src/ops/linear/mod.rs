//! Losses of linear layers that never store all logits.

pub(crate) mod bce_with_logits;
pub(crate) mod counted_rows;
pub(crate) mod cross_entropy;
pub(crate) mod cross_entropy_sgd;
pub(crate) mod layer;
pub(crate) mod plan;
pub(crate) mod running_product;
pub(crate) mod options;

pub use bce_with_logits::LinearLossGrads;
pub use cross_entropy::{LinearCrossEntropyRequest, LinearCrossEntropyResult};
pub use cross_entropy_sgd::{LinearSgd, LinearSgdResult};
pub use layer::{LinearBackward, LinearGrads};
pub use options::{LinearBceWithLogits, LinearCrossEntropy};
