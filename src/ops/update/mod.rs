//! Accumulation and clipping of gradients, and updates.

pub(crate) mod gradient;
pub(crate) mod schedule;
pub(crate) mod sgd;
pub(crate) mod window_mean;
pub(crate) mod window_sum;

pub use gradient::UpdateReport;
pub use sgd::{Momentum, Sgd};
