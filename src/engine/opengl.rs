//! Serialises calls to OpenGL devices. wgpu panics in a thread that waits more than six seconds for
//! the OpenGL context, and drivers can compile or compute for longer than that.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether this process uses an OpenGL device. If not, no device has to be asked for its backend.
static IN_USE: AtomicBool = AtomicBool::new(false);
static CONTEXT_LOCK: Mutex<()> = Mutex::new(());

thread_local! {
    /// Whether this thread holds `CONTEXT_LOCK`: the application's callbacks can run inside our
    /// calls, and call us again.
    static HOLDS_LOCK: Cell<bool> = const { Cell::new(false) };
}

/// Held while the thread may call OpenGL devices.
#[derive(Debug)]
pub(crate) struct ContextGuard(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Drop for ContextGuard {
    fn drop(&mut self) {
        HOLDS_LOCK.set(false);
    }
}

/// Registers a device.
pub(crate) fn register(device: &wgpu::Device) {
    if is_opengl(device) {
        IN_USE.store(true, Ordering::Relaxed);
    }
}

/// Waits until the calling thread may call `device`; returns at once unless it is an OpenGL device.
pub(crate) fn lock_context(device: &wgpu::Device) -> Option<ContextGuard> {
    if !IN_USE.load(Ordering::Relaxed) || HOLDS_LOCK.get() || !is_opengl(device) {
        return None;
    }
    let lock = CONTEXT_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    HOLDS_LOCK.set(true);
    Some(ContextGuard(lock))
}

pub(crate) fn is_opengl(device: &wgpu::Device) -> bool {
    device.adapter_info().backend == wgpu::Backend::Gl
}
