//! Serialises calls to OpenGL devices. wgpu panics in a thread that waits more than six seconds for
//! the OpenGL context, and drivers can compile or compute for longer than that.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether this process uses an OpenGL device. If not, no device has to be asked for its backend.
static IN_USE: AtomicBool = AtomicBool::new(false);
static TURN: Mutex<()> = Mutex::new(());

thread_local! {
    /// Whether this thread holds `TURN`: the application's callbacks can run inside our calls, and
    /// call us again.
    static HAS_TURN: Cell<bool> = const { Cell::new(false) };
}

/// Held while the thread may call OpenGL devices.
#[derive(Debug)]
pub(crate) struct Turn(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Drop for Turn {
    fn drop(&mut self) {
        HAS_TURN.set(false);
    }
}

/// Registers a device.
pub(crate) fn meet(device: &wgpu::Device) {
    if is_opengl(device) {
        IN_USE.store(true, Ordering::Relaxed);
    }
}

/// Waits until the calling thread may call `device`; returns at once unless it is an OpenGL device.
pub(crate) fn turn(device: &wgpu::Device) -> Option<Turn> {
    if !IN_USE.load(Ordering::Relaxed) || HAS_TURN.get() || !is_opengl(device) {
        return None;
    }
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    HAS_TURN.set(true);
    Some(Turn(turn))
}

fn is_opengl(device: &wgpu::Device) -> bool {
    device.adapter_info().backend == wgpu::Backend::Gl
}
