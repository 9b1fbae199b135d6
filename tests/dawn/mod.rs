//! Dawn, Chrome's WebGPU implementation, as an adapter of the tests: a wgpu device that forwards
//! its calls to a Node process.
//!
//! So every test on the shared device runs the crate's recording on a WebGPU other than wgpu's,
//! with other validation, another WGSL compiler (Tint) and its own bounds checks. Both processes
//! refer to objects by number.

mod buffer;
mod device;
mod encoder;
mod link;
mod object;

use serde_json::{Value, json};

use self::device::{Dawn, DawnQueue};
use self::link::Link;
use xent::Gpu;

/// Opens a Dawn device.
pub(crate) fn gpu() -> xent::Result<Gpu> {
    let link = Link::start();
    let hello = link.ask(json!({ "do": "hello" }));
    let device = wgpu::Device::from_custom(Dawn {
        link: link.clone(),
        info: info(&hello),
        limits: limits(&hello),
        features: features(&hello),
    });
    Gpu::new(device, wgpu::Queue::from_custom(DawnQueue { link }))
}

fn number<T: TryFrom<u64>>(value: &Value) -> T {
    value.as_u64().and_then(|number| number.try_into().ok()).expect("a number that fits")
}

fn features(hello: &Value) -> wgpu::Features {
    match hello["subgroups"].as_bool() {
        Some(true) => wgpu::Features::SUBGROUP,
        _ => wgpu::Features::empty(),
    }
}

fn info(hello: &Value) -> wgpu::AdapterInfo {
    let text = |name: &str| hello[name].as_str().unwrap_or_default().to_owned();
    wgpu::AdapterInfo {
        name: format!("{} {} {}", text("vendor"), text("architecture"), text("description")),
        driver: "Dawn".to_owned(),
        driver_info: format!("the npm package webgpu {}", text("version")),
        subgroup_min_size: number(&hello["subgroupMinSize"]),
        subgroup_max_size: number(&hello["subgroupMaxSize"]),
        // The crate ignores the backend; the device type selects the family of kernels.
        ..wgpu::AdapterInfo::new(wgpu::DeviceType::Cpu, wgpu::Backend::BrowserWebGpu)
    }
}

/// The limits that the crate reads.
fn limits(hello: &Value) -> wgpu::Limits {
    let limit = |name: &str| &hello["limits"][name];
    wgpu::Limits {
        max_buffer_size: number(limit("maxBufferSize")),
        max_storage_buffer_binding_size: number(limit("maxStorageBufferBindingSize")),
        max_uniform_buffer_binding_size: number(limit("maxUniformBufferBindingSize")),
        min_storage_buffer_offset_alignment: number(limit("minStorageBufferOffsetAlignment")),
        min_uniform_buffer_offset_alignment: number(limit("minUniformBufferOffsetAlignment")),
        max_storage_buffers_per_shader_stage: number(limit("maxStorageBuffersPerShaderStage")),
        max_dynamic_uniform_buffers_per_pipeline_layout: number(limit("maxDynamicUniformBuffersPerPipelineLayout")),
        max_compute_workgroups_per_dimension: number(limit("maxComputeWorkgroupsPerDimension")),
        max_compute_invocations_per_workgroup: number(limit("maxComputeInvocationsPerWorkgroup")),
        max_compute_workgroup_size_x: number(limit("maxComputeWorkgroupSizeX")),
        max_compute_workgroup_storage_size: number(limit("maxComputeWorkgroupStorageSize")),
        ..wgpu::Limits::default()
    }
}
