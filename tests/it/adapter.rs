//! The adapters that tests run on.

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
