//! The element types of tensors.

use std::fmt;

use bytemuck::{Pod, Zeroable};
use half::{bf16, f16};
use safetensors::Dtype;

use crate::engine::WORD_BYTES;

/// The element types of tensors: `f32`, `i32`, `u32`, and the halves [`f16`](struct@f16) and
/// [`bf16`].
pub trait Element: Pod + fmt::Debug + Send + Sync + sealed::Sealed {}

/// The element types of real numbers: `f32`, and [`f16`](struct@f16) and [`bf16`], which kernels
/// convert on loads and stores. All arithmetic and all sums are `f32`; stored results are rounded
/// once, to nearest even.
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

/// An element of some [`Float`] type; the tensor's format says which.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Real;

pub(crate) use sealed::Format;

mod sealed {
    /// How elements are stored in memory.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Format {
        /// One per word.
        Word,
        /// Two per word, the first in the low half.
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

/// A type to which the elements of a state's tensors are converted.
pub trait Saved: Pod {
    /// The name of the type in a file.
    const DTYPE: Dtype;
    /// The NaN with all bits set: an optimiser's velocity before the first step.
    const ONES: Self;
    /// Rounds to nearest, ties to even.
    fn nearest(value: f64) -> Self;
    /// Returns the values as `f32` if that is their type.
    ///
    /// # Errors
    /// The values themselves, if they have another type.
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

/// An `f32` that rounds to the same half as the value itself. Rounding to nearest twice would be
/// wrong: the first result could lie halfway between two halves, and the second rounding go the
/// wrong way. So the excess bits are cut off, and if they are not all 0, the last bit is set.
fn odd(value: f64) -> f32 {
    let near = narrow(value);
    if f64::from(near) == value || value.is_nan() {
        return near;
    }
    let past = f64::from(near).abs() > value.abs();
    f32::from_bits((near.to_bits() - u32::from(past)) | 1)
}

/// Rounds a number to the nearest `f32`, the type that kernels take.
#[expect(clippy::cast_possible_truncation, reason = "rounding is intended")]
pub(crate) fn narrow(value: f64) -> f32 {
    value as f32
}
