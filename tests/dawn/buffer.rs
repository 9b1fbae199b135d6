//! Dawn's buffers, and the host's view of them.

#![expect(unsafe_code, reason = "the traits declare unsafe functions; none is called here")]

use std::ops::Range;
use std::sync::{Arc, Mutex};

use serde_json::json;
use wgpu::custom::*;

use super::link::lock;
use super::object::Object;

/// The host's copy of a buffer while it is mapped.
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
pub(super) struct DawnBuffer {
    shared: Arc<Shared>,
}

impl DawnBuffer {
    pub(super) fn new(object: Arc<Object>, size: u64, mapped_at_creation: bool) -> Self {
        let mapped = Mutex::new(mapped_at_creation.then(|| Mapped::to_write(size)));
        Self { shared: Arc::new(Shared { object, size, mapped }) }
    }

    pub(super) fn id(&self) -> u64 {
        self.shared.object.id
    }
}

pub(super) fn buffer_id(buffer: &DispatchBuffer) -> u64 {
    buffer.as_custom::<DawnBuffer>().expect("a buffer of Dawn's").id()
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

/// A range of a mapped buffer. Dropping it writes its bytes back.
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
