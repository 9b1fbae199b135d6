//! Bind groups of pooled buffers. They are kept for later dispatches, because a training step binds
//! the same buffers each time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;

/// A range of a buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BoundRange {
    pub(crate) buffer: wgpu::Buffer,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// The bind groups in use, by layout and bound ranges. A bind group keeps its buffers alive, so only
/// groups of buffers that the pool keeps anyway may be in here.
#[derive(Debug, Default)]
pub(crate) struct BindGroups {
    kept: Mutex<HashMap<(wgpu::BindGroupLayout, Vec<BoundRange>), wgpu::BindGroup>>,
}

impl BindGroups {
    /// Far more than a training step needs. With inputs of ever new sizes, groups are dropped and
    /// created again from time to time.
    const MOST: usize = 4096;

    /// Returns the bind group of these ranges; creates it if there is none.
    pub(crate) fn get(
        &self,
        layout: &wgpu::BindGroupLayout,
        ranges: Vec<BoundRange>,
        create: impl FnOnce(&[BoundRange]) -> Result<wgpu::BindGroup>,
    ) -> Result<wgpu::BindGroup> {
        let key = (layout.clone(), ranges);
        if let Some(group) = self.lock().get(&key) {
            return Ok(group.clone());
        }
        let group = create(&key.1)?;
        let mut kept = self.lock();
        if kept.len() >= Self::MOST {
            kept.clear();
        }
        kept.insert(key, group.clone());
        Ok(group)
    }

    /// Drops all groups, and with them their hold on buffers.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(wgpu::BindGroupLayout, Vec<BoundRange>), wgpu::BindGroup>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
