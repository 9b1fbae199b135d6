//! Metrics of classifiers by scikit-learn's definitions: from counters that stay on the GPU across
//! batches, or from scores.

mod confusion;
mod evaluation;
mod ranking;
mod scores;

pub use confusion::{Average, Confusion};
pub use evaluation::{BinaryOutputs, Evaluation};
pub use ranking::{RocPoint, average_precision, roc_auc, roc_curve};
pub use scores::Scores;
