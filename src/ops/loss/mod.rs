//! Losses of elements and of rows.

pub(crate) mod bce;
pub(crate) mod bce_with_logits;
pub(crate) mod cross_entropy;
pub(crate) mod denominator;
pub(crate) mod elementwise;
pub(crate) mod mse;
pub(crate) mod nll;
pub(crate) mod row_factor;
pub(crate) mod row_loss;
pub(crate) mod row_parts;
pub(crate) mod row_steps;
pub(crate) mod rows;
pub(crate) mod statistics;
pub(crate) mod targets;
