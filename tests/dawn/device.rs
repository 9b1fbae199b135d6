//! The part of wgpu's device and queue that the crate calls, forwarded over the pipe.

#![expect(unsafe_code, reason = "the traits declare unsafe functions; none is called here")]
#![expect(clippy::semicolon_if_nothing_returned, reason = "`absent()` stands in for any return type")]

use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::{Value, json};
use wgpu::custom::*;

use super::buffer::{DawnBuffer, buffer_id};
use super::encoder::{DawnCommands, DawnEncoder};
use super::link::Link;
use super::object::{Made, Object, absent, id};

#[derive(Debug)]
pub(super) struct Dawn {
    pub(super) link: Arc<Link>,
    pub(super) info: wgpu::AdapterInfo,
    pub(super) limits: wgpu::Limits,
    pub(super) features: wgpu::Features,
}

#[derive(Debug)]
pub(super) struct DawnQueue {
    pub(super) link: Arc<Link>,
}

impl Dawn {
    fn make(&self, request: Value) -> Made {
        Made::new(&self.link, request, Vec::new())
    }
}

impl DeviceInterface for Dawn {
    fn features(&self) -> wgpu::Features {
        self.features
    }

    fn limits(&self) -> wgpu::Limits {
        self.limits.clone()
    }

    fn adapter_info(&self) -> wgpu::AdapterInfo {
        self.info.clone()
    }

    fn create_shader_module(
        &self,
        descriptor: wgpu::ShaderModuleDescriptor<'_>,
        _: wgpu::ShaderRuntimeChecks,
    ) -> DispatchShaderModule {
        let wgpu::ShaderSource::Wgsl(code) = descriptor.source else { absent() };
        DispatchShaderModule::custom(self.make(json!({ "do": "shader", "code": code })))
    }

    fn create_bind_group_layout(&self, descriptor: &wgpu::BindGroupLayoutDescriptor<'_>) -> DispatchBindGroupLayout {
        let entries: Vec<_> = descriptor.entries.iter().map(layout_entry).collect();
        DispatchBindGroupLayout::custom(self.make(json!({ "do": "layout", "entries": entries })))
    }

    fn create_bind_group(&self, descriptor: &wgpu::BindGroupDescriptor<'_>) -> DispatchBindGroup {
        let mut keeps = Vec::new();
        let mut entries = Vec::new();
        for wgpu::BindGroupEntry { binding, resource } in descriptor.entries {
            let wgpu::BindingResource::Buffer(bound) = resource else { absent() };
            let buffer = bound.buffer.as_custom().expect("a buffer of Dawn's");
            entries.push(json!({ "binding": binding, "buffer": DawnBuffer::id(buffer), "offset": bound.offset, "size": bound.size }));
            keeps.push(bound.buffer.clone());
        }
        let request = json!({ "do": "group", "layout": id(descriptor.layout.as_custom()), "entries": entries });
        DispatchBindGroup::custom(Made::new(&self.link, request, keeps))
    }

    fn create_pipeline_layout(&self, descriptor: &wgpu::PipelineLayoutDescriptor<'_>) -> DispatchPipelineLayout {
        let layouts: Vec<_> = descriptor.bind_group_layouts.iter().flatten().map(|l| id(l.as_custom())).collect();
        DispatchPipelineLayout::custom(self.make(json!({ "do": "pipelineLayout", "layouts": layouts })))
    }

    fn create_compute_pipeline(&self, descriptor: &wgpu::ComputePipelineDescriptor<'_>) -> DispatchComputePipeline {
        DispatchComputePipeline::custom(self.make(json!({
            "do": "pipeline",
            "layout": descriptor.layout.map(|layout| id(layout.as_custom())),
            "shader": id(descriptor.module.as_custom()),
            "entryPoint": descriptor.entry_point,
        })))
    }

    fn create_buffer(&self, descriptor: &wgpu::BufferDescriptor<'_>) -> DispatchBuffer {
        let wgpu::BufferDescriptor { size, usage, mapped_at_creation, .. } = *descriptor;
        let request = json!({ "do": "buffer", "size": size, "usage": usage.bits(), "mapped": mapped_at_creation });
        DispatchBuffer::custom(DawnBuffer::new(Object::new(&self.link, request), size, mapped_at_creation))
    }

    fn create_command_encoder(&self, _: &wgpu::CommandEncoderDescriptor<'_>) -> DispatchCommandEncoder {
        DispatchCommandEncoder::custom(DawnEncoder::default())
    }

    fn set_device_lost_callback(&self, _: BoxDeviceLostCallback) {}

    fn on_uncaptured_error(&self, _: Arc<dyn wgpu::UncapturedErrorHandler>) {}

    /// The crate pushes a scope for each kind of error, validation first; one request pushes them
    /// all.
    fn push_error_scope(&self, filter: wgpu::ErrorFilter) -> u32 {
        let first = filter == wgpu::ErrorFilter::Validation;
        if first {
            self.link.tell(&json!({ "do": "pushScopes" }), &[]);
        }
        first.into()
    }

    fn pop_error_scope(&self, index: u32) -> Pin<Box<dyn PopErrorScopeFuture>> {
        let error = (index == 1).then(|| self.link.ask(json!({ "do": "popScopes" }))).and_then(|reply| {
            let description = reply["message"].as_str()?.to_owned();
            let source = description.clone().into();
            Some(match reply["kind"].as_str() {
                Some("GPUOutOfMemoryError") => wgpu::Error::OutOfMemory { source },
                Some("GPUValidationError") => wgpu::Error::Validation { source, description },
                _ => wgpu::Error::Internal { source, description },
            })
        });
        Box::pin(ready(error))
    }

    fn poll(&self, _: wgpu::wgt::PollType<u64>) -> Result<wgpu::PollStatus, wgpu::PollError> {
        self.link.ask(json!({ "do": "done" }));
        Ok(wgpu::PollStatus::QueueEmpty)
    }

    fn get_internal_counters(&self) -> wgpu::InternalCounters {
        wgpu::InternalCounters::default()
    }

    fn generate_allocator_report(&self) -> Option<wgpu::AllocatorReport> {
        None
    }

    fn destroy(&self) {
        self.link.tell(&json!({ "do": "destroyDevice" }), &[]);
    }

    unsafe fn create_shader_module_passthrough(
        &self,
        _: &wgpu::ShaderModuleDescriptorPassthrough<'_>,
    ) -> DispatchShaderModule {
        absent()
    }

    unsafe fn create_pipeline_cache(&self, _: &wgpu::PipelineCacheDescriptor<'_>) -> DispatchPipelineCache {
        absent()
    }

    fn create_render_pipeline(&self, _: &wgpu::RenderPipelineDescriptor<'_>) -> DispatchRenderPipeline {
        absent()
    }

    fn create_mesh_pipeline(&self, _: &wgpu::MeshPipelineDescriptor<'_>) -> DispatchRenderPipeline {
        absent()
    }

    fn create_texture(&self, _: &wgpu::TextureDescriptor<'_>) -> DispatchTexture {
        absent()
    }

    fn create_external_texture(
        &self,
        _: &wgpu::ExternalTextureDescriptor<'_>,
        _: &[&wgpu::TextureView],
    ) -> DispatchExternalTexture {
        absent()
    }

    fn create_blas(
        &self,
        _: &wgpu::CreateBlasDescriptor<'_>,
        _: wgpu::BlasGeometrySizeDescriptors,
    ) -> (Option<u64>, DispatchBlas) {
        absent()
    }

    fn create_tlas(&self, _: &wgpu::CreateTlasDescriptor<'_>) -> DispatchTlas {
        absent()
    }

    fn create_sampler(&self, _: &wgpu::SamplerDescriptor<'_>) -> DispatchSampler {
        absent()
    }

    fn create_query_set(&self, _: &wgpu::QuerySetDescriptor<'_>) -> DispatchQuerySet {
        absent()
    }

    fn create_render_bundle_encoder(&self, _: &wgpu::RenderBundleEncoderDescriptor<'_>) -> DispatchRenderBundleEncoder {
        absent()
    }

    unsafe fn start_graphics_debugger_capture(&self) {}

    unsafe fn stop_graphics_debugger_capture(&self) {}
}

fn layout_entry(entry: &wgpu::BindGroupLayoutEntry) -> Value {
    let wgpu::BindingType::Buffer { ty, has_dynamic_offset, .. } = entry.ty else { absent() };
    let ty = match ty {
        wgpu::BufferBindingType::Uniform => "uniform",
        wgpu::BufferBindingType::Storage { read_only: true } => "read-only-storage",
        wgpu::BufferBindingType::Storage { read_only: false } => "storage",
    };
    let buffer = json!({ "type": ty, "hasDynamicOffset": has_dynamic_offset });
    json!({ "binding": entry.binding, "visibility": entry.visibility.bits(), "buffer": buffer })
}

impl QueueInterface for DawnQueue {
    fn write_buffer(&self, buffer: &DispatchBuffer, offset: u64, data: &[u8]) {
        self.link.tell(&json!({ "do": "write", "id": buffer_id(buffer), "offset": offset }), data);
    }

    fn submit(&self, command_buffers: &mut dyn Iterator<Item = DispatchCommandBuffer>) -> u64 {
        let all: Vec<_> = command_buffers.collect();
        let commands: Vec<_> =
            all.iter().map(|one| one.as_custom::<DawnCommands>().expect("commands of Dawn's").take()).collect();
        self.link.tell(&json!({ "do": "submit", "commandBuffers": commands }), &[]);
        0
    }

    fn on_submitted_work_done(&self, callback: BoxSubmittedWorkDoneCallback) {
        self.link.tell_and(json!({ "do": "done" }), move |_, _| callback());
    }

    fn get_timestamp_period(&self) -> f32 {
        1.0
    }

    fn create_staging_buffer(&self, _: wgpu::BufferSize) -> Option<DispatchQueueWriteBuffer> {
        absent()
    }

    fn validate_write_buffer(&self, _: &DispatchBuffer, _: u64, _: wgpu::BufferSize) -> Option<()> {
        absent()
    }

    fn write_staging_buffer(&self, _: &DispatchBuffer, _: u64, _: &DispatchQueueWriteBuffer) {
        absent()
    }

    fn write_texture(
        &self,
        _: wgpu::TexelCopyTextureInfo<'_>,
        _: &[u8],
        _: wgpu::TexelCopyBufferLayout,
        _: wgpu::Extent3d,
    ) {
        absent()
    }

    fn compact_blas(&self, _: &DispatchBlas) -> (Option<u64>, DispatchBlas) {
        absent()
    }

    fn present(&self, _: &DispatchSurfaceOutputDetail) {
        absent()
    }
}
