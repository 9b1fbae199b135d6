//! wgpu's interfaces, as far as the crate calls them, over the pipe.

#![expect(unsafe_code, reason = "the interfaces have unsafe functions; none is called here")]
#![expect(clippy::semicolon_if_nothing_returned, reason = "what is absent looks the same whatever it would return")]

use std::future::ready;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use wgpu::custom::*;

use super::link::{Link, lock};

/// What the crate never asks of a device.
fn absent<T>() -> T {
    panic!("not among what Dawn is asked for")
}

/// An object of Dawn's, dropped there when it is dropped here.
#[derive(Debug)]
struct Object {
    link: Arc<Link>,
    id: u64,
}

impl Object {
    /// An object that `request` makes.
    fn new(link: &Arc<Link>, mut request: Value) -> Arc<Self> {
        let id = link.id();
        request["id"] = json!(id);
        link.tell(&request, &[]);
        Arc::new(Self { link: link.clone(), id })
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        self.link.tell(&json!({ "do": "drop", "id": self.id }), &[]);
    }
}

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

/// An object that has no methods here, and what it keeps alive.
#[derive(Debug)]
struct Made {
    object: Arc<Object>,
    _keeps: Vec<wgpu::Buffer>,
}

impl ShaderModuleInterface for Made {
    fn get_compilation_info(&self) -> Pin<Box<dyn ShaderCompilationInfoFuture>> {
        absent()
    }
}
impl BindGroupLayoutInterface for Made {}
impl BindGroupInterface for Made {}
impl PipelineLayoutInterface for Made {}
impl ComputePipelineInterface for Made {
    fn get_bind_group_layout(&self, _: u32) -> DispatchBindGroupLayout {
        absent()
    }
}

impl Dawn {
    fn make(&self, request: Value) -> Made {
        Made { object: Object::new(&self.link, request), _keeps: Vec::new() }
    }
}

fn id(made: Option<&Made>) -> u64 {
    made.expect("an object of Dawn's").object.id
}

fn buffer_id(buffer: &DispatchBuffer) -> u64 {
    buffer.as_custom::<DawnBuffer>().expect("a buffer of Dawn's").shared.object.id
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
            let buffer = bound.buffer.as_custom::<DawnBuffer>().expect("a buffer of Dawn's").shared.object.id;
            entries.push(json!({ "binding": binding, "buffer": buffer, "offset": bound.offset, "size": bound.size }));
            keeps.push(bound.buffer.clone());
        }
        let request = json!({ "do": "group", "layout": id(descriptor.layout.as_custom()), "entries": entries });
        DispatchBindGroup::custom(Made { _keeps: keeps, ..self.make(request) })
    }

    fn create_pipeline_layout(&self, descriptor: &wgpu::PipelineLayoutDescriptor<'_>) -> DispatchPipelineLayout {
        let layouts: Vec<_> = descriptor.bind_group_layouts.iter().flatten().map(|l| id(l.as_custom())).collect();
        DispatchPipelineLayout::custom(self.make(json!({ "do": "pipelineLayout", "layouts": layouts })))
    }

    fn create_compute_pipeline(&self, descriptor: &wgpu::ComputePipelineDescriptor<'_>) -> DispatchComputePipeline {
        DispatchComputePipeline::custom(self.make(json!({
            "do": "pipeline",
            "layout": id(descriptor.layout.and_then(wgpu::PipelineLayout::as_custom)),
            "shader": id(descriptor.module.as_custom()),
            "entryPoint": descriptor.entry_point,
        })))
    }

    fn create_buffer(&self, descriptor: &wgpu::BufferDescriptor<'_>) -> DispatchBuffer {
        let wgpu::BufferDescriptor { size, usage, mapped_at_creation, .. } = *descriptor;
        let request = json!({ "do": "buffer", "size": size, "usage": usage.bits(), "mapped": mapped_at_creation });
        let object = Object::new(&self.link, request);
        let mapped = mapped_at_creation.then(|| Mapped::to_write(size));
        DispatchBuffer::custom(DawnBuffer { shared: Arc::new(Shared { object, size, mapped: Mutex::new(mapped) }) })
    }

    fn create_command_encoder(&self, _: &wgpu::CommandEncoderDescriptor<'_>) -> DispatchCommandEncoder {
        DispatchCommandEncoder::custom(DawnEncoder::default())
    }

    fn set_device_lost_callback(&self, _: BoxDeviceLostCallback) {}

    fn on_uncaptured_error(&self, _: Arc<dyn wgpu::UncapturedErrorHandler>) {}

    /// The crate pushes scopes for all kinds of errors, that for validation first; one request does for all.
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

    fn poll(&self, poll: wgpu::wgt::PollType<u64>) -> Result<wgpu::PollStatus, wgpu::PollError> {
        if matches!(poll, wgpu::wgt::PollType::Wait { .. }) {
            self.link.ask(json!({ "do": "done" }));
        }
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
        let commands = |buffer: &DispatchCommandBuffer| {
            let recorded = &buffer.as_custom::<DawnCommands>().expect("commands of Dawn's").recorded;
            std::mem::take(&mut lock(recorded).commands)
        };
        let commands: Vec<_> = all.iter().map(commands).collect();
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

/// What the host sees of a buffer while it is mapped.
#[derive(Debug)]
struct Mapped {
    bytes: Vec<u8>,
    writes: bool,
}

impl Mapped {
    fn to_write(size: u64) -> Self {
        Self { bytes: vec![0; usize::try_from(size).expect("a size")], writes: true }
    }
}

#[derive(Debug)]
struct Shared {
    object: Arc<Object>,
    size: u64,
    mapped: Mutex<Option<Mapped>>,
}

#[derive(Debug)]
struct DawnBuffer {
    shared: Arc<Shared>,
}

impl BufferInterface for DawnBuffer {
    fn map_async(&self, mode: wgpu::MapMode, _: Range<u64>, callback: BufferMapCallback) {
        let write = mode == wgpu::MapMode::Write;
        let shared = self.shared.clone();
        let request = json!({ "do": "map", "id": shared.object.id, "write": write });
        self.shared.object.link.tell_and(request, move |reply, bytes| {
            if reply["ok"] != true {
                return callback(Err(wgpu::BufferAsyncError));
            }
            *lock(&shared.mapped) =
                Some(if write { Mapped::to_write(shared.size) } else { Mapped { bytes, writes: false } });
            callback(Ok(()));
        });
    }

    fn get_mapped_range(&self, range: Range<u64>) -> Result<DispatchBufferMappedRange, wgpu::MapRangeError> {
        let at = |position: u64| usize::try_from(position).expect("a position");
        let range = at(range.start)..at(range.end);
        let mapped = lock(&self.shared.mapped);
        let bytes = mapped.as_ref().expect("a mapped buffer").bytes[range.clone()].to_vec();
        Ok(DispatchBufferMappedRange::custom(DawnRange { shared: self.shared.clone(), range, bytes }))
    }

    fn unmap(&self) {
        let Shared { object, mapped, .. } = &*self.shared;
        let written = lock(mapped).take().filter(|mapped| mapped.writes);
        let bytes = written.map(|mapped| mapped.bytes).unwrap_or_default();
        object.link.tell(&json!({ "do": "unmap", "id": object.id }), &bytes);
    }

    fn destroy(&self) {
        let Object { link, id } = &*self.shared.object;
        link.tell(&json!({ "do": "destroy", "id": id }), &[]);
    }
}

/// A part of a mapped buffer; what was written comes back when it is dropped.
#[derive(Debug)]
struct DawnRange {
    shared: Arc<Shared>,
    range: Range<usize>,
    bytes: Vec<u8>,
}

impl BufferMappedRangeInterface for DawnRange {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    unsafe fn read_slice(&self) -> &[u8] {
        &self.bytes
    }

    unsafe fn write_slice(&mut self) -> wgpu::WriteOnly<'_, [u8]> {
        wgpu::WriteOnly::from_mut(&mut self.bytes)
    }
}

impl Drop for DawnRange {
    fn drop(&mut self) {
        if let Some(mapped) = lock(&self.shared.mapped).as_mut().filter(|mapped| mapped.writes) {
            mapped.bytes[self.range.clone()].copy_from_slice(&self.bytes);
        }
    }
}

/// Commands, and what has to live until they are submitted.
#[derive(Debug, Default)]
struct Recorded {
    commands: Vec<Value>,
    buffers: Vec<DispatchBuffer>,
    pipelines: Vec<DispatchComputePipeline>,
    groups: Vec<DispatchBindGroup>,
}

#[derive(Debug, Default)]
struct DawnEncoder {
    recorded: Arc<Mutex<Recorded>>,
}

#[derive(Debug)]
struct DawnCommands {
    recorded: Mutex<Recorded>,
}

impl CommandBufferInterface for DawnCommands {}

impl CommandEncoderInterface for DawnEncoder {
    fn copy_buffer_to_buffer(
        &self,
        source: &DispatchBuffer,
        source_offset: u64,
        destination: &DispatchBuffer,
        destination_offset: u64,
        size: Option<u64>,
    ) {
        let mut recorded = lock(&self.recorded);
        let (from, to) = (buffer_id(source), buffer_id(destination));
        recorded.commands.push(json!(["copy", from, source_offset, to, destination_offset, size]));
        recorded.buffers.extend([source.clone(), destination.clone()]);
    }

    fn clear_buffer(&self, buffer: &DispatchBuffer, offset: u64, size: Option<u64>) {
        let mut recorded = lock(&self.recorded);
        recorded.commands.push(json!(["clear", buffer_id(buffer), offset, size]));
        recorded.buffers.push(buffer.clone());
    }

    fn begin_compute_pass(&self, _: &wgpu::ComputePassDescriptor<'_>) -> DispatchComputePass {
        lock(&self.recorded).commands.push(json!(["pass"]));
        DispatchComputePass::custom(DawnPass { recorded: self.recorded.clone() })
    }

    fn finish(&mut self) -> DispatchCommandBuffer {
        let recorded = Mutex::new(std::mem::take(&mut *lock(&self.recorded)));
        DispatchCommandBuffer::custom(DawnCommands { recorded })
    }

    fn copy_buffer_to_texture(
        &self,
        _: wgpu::TexelCopyBufferInfo<'_>,
        _: wgpu::TexelCopyTextureInfo<'_>,
        _: wgpu::Extent3d,
    ) {
        absent()
    }

    fn copy_texture_to_buffer(
        &self,
        _: wgpu::TexelCopyTextureInfo<'_>,
        _: wgpu::TexelCopyBufferInfo<'_>,
        _: wgpu::Extent3d,
    ) {
        absent()
    }

    fn copy_texture_to_texture(
        &self,
        _: wgpu::TexelCopyTextureInfo<'_>,
        _: wgpu::TexelCopyTextureInfo<'_>,
        _: wgpu::Extent3d,
    ) {
        absent()
    }

    fn begin_render_pass(&self, _: &wgpu::RenderPassDescriptor<'_>) -> DispatchRenderPass {
        absent()
    }

    fn clear_texture(&self, _: &DispatchTexture, _: &wgpu::ImageSubresourceRange) {
        absent()
    }

    fn insert_debug_marker(&self, _: &str) {}

    fn push_debug_group(&self, _: &str) {}

    fn pop_debug_group(&self) {}

    fn write_timestamp(&self, _: &DispatchQuerySet, _: u32) {
        absent()
    }

    fn resolve_query_set(&self, _: &DispatchQuerySet, _: u32, _: u32, _: &DispatchBuffer, _: u64) {
        absent()
    }

    fn mark_acceleration_structures_built<'a>(
        &self,
        _: &mut dyn Iterator<Item = &'a wgpu::Blas>,
        _: &mut dyn Iterator<Item = &'a wgpu::Tlas>,
    ) {
        absent()
    }

    fn build_acceleration_structures<'a>(
        &self,
        _: &mut dyn Iterator<Item = &'a wgpu::BlasBuildEntry<'a>>,
        _: &mut dyn Iterator<Item = &'a wgpu::Tlas>,
    ) {
        absent()
    }

    fn transition_resources<'a>(
        &mut self,
        _: &mut dyn Iterator<Item = wgpu::wgt::BufferTransition<&'a DispatchBuffer>>,
        _: &mut dyn Iterator<Item = wgpu::wgt::TextureTransition<&'a DispatchTexture>>,
    ) {
        absent()
    }
}

#[derive(Debug)]
struct DawnPass {
    recorded: Arc<Mutex<Recorded>>,
}

impl Drop for DawnPass {
    fn drop(&mut self) {
        lock(&self.recorded).commands.push(json!(["end"]));
    }
}

impl ComputePassInterface for DawnPass {
    fn set_pipeline(&mut self, pipeline: &DispatchComputePipeline) {
        let mut recorded = lock(&self.recorded);
        recorded.commands.push(json!(["pipeline", id(pipeline.as_custom())]));
        recorded.pipelines.push(pipeline.clone());
    }

    fn set_bind_group(&mut self, index: u32, group: Option<&DispatchBindGroup>, offsets: &[u32]) {
        let group = group.expect("a bind group");
        let mut recorded = lock(&self.recorded);
        recorded.commands.push(json!(["group", index, id(group.as_custom()), offsets]));
        recorded.groups.push(group.clone());
    }

    fn dispatch_workgroups(&mut self, x: u32, y: u32, z: u32) {
        lock(&self.recorded).commands.push(json!(["dispatch", x, y, z]));
    }

    fn set_immediates(&mut self, _: u32, _: &[u8]) {
        absent()
    }

    fn insert_debug_marker(&mut self, _: &str) {}

    fn push_debug_group(&mut self, _: &str) {}

    fn pop_debug_group(&mut self) {}

    fn write_timestamp(&mut self, _: &DispatchQuerySet, _: u32) {
        absent()
    }

    fn begin_pipeline_statistics_query(&mut self, _: &DispatchQuerySet, _: u32) {
        absent()
    }

    fn end_pipeline_statistics_query(&mut self) {
        absent()
    }

    fn dispatch_workgroups_indirect(&mut self, _: &DispatchBuffer, _: u64) {
        absent()
    }

    fn transition_resources<'a>(
        &mut self,
        _: &mut dyn Iterator<Item = wgpu::wgt::BufferTransition<&'a DispatchBuffer>>,
        _: &mut dyn Iterator<Item = wgpu::wgt::TextureTransition<&'a DispatchTextureView>>,
    ) {
        absent()
    }
}
