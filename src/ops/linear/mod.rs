//! Losses of linear layers that never store all logits.

pub(crate) mod bce_with_logits;
pub(crate) mod counted_rows;
pub(crate) mod cross_entropy;
pub(crate) mod cross_entropy_sgd;
pub(crate) mod layer;
pub(crate) mod options;
pub(crate) mod plan;
pub(crate) mod request;
pub(crate) mod running_product;

pub use cross_entropy_sgd::{LinearSgd, LinearSgdResult};
pub use options::{LinearBceWithLogits, LinearCrossEntropy};
pub use request::{LinearLossOutput, LinearLossRequest};
