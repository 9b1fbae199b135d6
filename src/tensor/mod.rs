//! Tensors on the GPU: a range of memory and a shape.

mod element;
mod shape;
mod weights;

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use crate::engine::{Gpu, Role, Storage, WORD_BYTES, guard};
use crate::error::{Error, Result, ensure, within};
use crate::plan::{PerRow, Placed};
pub use element::{Element, Float};
pub(crate) use element::{Format, Real, Saved, narrow};
pub use shape::Shape;
use shape::expect_len;
pub(crate) use shape::{bytes_of, element_count, expect_shape, size32};
pub use weights::Weights;

/// The place where kernels report out-of-range data. A readback of the tensor checks it.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    pub(crate) op: &'static str,
    pub(crate) what: &'static str,
    pub(crate) storage: Arc<Storage>,
    /// Byte offset of the word that holds the first position of bad data, or `u32::MAX` if there is
    /// none.
    pub(crate) offset: u64,
}

/// A row-major, contiguous tensor on the GPU: a range of memory and a [`Shape`] of any rank.
///
/// A tensor may be larger than a binding or a buffer of the device. Its memory is then [several
/// buffers](Self::buffers), and operations process it in ranges. Operations on elements take less
/// than 2^32 elements, operations on rows less than 2^32 rows; results do not depend on the ranges.
///
/// A clone refers to the same memory. Tensors made by this crate return their buffer to the
/// [`Gpu`]'s pool when the last clone is dropped and the work that uses it is submitted; a recorder
/// may reuse the memory of its own results before that.
#[derive(Clone)]
pub struct Tensor<T: Element> {
    gpu: Gpu,
    storage: Arc<Storage>,
    /// In bytes, from the start of the storage.
    offset: u64,
    shape: Shape,
    format: Format,
    check: Option<Check>,
    element: PhantomData<T>,
}

impl<T: Element> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let element = std::any::type_name::<T>();
        write!(f, "Tensor<{element}> {{ shape: {}, offset: {} }}", self.shape, self.offset)
    }
}

impl<T: Element> Tensor<T> {
    /// Uploads a slice.
    ///
    /// The copy takes effect at the start of the next submission to the queue.
    ///
    /// # Errors
    /// [`Error::Shape`] if the slice's length does not match the shape; [`Error::Limit`] if the
    /// tensor is absurdly large; [`Error::Gpu`] if the device is out of memory.
    ///
    /// # Examples
    /// ```
    /// # let Ok(gpu) = xent::Gpu::headless() else { return Ok(()) };
    /// let logits = xent::Tensor::from_slice(&gpu, [2, 3], &[0.1, 0.2, 0.7, -1.0, 0.0, 1.0f32])?;
    /// assert_eq!(logits.shape()[..], [2, 3]);
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn from_slice(gpu: &Gpu, shape: impl Into<Shape>, data: &[T]) -> Result<Self> {
        let (op, shape) = ("from_slice", shape.into());
        expect_len(op, &shape, element_count(op, &shape)?, data.len())?;
        let tensor = Self::uninit(gpu, op, shape)?;
        tensor.fill(data)?;
        Ok(tensor)
    }

    /// Creates a tensor of zeros on the device, in a submission of its own. (As at any submission,
    /// wgpu may call the callbacks of finished work.)
    ///
    /// # Errors
    /// [`Error::Limit`] if the tensor is absurdly large; [`Error::Gpu`] if the device is out of
    /// memory.
    pub fn zeros(gpu: &Gpu, shape: impl Into<Shape>) -> Result<Self> {
        let tensor = Self::uninit(gpu, "zeros", shape.into())?;
        gpu.clear("zeros", &tensor.storage)?;
        Ok(tensor)
    }

    /// Creates a tensor with all elements equal to `value`.
    pub(crate) fn filled(gpu: &Gpu, op: &'static str, shape: Shape, value: T) -> Result<Self> {
        // Even, so that halves fill whole words.
        const AT_ONCE: usize = 1 << 20;
        let tensor = Self::uninit(gpu, op, shape)?;
        let block = vec![value; tensor.len().min(AT_ONCE)];
        for start in (0..tensor.len()).step_by(AT_ONCE) {
            let len = AT_ONCE.min(tensor.len() - start);
            tensor.part(start, [len].into()).fill(block.get(..len).unwrap_or_default())?;
        }
        Ok(tensor)
    }

    /// Uses the caller's buffer, from a byte offset on, without a copy.
    ///
    /// The buffer must belong to the same device, must not be mapped or destroyed while work that
    /// uses it is submitted, and must not belong to a tensor that is dropped meanwhile; wgpu offers
    /// no way to check any of this. Using a buffer of another device of the same `wgpu::Instance`
    /// returns [`Error::Gpu`]; a buffer of another instance makes wgpu panic, or is mistaken for
    /// some buffer of this device.
    ///
    /// # Errors
    /// [`Error::Buffer`] if the buffer lacks the usages `STORAGE | COPY_SRC | COPY_DST`, is too
    /// small (the last of an odd number of halves takes a whole word), or the offset is not a
    /// multiple of 4.
    pub fn from_buffer(gpu: &Gpu, buffer: wgpu::Buffer, offset: u64, shape: impl Into<Shape>) -> Result<Self> {
        const OP: &str = "from_buffer";
        let shape = shape.into();
        let fail = |expected: String, got: String| Error::Buffer { op: OP, expected, got };
        let (usage, given) = (Role::Storage.usage_flags(), buffer.usage());
        ensure!(given.contains(usage), fail(format!("the usages {usage:?}"), format!("{given:?}")));
        let aligned = offset.is_multiple_of(WORD_BYTES);
        ensure!(aligned, fail("an offset that is a multiple of 4".into(), offset.to_string()));
        let needed = bytes_of(OP, &shape, T::FORMAT)?.next_multiple_of(WORD_BYTES).max(WORD_BYTES);
        if buffer.size().saturating_sub(offset) < needed {
            let expected = format!("{needed} bytes from offset {offset} on");
            return Err(fail(expected, format!("{} bytes in all", buffer.size())));
        }
        Ok(Self::over(gpu, Arc::new(Storage::unpooled(buffer)), offset, shape))
    }

    /// A tensor whose contents are undefined until a kernel or a copy writes them.
    pub(crate) fn uninit(gpu: &Gpu, op: &'static str, shape: Shape) -> Result<Self> {
        let storage = Arc::new(gpu.allocate(op, Role::Storage, bytes_of(op, &shape, T::FORMAT)?)?);
        Ok(Self::over(gpu, storage, 0, shape))
    }

    pub(crate) fn over(gpu: &Gpu, storage: Arc<Storage>, offset: u64, shape: Shape) -> Self {
        Self { gpu: gpu.clone(), storage, offset, shape, format: T::FORMAT, check: None, element: PhantomData }
    }

    /// Replaces the contents. The copy takes effect at the start of the next submission to the
    /// queue, before all work of that submission, whenever it was recorded.
    ///
    /// # Errors
    /// [`Error::Shape`] if the slice's length does not match the tensor's; [`Error::Buffer`] if
    /// halves begin or end inside a word, which may hold other data; [`Error::Gpu`] if the device
    /// is out of memory. A lost device may show only at a readback.
    pub fn write(&self, data: &[T]) -> Result<()> {
        self.expect_len("write", data)?;
        self.expect_words("write")?;
        self.fill(data)
    }

    pub(crate) fn expect_len(&self, op: &'static str, data: &[T]) -> Result<()> {
        expect_len(op, &self.shape, self.len() as u64, data.len())
    }

    /// Checks that the tensor consists of whole words, because copies write whole words.
    pub(crate) fn expect_words(&self, op: &'static str) -> Result<()> {
        let Range { start, end } = self.bytes();
        if start.is_multiple_of(WORD_BYTES) && end.is_multiple_of(WORD_BYTES) {
            return Ok(());
        }
        let expected = "a tensor that begins and ends with a word".to_owned();
        Err(Error::Buffer { op, expected, got: format!("bytes {start} to {end}") })
    }

    /// Writes the contents, up to the end of the last word.
    fn fill(&self, data: &[T]) -> Result<()> {
        let mut bytes: std::borrow::Cow<'_, [u8]> = bytemuck::cast_slice(data).into();
        if !bytes.len().is_multiple_of(4) {
            bytes.to_mut().extend([0; 2]);
        }
        let mut rest = &bytes[..];
        for (buffer, piece) in self.storage.pieces(self.offset..self.offset + bytes.len() as u64) {
            let length = usize::try_from(piece.end - piece.start).unwrap_or(usize::MAX);
            let (here, later) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            guard(self.gpu.device(), "write", || self.gpu.queue().write_buffer(buffer, piece.start, here))?;
            rest = later;
        }
        Ok(())
    }

    /// Returns the same elements with another shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of elements differs; [`Error::Limit`] if a dimension is 0 and
    /// the product of the others is absurdly large.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        ensure!(
            shape.checked_len() == Some(self.len()),
            Error::shape("reshape", "the new shape", format!("the {} elements of {}", self.len(), self.shape), shape)
        );
        element_count("reshape", &shape)?;
        Ok(Self { shape, ..self.clone() })
    }

    /// Returns a range of the first dimension, without a copy.
    ///
    /// # Errors
    /// [`Error::Shape`] if the tensor is a scalar or the range is outside the first dimension.
    pub fn rows(&self, rows: Range<usize>) -> Result<Self> {
        let fail = |expected: String| Error::shape("rows", "the range", expected, format!("{rows:?}"));
        let Some((&first, rest)) = self.shape.split_first() else {
            return Err(fail("a tensor with a first dimension".into()));
        };
        ensure!(rows.start <= rows.end && rows.end <= first, fail(format!("ends within 0..{first}")));
        let row: usize = rest.iter().product();
        let dims: Vec<usize> = std::iter::once(rows.len()).chain(rest.iter().copied()).collect();
        let offset = self.offset + (rows.start * row) as u64 * self.format.bytes();
        Ok(Self { shape: dims.into(), offset, ..self.clone() })
    }

    /// Returns the elements of a flat tensor from `start` on, with this shape. The caller has
    /// checked that they lie inside the tensor.
    pub(crate) fn part(&self, start: usize, shape: Shape) -> Self {
        Self { shape, offset: self.offset + start as u64 * self.format.bytes(), ..self.clone() }
    }

    /// The sizes of the dimensions.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer that holds the elements, from [`offset`](Self::offset) on; if the tensor spans
    /// several buffers, the first one. The buffer may be larger than the tensor. Keep the tensor
    /// while your own commands, or tensors made from its buffer, are in use: once its last clone
    /// is dropped, even a recorder that has not submitted yet may reuse the buffer.
    #[must_use]
    pub fn buffer(&self) -> &wgpu::Buffer {
        self.storage.at(self.offset).0
    }

    /// The byte offset of the tensor in its [`buffer`](Self::buffer).
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.storage.at(self.offset).1
    }

    /// The buffers that hold the elements, and the byte range in each, in order: one buffer, or
    /// several if the tensor is larger than a buffer. Empty if the tensor has no elements.
    ///
    /// # Examples
    /// ```
    /// # let Ok(gpu) = xent::Gpu::headless() else { return Ok(()) };
    /// let gpu = gpu.with_caps(xent::Caps { max_buffer: 1 << 16, max_binding: 1 << 16, ..gpu.caps().clone() })?;
    /// let tensor = xent::Tensor::<f32>::zeros(&gpu, [20_000])?;
    /// let sizes: Vec<u64> = tensor.buffers().map(|(_, bytes)| bytes.end - bytes.start).collect();
    /// assert_eq!(sizes, [65536, 14464]);
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn buffers(&self) -> impl Iterator<Item = (&wgpu::Buffer, Range<u64>)> {
        self.storage.pieces(self.bytes())
    }

    /// The byte range of the elements in the storage.
    pub(crate) fn bytes(&self) -> Range<u64> {
        self.offset..self.offset + self.len() as u64 * self.format.bytes()
    }

    /// Whether the two tensors share memory.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.buffers()
            .any(|(buffer, a)| other.buffers().any(|(other, b)| buffer == other && a.start < b.end && b.start < a.end))
    }

    /// The number of elements, as the `u32` that kernels count with.
    pub(crate) fn count(&self, op: &'static str) -> Result<u32> {
        within(op, "the number of elements", self.len() as u64, u32::MAX)?;
        Ok(size32(self.len()))
    }

    /// The position of the tensor in its memory, for the planner.
    pub(crate) fn placed(&self) -> Placed {
        Placed { offset: self.offset, element: self.format.bytes(), segment: self.storage.segment() }
    }

    /// The tensor for a [`RowSplit`](crate::plan::RowSplit), with this many elements per row.
    pub(crate) fn per_row(&self, elements: u64) -> PerRow {
        self.placed().per_row(elements)
    }

    pub(crate) fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    pub(crate) fn check(&self) -> Option<&Check> {
        self.check.as_ref()
    }

    pub(crate) fn with_check(self, check: Option<Check>) -> Self {
        Self { check, ..self }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Changes the element type. The memory and its format stay the same.
    pub(crate) fn retyped<U: Element>(&self) -> Tensor<U> {
        let Self { gpu, storage, offset, shape, format, check, element: _ } = self.clone();
        Tensor { gpu, storage, offset, shape, format, check, element: PhantomData }
    }

    pub(crate) fn gpu(&self) -> &Gpu {
        &self.gpu
    }
}

impl Gpu {
    /// A scalar 1.
    pub(crate) fn one(&self) -> Tensor<f32> {
        Tensor::over(self, self.memory_of_one().clone(), 0, Shape::default())
    }
}

impl<T: Float> Tensor<T> {
    /// The tensor without its element type, for code that handles every format.
    pub(crate) fn real(&self) -> Tensor<Real> {
        self.retyped()
    }
}

impl Tensor<Real> {
    /// The tensor with its element type, which the caller knows.
    pub(crate) fn typed<T: Float>(&self) -> Tensor<T> {
        debug_assert_eq!(self.format, T::FORMAT);
        self.retyped()
    }

    /// Sets the format of the elements in storage.
    pub(crate) fn of_format(self, format: Format) -> Self {
        Self { format, ..self }
    }
}

#[cfg(not(target_arch = "wasm32"))]
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Tensor<f32>>();
    shared::<Gpu>();
    shared::<Error>();
};
