//! Recording of dispatches and copies, and readback of results.

mod batch;
mod block_launch;
mod held;
mod launch;
mod profile;
mod readback;
mod recorder;
mod warm_up;

pub use batch::Batch;
pub(crate) use block_launch::BlockLaunch;
pub(crate) use launch::Launch;
pub use profile::DispatchTime;
pub use readback::Readback;
pub use recorder::Recorder;
pub(crate) use recorder::Window;
