//! Command encoding: commands are kept here until they are submitted.

#![expect(clippy::semicolon_if_nothing_returned, reason = "`absent()` stands in for any return type")]

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use wgpu::custom::*;

use super::buffer::buffer_id;
use super::link::lock;
use super::object::{absent, id};

/// Recorded commands, and the objects that have to live until they are submitted.
#[derive(Debug, Default)]
struct Recorded {
    commands: Vec<Value>,
    buffers: Vec<DispatchBuffer>,
    pipelines: Vec<DispatchComputePipeline>,
    groups: Vec<DispatchBindGroup>,
}

#[derive(Debug, Default)]
pub(super) struct DawnEncoder {
    recorded: Arc<Mutex<Recorded>>,
}

#[derive(Debug)]
pub(super) struct DawnCommands {
    recorded: Mutex<Recorded>,
}

impl DawnCommands {
    /// Takes the commands. The objects that they use live until `self` is dropped.
    pub(super) fn take(&self) -> Vec<Value> {
        std::mem::take(&mut lock(&self.recorded).commands)
    }
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
