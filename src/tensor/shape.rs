//! The sizes of a tensor's dimensions.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::Format;
use crate::error::{Error, Result, ensure, within};

/// The sizes of a tensor's dimensions, row-major: the last one varies fastest. `[]` is a scalar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(Arc<[usize]>);

impl Shape {
    /// The number of elements, or `None` if the product of the nonzero dimensions overflows.
    #[must_use]
    pub fn checked_len(&self) -> Option<usize> {
        let product = self.0.iter().try_fold(1usize, |len, &dim| len.checked_mul(dim.max(1)))?;
        Some(if self.0.contains(&0) { 0 } else { product })
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Self(Arc::new(dims))
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Self(dims.into())
    }
}

impl<const N: usize> From<&[usize; N]> for Shape {
    fn from(dims: &[usize; N]) -> Self {
        Self(Arc::new(*dims))
    }
}

impl From<&Vec<usize>> for Shape {
    fn from(dims: &Vec<usize>) -> Self {
        Self(dims.as_slice().into())
    }
}

impl From<&Self> for Shape {
    fn from(shape: &Self) -> Self {
        shape.clone()
    }
}

impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Self {
        Self(dims.into())
    }
}

/// Checks the shape of a tensor.
pub(crate) fn expect_shape(op: &'static str, what: &'static str, got: &Shape, expected: &Shape) -> Result<()> {
    ensure!(got == expected, Error::shape(op, what, format!("shape {expected}"), format!("shape {got}")));
    Ok(())
}

/// The number of bytes for a tensor of this shape.
pub(crate) fn bytes_of(op: &'static str, shape: &Shape, format: Format) -> Result<u64> {
    Ok(element_count(op, shape)? * format.bytes())
}

/// Converts a size for kernels. Dimensions of tensors are below 2^32.
pub(crate) fn size32(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

pub(super) fn expect_len(op: &'static str, shape: &Shape, elements: u64, got: usize) -> Result<()> {
    let same = got as u64 == elements;
    ensure!(same, Error::shape(op, "the slice", format!("{elements} elements for shape {shape}"), got));
    Ok(())
}

/// The number of elements. Checks that every dimension is a `u32`, and that the product of the
/// nonzero dimensions is within the limit, so that nothing computed from a tensor's shape
/// overflows, even if the tensor is empty.
pub(crate) fn element_count(op: &'static str, shape: &Shape) -> Result<u64> {
    // On the web a `usize` has 32 bits.
    const MOST: u64 = if usize::BITS < 64 { usize::MAX as u64 } else { 1 << 44 };
    shape.iter().try_for_each(|&dim| within(op, "a dimension", dim as u64, u32::MAX))?;
    let product = shape.iter().try_fold(1u64, |len, &dim| len.checked_mul(dim.max(1) as u64)).unwrap_or(u64::MAX);
    within(op, "the number of elements", product, MOST)?;
    Ok(if shape.contains(&0) { 0 } else { product })
}
