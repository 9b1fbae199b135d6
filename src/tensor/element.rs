//! What tensors have as elements.

use std::fmt;

use bytemuck::{Pod, Zeroable};
use half::{bf16, f16};
use safetensors::Dtype;

use crate::engine::WORD_BYTES;

/// The element types of tensors: `f32`, `i32`, `u32`, and the halves [`f16`](struct@f16) and [`bf16`].
pub trait Element: Pod + fmt::Debug + Send + Sync + sealed::Sealed {}

/// The element types of real numbers: `f32`, and [`f16`](struct@f16) and [`bf16`], which are converted where kernels load and store them. All
/// arithmetic and all sums are `f32`; what is stored is rounded once, to nearest even.
pub trait Float: Element + Saved {}
impl Float for f32 {}
impl Float for f16 {}
impl Float for bf16 {}

impl Format {
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Word => WORD_BYTES,
            Self::F16 | Self::Bf16 => WORD_BYTES / 2,
        }
    }
}

/// An element of some [`Float`] type; the tensor knows which.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Real;

pub(crate) use sealed::Format;

mod sealed {
    /// How elements lie in memory.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Format {
        /// One a word.
        Word,
        /// Two a word, the first in its low half.
        F16,
        Bf16,
    }

    pub trait Sealed {
        const FORMAT: Format;
    }
}

macro_rules! elements {
    ($($ty:ty: $format:ident),+) => {
        $(impl Element for $ty {}
        impl sealed::Sealed for $ty {
            const FORMAT: Format = Format::$format;
        })+
    };
}
elements!(f32: Word, i32: Word, u32: Word, f16: F16, bf16: Bf16, Real: Word);

/// What the elements of a state's tensors are converted to.
pub trait Saved: Pod {
    /// The name of the type in a file.
    const DTYPE: Dtype;
    /// The NaN with all bits set: what an optimiser has not started yet.
    const ONES: Self;
    /// The value that is nearest, and of two as near the even one.
    fn nearest(value: f64) -> Self;
    /// The elements, if they are `f32`, else as they are.
    ///
    /// # Errors
    /// The values themselves.
    fn into_f32(values: Vec<Self>) -> Result<Vec<f32>, Vec<Self>> {
        Err(values)
    }
}

impl Saved for f32 {
    const DTYPE: Dtype = Dtype::F32;
    const ONES: Self = Self::from_bits(u32::MAX);

    fn nearest(value: f64) -> Self {
        narrow(value)
    }

    fn into_f32(values: Vec<Self>) -> Result<Vec<f32>, Vec<Self>> {
        Ok(values)
    }
}

impl Saved for f16 {
    const DTYPE: Dtype = Dtype::F16;
    const ONES: Self = Self::from_bits(u16::MAX);

    fn nearest(value: f64) -> Self {
        Self::from_f32(odd(value))
    }
}

impl Saved for bf16 {
    const DTYPE: Dtype = Dtype::BF16;
    const ONES: Self = Self::from_bits(u16::MAX);

    fn nearest(value: f64) -> Self {
        Self::from_f32(odd(value))
    }
}

/// An `f32` that rounds to the same half as the value itself. Rounding to nearest twice would not do: the first could end halfway between
/// two halves, and the second go the wrong way. So what does not fit is cut off, and leaves its trace in the last bit.
fn odd(value: f64) -> f32 {
    let near = narrow(value);
    if f64::from(near) == value || value.is_nan() {
        return near;
    }
    let past = f64::from(near).abs() > value.abs();
    f32::from_bits((near.to_bits() - u32::from(past)) | 1)
}

/// A number as kernels take it, rounded to nearest.
#[expect(clippy::cast_possible_truncation, reason = "rounding is meant")]
pub(crate) fn narrow(value: f64) -> f32 {
    value as f32
}
