//! How good a classifier is, by scikit-learn's definitions: from counters that stay on the GPU while batches go by, or from scores.

mod confusion;
mod evaluation;
mod ranking;

pub use confusion::{Average, Confusion};
#[cfg(test)]
pub(crate) use evaluation::{BINARY, KERNEL};
pub use evaluation::{BinaryOutputs, Evaluation, EvaluationReadback, Scores};
pub use ranking::{RocPoint, average_precision, roc_auc, roc_curve};
