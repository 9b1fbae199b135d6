//! Slices with a shape.

use super::product;
use crate::error::{Error, Result, expect_len};
use crate::tensor::Shape;

/// The elements of a tensor in row-major order, and its shape.
///
/// Pairs of a slice, an array or a vector and a shape convert into it.
///
/// # Examples
/// ```
/// use xent::cpu;
/// use xent::loss::Mse;
/// let loss = cpu::mse((&[1.0, 3.0], [2]), (&[0.0, 1.0], [2]), &Mse::new())?;
/// assert_eq!(loss, [2.5]);
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct View<'a, T> {
    /// The elements.
    pub data: &'a [T],
    /// The sizes of the dimensions.
    pub shape: Shape,
}

impl<'a, T, D, S> From<(&'a D, S)> for View<'a, T>
where
    D: AsRef<[T]> + ?Sized,
    S: Into<Shape>,
{
    fn from((data, shape): (&'a D, S)) -> Self {
        Self { data: data.as_ref(), shape: shape.into() }
    }
}

impl<T> View<'_, T> {
    /// The sizes of a matrix.
    pub(super) fn matrix(&self, op: &'static str, what: &'static str) -> Result<[usize; 2]> {
        self.check(op, what)?;
        match self.shape[..] {
            [rows, columns] => Ok([rows, columns]),
            _ => Err(Error::shape(op, what, "2 dimensions", format!("shape {}", self.shape))),
        }
    }

    /// Checks that the number of elements is the size of the shape.
    pub(super) fn check(&self, op: &'static str, what: &'static str) -> Result<()> {
        expect_len(op, what, self.data.len(), product(&self.shape))
    }
}
