//! One thread at a time calls an OpenGL device. wgpu lets a thread wait six seconds for the device's context, and then panics; but a driver may
//! compile, or compute, for longer than that.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether this process has an OpenGL device: only then devices are asked what they are.
static IN_USE: AtomicBool = AtomicBool::new(false);
static TURN: Mutex<()> = Mutex::new(());

thread_local! {
    /// Callbacks of the application's may run in a call of ours, and call us.
    static HAS_TURN: Cell<bool> = const { Cell::new(false) };
}

/// A thread's turn, while this is there.
#[derive(Debug)]
pub(crate) struct Turn(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Drop for Turn {
    fn drop(&mut self) {
        HAS_TURN.set(false);
    }
}

/// A device that is going to be called.
pub(crate) fn meet(device: &wgpu::Device) {
    if is_opengl(device) {
        IN_USE.store(true, Ordering::Relaxed);
    }
}

/// Waits for the calling thread's turn to call this device, if it needs one.
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
