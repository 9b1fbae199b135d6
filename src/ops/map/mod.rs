//! Maps of elements and of rows.

pub(crate) mod cast;
pub(crate) mod elementwise;
pub(crate) mod log_softmax;
pub(crate) mod relu;
pub(crate) mod rows;
pub(crate) mod sigmoid;
pub(crate) mod softmax;
