//! Matrix products.

pub(crate) mod matmul;
pub(crate) mod pieces;
pub(crate) mod sum_parts;
