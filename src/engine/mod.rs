//! The device, its buffer pool and its compiled kernels.

mod adapter;
mod bind_groups;
mod caps;
mod device;
mod error_scope;
pub(crate) mod kernel;
pub(crate) mod opengl;
mod pool;

pub(crate) use bind_groups::BoundRange;
pub use caps::{Caps, Family};
pub use device::{Counters, Gpu};
pub(crate) use error_scope::{guard, in_scopes};
pub(crate) use pool::{Role, Storage, WORD_BYTES, create_buffer, size_class, storage_size};
