//! Records operations into an encoder.

use std::ops::Range;
use std::sync::Arc;

use super::held::Held;
use super::profile::Profile;
use super::readback::{Readback, end_of};
use crate::engine::kernel::{Kernel, Variant};
use crate::engine::{Caps, Gpu, Role, Storage, WORD_BYTES, guard, storage_size};
use crate::error::{Error, Result};
use crate::tensor::{Element, Format, Real, Shape, Tensor, bytes_of};

/// Records operations into an encoder.
///
/// The operations are methods of this type. Each validates its arguments before it records
/// anything, so an invalid argument leaves the encoder unchanged. (Three errors can occur after the
/// first dispatches of an operation: out of memory, a lost device, and too few storage bindings.
/// The dispatches recorded before the error may write outputs, including tensors written in place.)
/// A recorder never submits. [`Gpu::record`] borrows the caller's encoder; a
/// [`Batch`](super::Batch) has its own.
#[derive(Debug)]
pub struct Recorder<'e> {
    gpu: Gpu,
    pub(super) encoder: Encoder<'e>,
    pass: Option<wgpu::ComputePass<'static>>,
    pub(super) arenas: Vec<Arena>,
    profile: Option<Profile>,
    /// All bound memory, kept alive at least until the work is submitted (for the caller's encoder:
    /// until it is done).
    pub(super) held: Held,
    /// In a warm-up: the kernels of the launches, which are not recorded.
    pub(super) wanted: Option<Vec<(&'static Kernel, Variant)>>,
}

#[derive(Debug)]
pub(super) enum Encoder<'e> {
    Own(wgpu::CommandEncoder),
    Callers(&'e mut wgpu::CommandEncoder),
    /// The encoder of a batch that has been submitted.
    Submitted,
}

/// A uniform buffer with the parameters of many dispatches, addressed by dynamic offsets and
/// uploaded once.
#[derive(Debug)]
pub(super) struct Arena {
    pub(crate) storage: Arc<Storage>,
    pub(super) bytes: Vec<u8>,
}

impl Arena {
    pub(super) const BYTES: u64 = Caps::MIN_BUFFER;
}

/// A part of a tensor as a binding: an aligned range of memory, and the position of the part inside
/// it.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) storage: Arc<Storage>,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    /// The index of the first element, counted from the start of the binding.
    pub(crate) base: u32,
    /// Whether position and length are multiples of a quad.
    pub(crate) quads: bool,
    /// Whether this is the default scalar 1.
    pub(crate) one: bool,
    pub(crate) format: Format,
}

impl<'e> Recorder<'e> {
    pub(super) fn new(gpu: &Gpu, encoder: Encoder<'e>) -> Self {
        let (gpu, arenas, held) = (gpu.clone(), Vec::new(), Held::new());
        Self { gpu, encoder, pass: None, arenas, profile: None, held, wanted: None }
    }

    /// The device this recorder records for.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Copies the values that a tensor has at this point of the recording to memory that the host
    /// can read.
    ///
    /// # Errors
    /// [`Error::ForeignTensor`]; [`Error::Gpu`] if there is no memory for the copy. The ticket
    /// reports later errors.
    pub fn read<T: Element>(&mut self, tensor: &Tensor<T>) -> Result<Readback<Vec<T>>> {
        self.check_device("read", "the tensor", tensor)?;
        // Copies consist of whole words, but halves can start and end inside a word.
        let Range { start, end } = tensor.bytes();
        let (start, skipped) = (start / WORD_BYTES * WORD_BYTES, start % WORD_BYTES);
        let bytes = end.next_multiple_of(WORD_BYTES) - start;
        let staging = self.gpu.allocate("read", Role::Staging, Readback::<Vec<T>>::staging_bytes(bytes))?;
        let check = tensor.check().cloned();
        self.copy_bytes((tensor.storage(), start), (&staging, 0), bytes)?;
        if let Some(check) = &check {
            self.copy_bytes((&check.storage, check.offset), (&staging, bytes), WORD_BYTES)?;
        }
        let check_of = check.as_ref().map(|check| (check.op, check.what));
        let ticket = self.ticket("read", staging, (skipped, tensor.len()), check_of)?;
        self.held.retain(tensor.storage());
        check.iter().for_each(|check| self.held.retain(&check.storage));
        Ok(ticket)
    }

    /// A ticket for `len` elements after `skipped` bytes of `staging`. The commands recorded so far
    /// must fill `staging` up to the end of these elements.
    pub(crate) fn ticket<T: Element>(
        &mut self,
        op: &'static str,
        staging: Storage,
        (skipped, len): (u64, usize),
        check: Option<(&'static str, &'static str)>,
    ) -> Result<Readback<Vec<T>>> {
        // wgpu maps the memory even if it rejects the commands. A word that the commands clear
        // shows whether they ran.
        let bytes = end_of::<T>(skipped, len).next_multiple_of(WORD_BYTES);
        let (buffer, at) = staging.at(bytes + WORD_BYTES);
        let buffer = buffer.clone();
        guard(self.gpu.device(), op, || self.gpu.queue().write_buffer(&buffer, at, &[0xff; 4]))?;
        let buffers: Vec<wgpu::Buffer> = staging.buffers().cloned().collect();
        let (ticket, arrivals) = Readback::staged(self.gpu.device().clone(), staging, (skipped, len), check);
        let encoder = self.between_passes().ok_or(Error::NotSubmitted)?;
        encoder.clear_buffer(&buffer, at, Some(WORD_BYTES));
        for (buffer, arrived) in buffers.iter().zip(arrivals) {
            encoder.map_buffer_on_submit(buffer, wgpu::MapMode::Read, .., arrived);
        }
        Ok(ticket)
    }

    /// Writes values into a tensor at this point of the recording, through staging memory that is
    /// reused once the device has copied from it. ([`Tensor::write`] takes effect before everything
    /// recorded.)
    ///
    /// # Errors
    /// [`Error::Shape`] if the slice's length is not the tensor's; [`Error::Buffer`] if halves
    /// begin or end inside a word; [`Error::ForeignTensor`]; [`Error::Gpu`] if there is no memory
    /// for the copy.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let x = Tensor::zeros(&gpu, [2])?;
    /// let mut batch = gpu.batch();
    /// batch.upload(&x, &[1.0, -2.0f32])?;
    /// let y = batch.relu(&x)?;
    /// batch.upload(&x, &[0.0, 0.0])?;
    /// let mut y = batch.read(&y)?;
    /// batch.submit()?;
    /// assert_eq!(y.wait(Duration::from_secs(10))?, [1.0, 0.0]);
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn upload<T: Element>(&mut self, tensor: &Tensor<T>, data: &[T]) -> Result<()> {
        self.check_device("upload", "the tensor", tensor)?;
        tensor.expect_len("upload", data)?;
        tensor.expect_words("upload")?;
        if data.is_empty() {
            return Ok(());
        }
        let bytes: &[u8] = bytemuck::cast_slice(data);
        let most = usize::try_from(self.gpu.caps().max_buffer).unwrap_or(usize::MAX);
        let mut offset = tensor.bytes().start;
        for bytes in bytes.chunks(most) {
            let length = bytes.len() as u64;
            let mut upload = self.gpu.allocate("upload", Role::Upload, length)?;
            // Nobody else may take the memory before the device has copied from it and mapped it
            // again.
            let home = upload.home.take();
            upload.buffer().get_mapped_range_mut(..length).map_err(Error::MapRange)?.copy_from_slice(bytes);
            guard(self.gpu.device(), "upload", || upload.buffer().unmap())?;
            self.copy_bytes((&upload, 0), (tensor.storage(), offset), length)?;
            let buffer = upload.buffer().clone();
            let encoder = self.between_passes().ok_or(Error::NotSubmitted)?;
            encoder.map_buffer_on_submit(&buffer, wgpu::MapMode::Write, .., move |mapped| {
                if mapped.is_ok() {
                    upload.home = home;
                }
                drop(upload);
            });
            offset += length;
        }
        self.hold(tensor);
        Ok(())
    }

    /// Copies a tensor's values, in whole words, into another tensor of the same shape.
    pub(crate) fn copy<T: Element>(&mut self, from: &Tensor<T>, to: &Tensor<T>) -> Result<()> {
        let Range { start, end } = from.bytes();
        self.copy_between((from, 0), (to, 0), end - start)?;
        self.hold(from);
        self.hold(to);
        Ok(())
    }

    /// Copies whole words from one tensor to another. Both positions are in bytes from the start of
    /// the tensor. The caller must [`hold`](Self::hold) both.
    pub(crate) fn copy_between<T: Element>(
        &mut self,
        (from, first): (&Tensor<T>, u64),
        (to, to_first): (&Tensor<T>, u64),
        bytes: u64,
    ) -> Result<()> {
        let (first, to_first) = (from.bytes().start + first, to.bytes().start + to_first);
        self.copy_bytes((from.storage(), first), (to.storage(), to_first), bytes)
    }

    /// Keeps a tensor's memory until the work is submitted.
    pub(crate) fn hold<T: Element>(&mut self, tensor: &Tensor<T>) {
        self.held.retain(tensor.storage());
    }

    /// Copies whole words between positions in two different memories.
    pub(crate) fn copy_bytes(
        &mut self,
        (from, first): (&Storage, u64),
        (to, to_first): (&Storage, u64),
        bytes: u64,
    ) -> Result<()> {
        let encoder = self.between_passes().ok_or(Error::NotSubmitted)?;
        let mut at = to_first;
        for (source, piece) in from.pieces(first..first + bytes) {
            let mut start = piece.start;
            let end = at + (piece.end - piece.start);
            for (destination, part) in to.pieces(at..end) {
                let length = part.end - part.start;
                encoder.copy_buffer_to_buffer(source, start, destination, part.start, length);
                start += length;
            }
            at = end;
        }
        Ok(())
    }

    /// Fills a tensor with zeros.
    pub(crate) fn fill_zero<T: Element>(&mut self, tensor: &Tensor<T>) -> Result<()> {
        let encoder = self.between_passes().ok_or(Error::NotSubmitted)?;
        for (buffer, piece) in tensor.buffers() {
            encoder.clear_buffer(buffer, piece.start, Some(piece.end - piece.start));
        }
        self.hold(tensor);
        Ok(())
    }

    /// Allocates an output of an operation, or reuses one that nobody holds.
    pub(crate) fn output<T: Element>(&mut self, op: &'static str, shape: impl Into<Shape>) -> Result<Tensor<T>> {
        Ok(self.output_of(op, shape, T::FORMAT)?.retyped())
    }

    /// An output whose elements are stored in `format`.
    pub(crate) fn output_of(
        &mut self,
        op: &'static str,
        shape: impl Into<Shape>,
        format: Format,
    ) -> Result<Tensor<Real>> {
        let shape = shape.into();
        let bytes = bytes_of(op, &shape, format)?;
        let storage = self.output_storage(op, bytes)?;
        Ok(Tensor::<Real>::over(&self.gpu, storage, 0, shape).of_format(format))
    }

    pub(crate) fn output_storage(&mut self, op: &'static str, bytes: u64) -> Result<Arc<Storage>> {
        match self.held.free_output(storage_size(bytes, self.gpu.caps().max_buffer)) {
            Some(storage) => Ok(storage),
            None => Ok(self.held.register_output(self.gpu.allocate(op, Role::Storage, bytes)?)),
        }
    }

    /// Checks that a tensor belongs to this recorder's device.
    pub(crate) fn check_device<T: Element>(
        &self,
        op: &'static str,
        what: &'static str,
        tensor: &Tensor<T>,
    ) -> Result<()> {
        if tensor.gpu().is_same_device(&self.gpu) { Ok(()) } else { Err(Error::ForeignTensor { op, what }) }
    }

    /// Elements `start .. start + len` of a tensor, as a binding. `len` is at least 1.
    pub(crate) fn window<T: Element>(&self, tensor: &Tensor<T>, start: u64, len: u64) -> Window {
        let align = u64::from(self.gpu.caps().storage_align);
        let format = tensor.format();
        let first = tensor.bytes().start + start * format.bytes();
        let offset = first / align * align;
        let residue = (first - offset) / format.bytes();
        Window {
            storage: tensor.storage().clone(),
            offset,
            size: (first - offset + len * format.bytes()).next_multiple_of(WORD_BYTES),
            base: u32::try_from(residue).unwrap_or(u32::MAX),
            quads: residue.is_multiple_of(4) && len.is_multiple_of(4),
            one: Arc::ptr_eq(tensor.storage(), self.gpu.memory_of_one()),
            format,
        }
    }

    /// A whole tensor as a binding. The tensor is not empty.
    pub(crate) fn whole<T: Element>(&self, tensor: &Tensor<T>) -> Window {
        self.window(tensor, 0, tensor.len() as u64)
    }

    /// Returns the open compute pass; begins one if there is none. All dispatches between two
    /// copies share one, unless they are timed.
    pub(crate) fn pass(&mut self, label: &'static str) -> Option<&mut wgpu::ComputePass<'static>> {
        let profiling = self.profile.is_some();
        let timestamp_writes = self.profile.as_mut().and_then(|profile| profile.next(label));
        if self.pass.is_none() || profiling {
            self.pass = None;
            let descriptor = wgpu::ComputePassDescriptor { label: Some("xent"), timestamp_writes };
            self.pass = Some(self.encoder.get()?.begin_compute_pass(&descriptor).forget_lifetime());
        }
        self.pass.as_mut()
    }

    /// Starts or stops timing. Returns the profile so far.
    pub(crate) fn set_profile(&mut self, profile: Option<Profile>) -> Option<Profile> {
        // An open pass keeps the timestamp queries of the old profile, or none.
        self.pass = None;
        std::mem::replace(&mut self.profile, profile)
    }

    /// The encoder, with no pass open.
    pub(crate) fn between_passes(&mut self) -> Option<&mut wgpu::CommandEncoder> {
        self.pass = None;
        self.encoder.get()
    }

    /// Ends the pass and uploads the parameters. The arenas belong to this recording alone until
    /// its work is submitted, so the upload may happen at any time before the submission.
    pub(super) fn upload_params(&mut self) -> Result<()> {
        self.pass = None;
        guard(self.gpu.device(), "params", || {
            for arena in self.arenas.drain(..) {
                self.gpu.queue().write_buffer(arena.storage.buffer(), 0, &arena.bytes);
            }
        })
    }

    fn close(&mut self) -> Result<()> {
        self.pass = None;
        let held = std::mem::replace(&mut self.held, Held::new());
        if let Encoder::Callers(encoder) = &mut self.encoder
            && !held.is_empty()
        {
            encoder.on_submitted_work_done(move || drop(held));
            self.upload_params()?;
        }
        Ok(())
    }

    /// Ends the recording. Dropping the recorder does the same, but cannot report errors.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the device is out of memory. A lost device may be reported only by a
    /// readback.
    pub fn finish(mut self) -> Result<()> {
        self.close()
    }
}

impl Encoder<'_> {
    fn get(&mut self) -> Option<&mut wgpu::CommandEncoder> {
        match self {
            Self::Own(encoder) => Some(encoder),
            Self::Callers(encoder) => Some(encoder),
            Self::Submitted => None,
        }
    }
}

impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        // Errors are dropped here; `finish` reports them.
        let _ = self.close();
    }
}
