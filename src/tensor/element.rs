//! What tensors have as elements.

use std::fmt;

use bytemuck::{Pod, Zeroable};
use half::{bf16, f16};

use crate::engine::WORD_BYTES;
use crate::state::Saved;

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
