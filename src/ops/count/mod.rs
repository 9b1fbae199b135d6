//! Counts for evaluations.

pub(crate) mod rank;
pub(crate) mod tally;
