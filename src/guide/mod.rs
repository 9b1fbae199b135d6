//! Guides. The table on the crate's first page lists the call for each task.

#[doc = include_str!("from_pytorch.md")]
pub mod from_pytorch {}

#[doc = include_str!("embedding.md")]
pub mod embedding {}
