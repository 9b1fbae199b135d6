//! Sums in a fixed order.

pub(crate) mod blocks;
pub(crate) mod broadcast;
pub(crate) mod column_sum;
