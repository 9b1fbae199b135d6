//! Buffers that are used again: a training loop allocates in its first step only.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::error::{Error, Result};
use crate::gpu::guard;

/// What a buffer is used for; buffers of different roles never share memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Tensors and scratch.
    Storage,
    /// Kernel parameters.
    Params,
    /// Memory that the host maps to read results.
    Staging,
    /// Memory that the host writes and the device copies from. Mapped whenever it is in the pool.
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
/// A buffer comes back when the last [`Storage`] that holds it is dropped. Recorders hold every storage they bind until
/// their work is submitted, so a buffer is never handed out while unsubmitted work still refers to it; work that is
/// submitted runs before whatever is recorded for the buffer's next user.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: Mutex<Free>,
    created: AtomicU64,
    in_use: AtomicU64,
    most_in_use: AtomicU64,
}

impl Pool {
    /// How many buffers were created, ever.
    pub(crate) fn created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }

    /// Bytes of the buffers that are in use, and the most that there were at a time.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.in_use.load(Ordering::Relaxed), self.most_in_use.load(Ordering::Relaxed))
    }

    /// From here on the most is counted anew.
    pub(crate) fn reset_most(&self) {
        self.most_in_use.store(self.in_use.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// A buffer of at least `bytes` (at least 16, in a size class), with undefined contents.
    pub(crate) fn take(
        self: &Arc<Self>,
        device: &wgpu::Device,
        op: &'static str,
        role: Role,
        bytes: u64,
        max_buffer: u64,
    ) -> Result<Storage> {
        let size = buffer_size(op, bytes, max_buffer)?;
        let reused = lock(&self.free).get_mut(&(role, size)).and_then(Vec::pop);
        let buffer = match reused {
            Some(buffer) => buffer,
            None => {
                self.created.fetch_add(1, Ordering::Relaxed);
                guard(device, op, || {
                    device.create_buffer(&wgpu::BufferDescriptor {
                        label: Some("xent.pool"),
                        size,
                        usage: role.usage_flags(),
                        mapped_at_creation: role == Role::Upload,
                    })
                })?
            }
        };
        let now = self.in_use.fetch_add(size, Ordering::Relaxed) + size;
        self.most_in_use.fetch_max(now, Ordering::Relaxed);
        Ok(Storage { buffer, home: Some((Arc::downgrade(self), role)), counted: Arc::downgrade(self), recorder: 0 })
    }

    fn give_back(&self, role: Role, buffer: wgpu::Buffer) {
        lock(&self.free).entry((role, buffer.size())).or_default().push(buffer);
    }

    /// Drops every free buffer.
    pub(crate) fn clear(&self) {
        lock(&self.free).clear();
    }
}

fn lock(free: &Mutex<Free>) -> std::sync::MutexGuard<'_, Free> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The size of the buffer that holds so many bytes.
pub(crate) fn buffer_size(op: &'static str, bytes: u64, max_buffer: u64) -> Result<u64> {
    let needed = bytes.max(16).next_multiple_of(16);
    if needed > max_buffer {
        return Err(Error::Limit { op, what: "a buffer's bytes", needed, allowed: max_buffer });
    }
    Ok(size_class(needed).min(max_buffer))
}

/// Four classes to each power of two: at most a quarter of a buffer is unused, and batches of similar size share.
pub(crate) fn size_class(bytes: u64) -> u64 {
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.next_multiple_of(step)
}

/// A buffer, given back to its pool when dropped; the caller's own buffers have no pool.
#[derive(Debug)]
pub(crate) struct Storage {
    buffer: wgpu::Buffer,
    home: Option<Home>,
    /// The pool that counts its bytes.
    counted: Weak<Pool>,
    /// The recorder whose output it is; 0 if it is none's.
    recorder: u64,
}

/// Where a buffer goes back to.
pub(crate) type Home = (Weak<Pool>, Role);

impl Storage {
    pub(crate) fn callers(buffer: wgpu::Buffer) -> Self {
        Self { buffer, home: None, counted: Weak::new(), recorder: 0 }
    }

    /// The same, as the output of a recorder.
    pub(crate) fn output_of(self, recorder: u64) -> Self {
        let mut output = self;
        output.recorder = recorder;
        output
    }

    pub(crate) fn is_output_of(&self, recorder: u64) -> bool {
        self.recorder == recorder
    }

    /// Keeps the buffer out of the pool: it may still be mapped, or its device lost. Gives what [`Storage::adopt`] takes.
    pub(crate) fn abandon(&mut self) -> Option<Home> {
        self.home.take()
    }

    /// Lets the buffer go back to its pool after all.
    pub(crate) fn adopt(&mut self, home: Option<Home>) {
        self.home = home;
    }
}

impl Deref for Storage {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.buffer
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Some(pool) = self.counted.upgrade() {
            pool.in_use.fetch_sub(self.buffer.size(), Ordering::Relaxed);
        }
        if let Some((pool, role)) = &self.home
            && let Some(pool) = pool.upgrade()
        {
            pool.give_back(*role, self.buffer.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::size_class;

    #[test]
    fn size_classes_hold_what_was_asked_and_waste_little() {
        for bytes in (16..70_000).step_by(16) {
            let class = size_class(bytes);
            assert!(class >= bytes && class.is_multiple_of(16), "{bytes} -> {class}");
            assert!(class - bytes <= (bytes / 4).max(16), "{bytes} -> {class}");
            assert_eq!(class, size_class(class), "a class is its own class");
        }
    }
}
