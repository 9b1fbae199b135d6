//! Recording of dispatches and copies, and readback of results.

mod batch;
mod blocks;
mod held;
mod launch;
mod profile;
mod readback;
mod recorder;
mod warm_up;

pub use batch::Batch;
pub(crate) use blocks::Blocks;
pub(crate) use launch::Launch;
pub use profile::DispatchTime;
pub use readback::Readback;
pub use recorder::Recorder;
pub(crate) use recorder::Window;
