//! The adapters that tests run on, and the devices that tests share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use xent::{Error, Gpu, Result};

use crate::dawn;

/// Opens the adapter that `XENT_ADAPTER` names: one of wgpu's; or `dawn`; or `webgpu-limits`, which
/// is wgpu's first with WebGPU's default limits and no features
/// (`WGPU_STRICT_WEBGPU_COMPLIANCE=1` makes wgpu itself strict, too).
pub(crate) fn adapter() -> Result<Gpu> {
    match std::env::var(Gpu::ADAPTER_VARIABLE).as_deref() {
        Ok("dawn") => dawn::gpu(),
        Ok("webgpu-limits") => pollster::block_on(webgpu_limits()),
        _ => Gpu::headless(),
    }
}

async fn webgpu_limits() -> Result<Gpu> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::all() - wgpu::Backends::GL,
        flags: wgpu::InstanceFlags::empty().with_env(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await;
    let adapter =
        adapter.map_err(|error| Error::NoAdapter { wanted: "at all".to_owned(), available: error.to_string() })?;
    let descriptor = wgpu::DeviceDescriptor { required_limits: wgpu::Limits::default(), ..Default::default() };
    let requested = adapter.request_device(&descriptor).await;
    let (device, queue) =
        requested.map_err(|source| Error::RequestDevice { adapter: adapter.get_info().name, source })?;
    Gpu::new(device, queue)
}

/// Devices that tests share, each used by one test at a time. There are two, because two cores
/// compile kernels faster than one.
pub(crate) struct SharedDevices {
    devices: [Mutex<Gpu>; 2],
    waiting: AtomicUsize,
}

impl SharedDevices {
    /// Opens another device like `first`.
    pub(crate) fn new(first: Gpu) -> Result<Self> {
        Ok(Self { devices: [Mutex::new(first), Mutex::new(adapter()?)], waiting: AtomicUsize::new(0) })
    }

    /// Locks a device that no test uses, or else waits for one.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Gpu> {
        let free = self.devices.iter().find_map(|device| match device.try_lock() {
            Ok(gpu) => Some(gpu),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        });
        free.unwrap_or_else(|| {
            let next = self.waiting.fetch_add(1, Ordering::Relaxed) % self.devices.len();
            self.devices[next].lock().unwrap_or_else(PoisonError::into_inner)
        })
    }
}
