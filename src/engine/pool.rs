//! A pool of buffers, so that a training loop allocates only in its first step.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::engine::bind_groups::BindGroups;
use crate::engine::guard;
use crate::error::{Error, Result};

/// The unit of buffer copies, and the size of all elements except halves.
pub(crate) const WORD_BYTES: u64 = 4;

/// What a buffer is used for. Buffers are reused only within their role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Tensors and scratch.
    Storage,
    /// Kernel parameters.
    Params,
    /// Memory that the host maps to read results.
    Staging,
    /// Memory that the host writes and the device copies from. It is mapped while it is in the
    /// pool.
    Upload,
}

impl Role {
    pub(crate) fn usage_flags(self) -> wgpu::BufferUsages {
        use wgpu::BufferUsages as U;
        match self {
            Self::Storage => U::STORAGE | U::COPY_SRC | U::COPY_DST,
            Self::Params => U::UNIFORM | U::COPY_DST,
            Self::Staging => U::MAP_READ | U::COPY_DST,
            Self::Upload => U::MAP_WRITE | U::COPY_SRC,
        }
    }
}

type Free = HashMap<(Role, u64), Vec<wgpu::Buffer>>;

/// The free buffers of a [`Gpu`](crate::Gpu).
///
/// A buffer returns to the pool when its [`Storage`] is dropped. Recorders hold every storage they
/// bind until their work is submitted, so a buffer is never handed out while unsubmitted work still
/// refers to it; submitted work runs before anything recorded by the buffer's next user.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: Mutex<Free>,
    /// The bind groups of this pool's buffers.
    pub(crate) bind_groups: BindGroups,
    created: AtomicU64,
    in_use: AtomicU64,
    most_in_use: AtomicU64,
}

impl Pool {
    /// The number of buffers created so far.
    pub(crate) fn created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }

    /// The bytes in use, and their maximum so far.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.in_use.load(Ordering::Relaxed), self.most_in_use.load(Ordering::Relaxed))
    }

    /// Restarts the maximum from the current value.
    pub(crate) fn reset_most(&self) {
        self.most_in_use.store(self.in_use.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Takes memory of at least `bytes` bytes with undefined contents: one buffer, or several if
    /// `bytes` exceeds the largest buffer.
    pub(crate) fn take(
        self: &Arc<Self>,
        device: &wgpu::Device,
        op: &'static str,
        role: Role,
        bytes: u64,
        max_buffer: u64,
    ) -> Result<Storage> {
        let (full, last) = buffers(bytes, max_buffer);
        let full = usize::try_from(full).unwrap_or(usize::MAX);
        let mut sizes = std::iter::repeat_n(max_buffer, full).chain((last > 0).then_some(last));
        // If an allocation fails, the buffers allocated so far are freed rather than pooled: memory
        // is short.
        let first = self.take_buffer(device, op, role, sizes.next().unwrap_or(last))?;
        let mut more = Vec::new();
        for size in sizes {
            more.push(self.take_buffer(device, op, role, size)?);
        }
        let storage = Storage {
            first,
            more,
            home: Some((Arc::downgrade(self), role)),
            counted: Arc::downgrade(self),
            recorder: 0,
        };
        self.count(storage.size());
        Ok(storage)
    }

    fn count(&self, size: u64) {
        let now = self.in_use.fetch_add(size, Ordering::Relaxed) + size;
        self.most_in_use.fetch_max(now, Ordering::Relaxed);
    }

    /// Takes a single buffer. If memory is exhausted, frees the pool and tries again.
    fn take_buffer(&self, device: &wgpu::Device, op: &'static str, role: Role, size: u64) -> Result<wgpu::Buffer> {
        if let Some(buffer) = lock(&self.free).get_mut(&(role, size)).and_then(Vec::pop) {
            return Ok(buffer);
        }
        let create = || guard(device, op, || create_buffer(device, "xent.pool", size, role.usage_flags()));
        let buffer = match create() {
            Err(Error::Gpu { source: wgpu::Error::OutOfMemory { .. }, .. }) => {
                self.clear();
                create()?
            }
            made => made?,
        };
        self.created.fetch_add(1, Ordering::Relaxed);
        Ok(buffer)
    }

    /// Drops every free buffer.
    pub(crate) fn clear(&self) {
        self.bind_groups.clear();
        lock(&self.free).clear();
    }
}

/// Creates a buffer, which is mapped at first if the host writes it.
pub(crate) fn create_buffer(device: &wgpu::Device, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
    let mapped_at_creation = usage.contains(wgpu::BufferUsages::MAP_WRITE);
    device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation })
}

fn lock(free: &Mutex<Free>) -> std::sync::MutexGuard<'_, Free> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The buffers that hold `bytes`: the number of full-size ones, and the size of one more, if any.
fn buffers(bytes: u64, max_buffer: u64) -> (u64, u64) {
    let class = |bytes: u64| size_class(bytes.next_multiple_of(16)).min(max_buffer);
    match bytes.max(16) {
        small if small <= max_buffer => (0, class(small)),
        large if large.is_multiple_of(max_buffer) => (large / max_buffer, 0),
        large => (large / max_buffer, class(large % max_buffer)),
    }
}

/// The size of the memory that holds `bytes`.
pub(crate) fn storage_size(bytes: u64, max_buffer: u64) -> u64 {
    let (full, last) = buffers(bytes, max_buffer);
    full * max_buffer + last
}

/// The size class of an allocation. There are four classes per power of two, so at most a fifth of
/// a buffer is unused (of buffers above 64 bytes), and batches of similar size share buffers.
pub(crate) fn size_class(bytes: u64) -> u64 {
    let step = bytes.checked_next_power_of_two().map_or(1 << 61, |power| power / 8).max(16);
    bytes.checked_next_multiple_of(step).unwrap_or(u64::MAX - 15)
}

/// Memory that returns to its pool when dropped. The caller's own buffers have no pool.
///
/// Memory larger than the largest buffer consists of segments, one buffer each; positions count
/// from the start of the first.
#[derive(Debug)]
pub(crate) struct Storage {
    first: wgpu::Buffer,
    /// The other segments, all as large as the first except for the last.
    more: Vec<wgpu::Buffer>,
    /// The pool that the buffers return to, and their role there; `None` for memory without a pool,
    /// and while a buffer may still be mapped or the device may be lost.
    pub(crate) home: Option<(Weak<Pool>, Role)>,
    /// The pool that counts the bytes.
    counted: Weak<Pool>,
    /// The recorder that allocated the memory as an output; 0 if none.
    recorder: u64,
}

impl Storage {
    /// Memory without a pool, such as the caller's own buffer.
    pub(crate) fn unpooled(buffer: wgpu::Buffer) -> Self {
        Self { first: buffer, more: Vec::new(), home: None, counted: Weak::new(), recorder: 0 }
    }

    /// The same buffer repeated, to simulate huge memory.
    #[cfg(test)]
    pub(crate) fn repeated(buffer: &wgpu::Buffer, times: usize) -> Self {
        let mut repeated = Self::unpooled(buffer.clone());
        repeated.more = vec![buffer.clone(); times - 1];
        repeated
    }

    /// Whether the buffers return to a pool.
    pub(crate) fn is_pooled(&self) -> bool {
        self.home.is_some()
    }

    /// The first buffer: the only one, unless the memory exceeds the largest buffer.
    pub(crate) fn buffer(&self) -> &wgpu::Buffer {
        &self.first
    }

    pub(crate) fn buffers(&self) -> impl Iterator<Item = &wgpu::Buffer> {
        std::iter::once(&self.first).chain(&self.more)
    }

    pub(crate) fn size(&self) -> u64 {
        self.buffers().map(wgpu::Buffer::size).sum()
    }

    /// The size of a segment, if there are several.
    pub(crate) fn segment(&self) -> Option<u64> {
        (!self.more.is_empty()).then(|| self.first.size())
    }

    /// The buffers that hold a range of bytes, each with the range inside it.
    pub(crate) fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = (&wgpu::Buffer, Range<u64>)> {
        let starts = (0u64..).map(|i| i * self.first.size());
        self.buffers().zip(starts).filter_map(move |(buffer, start)| {
            let piece = range.start.max(start)..range.end.min(start + buffer.size());
            (piece.start < piece.end).then(|| (buffer, piece.start - start..piece.end - start))
        })
    }

    /// The buffer at a position, and the offset inside it.
    pub(crate) fn at(&self, position: u64) -> (&wgpu::Buffer, u64) {
        match self.segment() {
            Some(segment) => {
                let last = self.more.len() as u64;
                let i = (position / segment).min(last);
                let buffer = self.buffers().nth(usize::try_from(i).unwrap_or(usize::MAX)).unwrap_or(&self.first);
                (buffer, position - i * segment)
            }
            None => (&self.first, position),
        }
    }

    /// Whether the two share a buffer.
    pub(crate) fn shares_with(&self, other: &Self) -> bool {
        self.buffers().any(|buffer| other.buffers().any(|other| buffer == other))
    }

    /// Marks the memory as an output of a recorder.
    pub(crate) fn output_of(self, recorder: u64) -> Self {
        let mut output = self;
        output.recorder = recorder;
        output
    }

    pub(crate) fn is_output_of(&self, recorder: u64) -> bool {
        self.recorder == recorder
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Some(pool) = self.counted.upgrade() {
            pool.in_use.fetch_sub(self.size(), Ordering::Relaxed);
        }
        if let Some((pool, role)) = &self.home
            && let Some(pool) = pool.upgrade()
        {
            for buffer in self.buffers() {
                lock(&pool.free).entry((*role, buffer.size())).or_default().push(buffer.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{buffers, size_class, storage_size};

    #[test]
    fn size_classes_hold_what_was_asked_and_waste_little() {
        for bytes in (16..70_000).step_by(16) {
            let class = size_class(bytes);
            assert!(class >= bytes && class.is_multiple_of(16), "{bytes} -> {class}");
            assert!(class - bytes <= (bytes / 4).max(16), "{bytes} -> {class}");
            assert_eq!(class, size_class(class), "a class is its own class");
        }
    }

    #[test]
    fn what_is_too_large_for_a_buffer_takes_several() {
        for (bytes, expected) in [
            (0, (0, 16)),
            (1000, (0, 1024)),
            (4096, (0, 4096)),
            (4097, (1, 16)),
            (8192, (2, 0)),
            (9000, (2, 896)),
            (12_000, (2, 4096)),
        ] {
            assert_eq!(buffers(bytes, 4096), expected, "{bytes} bytes");
            assert!(storage_size(bytes, 4096) >= bytes);
        }
    }
}
