//! Chooses an adapter, by name or by device type.

use crate::error::{Error, Result};

/// Returns the best adapter that matches `wanted`. OpenGL is tried only if no other backend has a
/// match: it is slow to initialise, and its libraries write warnings to standard error on machines
/// without a display.
pub(super) async fn find_adapter(wanted: &str) -> Result<wgpu::Adapter> {
    let wanted = wanted.trim().to_lowercase();
    let mut seen = Vec::new();
    // wgpu panics if none of the requested backends is compiled in.
    let compiled = wgpu::Instance::enabled_backend_features();
    for backends in [wgpu::Backends::all() - wgpu::Backends::GL, wgpu::Backends::GL] {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
        descriptor.backends &= backends & compiled;
        if descriptor.backends.is_empty() {
            continue;
        }
        // Debug builds would otherwise enable the driver's validation layers, although wgpu
        // validates everything itself.
        descriptor.flags = wgpu::InstanceFlags::empty().with_env();
        let instance = wgpu::Instance::new(descriptor);
        let adapters = instance.enumerate_adapters(backends).await;
        let infos: Vec<_> = adapters.iter().map(wgpu::Adapter::get_info).collect();
        // The name of a backend selects that backend, even if it also occurs in the name of an
        // adapter.
        let is_backend = wgpu::Backend::ALL.iter().any(|backend| backend.to_str() == wanted);
        let fits = |info: &wgpu::AdapterInfo| {
            if is_backend {
                info.backend.to_str() == wanted
            } else {
                describe_adapter(info).to_lowercase().contains(&wanted)
            }
        };
        seen.extend(infos.iter().map(describe_adapter));
        let fitting = adapters.into_iter().zip(infos).filter(|(_, info)| fits(info));
        if let Some((adapter, _)) = fitting.min_by_key(|(_, info)| rank(info.device_type)) {
            return Ok(adapter);
        }
    }
    Err(Error::NoAdapter {
        wanted: if wanted.is_empty() { "at all".to_owned() } else { format!("matches {wanted:?}") },
        available: if seen.is_empty() {
            "none; a software adapter comes with Debian's package mesa-vulkan-drivers".to_owned()
        } else {
            seen.join("; ")
        },
    })
}

fn describe_adapter(info: &wgpu::AdapterInfo) -> String {
    let wgpu::AdapterInfo { name, backend, device_type, driver, driver_info, .. } = info;
    format!("{name} ({backend}, {device_type:?}, {driver} {driver_info})")
}

fn rank(device_type: wgpu::DeviceType) -> u32 {
    match device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Cpu => 3,
        wgpu::DeviceType::Other => 4,
    }
}
