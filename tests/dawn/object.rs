//! Dawn's objects: numbers in this process, WebGPU objects in the Node process.

use std::pin::Pin;
use std::sync::Arc;

use serde_json::{Value, json};
use wgpu::custom::*;

use super::link::Link;

/// Stands in for the result of a function that the crate never calls.
pub(super) fn absent<T>() -> T {
    panic!("not among what Dawn is asked for")
}

/// A Dawn object. Dropping it drops the object in the Node process.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) link: Arc<Link>,
    pub(super) id: u64,
}

impl Object {
    /// Sends `request`, which creates the object.
    pub(super) fn new(link: &Arc<Link>, mut request: Value) -> Arc<Self> {
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

/// An object that needs no methods here, and the buffers that it keeps alive.
#[derive(Debug)]
pub(super) struct Made {
    object: Arc<Object>,
    _keeps: Vec<wgpu::Buffer>,
}

impl Made {
    /// Sends `request`, which creates an object that keeps `buffers` alive.
    pub(super) fn new(link: &Arc<Link>, request: Value, buffers: Vec<wgpu::Buffer>) -> Self {
        Self { object: Object::new(link, request), _keeps: buffers }
    }
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
    fn get_bind_group_layout(&self, index: u32) -> DispatchBindGroupLayout {
        let request = json!({ "do": "layoutOf", "pipeline": self.object.id, "index": index });
        DispatchBindGroupLayout::custom(Self::new(&self.object.link, request, Vec::new()))
    }
}

pub(super) fn id(made: Option<&Made>) -> u64 {
    made.expect("an object of Dawn's").object.id
}
