//! The operations, as methods of [`Recorder`](crate::Recorder): each validates, plans and records.

mod count;
pub(crate) mod linear;
#[macro_use]
pub(crate) mod loss;
mod map;
mod product;
mod reduce;
mod strips;
#[cfg(test)]
#[path = "../../tests/unit/ops.rs"]
mod tests;
pub(crate) mod update;

pub(crate) use count::tally::{Cells, Recorded, Rows};
pub(crate) use product::matmul::Rectifier;
pub(crate) use update::gradient::Gradient;
pub(crate) use update::sgd::{SgdStep, unstarted};

#[cfg(test)]
use crate::engine::kernel::Kernel;
use crate::error::{Error, Result, ensure, within};
use crate::plan::strips::Classes;
use crate::tensor::{Element, Shape, Tensor, size32};

impl Classes {
    /// The dimensions of a shape `[C]` or `[N, C, d1, .., dK]`.
    fn of(op: &'static str, what: &'static str, shape: &Shape) -> Result<Self> {
        ensure!(!shape.is_empty(), shape_error(op, what, "1 or more dimensions", shape));
        Self::along(op, what, shape, usize::from(shape.len() > 1))
    }

    /// The dimensions before, at and after dimension `split`.
    fn along(op: &'static str, what: &'static str, shape: &Shape, split: usize) -> Result<Self> {
        // As in PyTorch, a scalar has a dimension 0.
        if shape.is_empty() && split == 0 {
            return Ok(Self { outer: 1, classes: 1, inner: 1 });
        }
        let Some((before, [classes, after @ ..])) = shape.split_at_checked(split) else {
            return Err(shape_error(op, what, format!("a dimension {split}"), shape));
        };
        let narrow = |what, size: usize| within(op, what, size as u64, u32::MAX).map(|()| size32(size));
        let rows = before.iter().chain(after).product();
        let classes = narrow("the number of classes", *classes)?;
        // If there are no rows, the other dimensions may exceed u32.
        let none = narrow("the number of rows", rows)? == 0;
        let size = |dims: &[usize]| match narrow("the number of rows", dims.iter().product()) {
            Err(_) if none => Ok(u32::MAX),
            size => size,
        };
        Ok(Self { outer: size(before)?, classes, inner: size(after)? })
    }
}

pub(crate) fn shape_error(op: &'static str, what: &'static str, expected: impl Into<String>, got: &Shape) -> Error {
    Error::shape(op, what, expected.into(), format!("shape {got}"))
}

/// Checks that an output shares no buffer with another tensor of the operation.
pub(crate) fn no_alias<A: Element, B: Element>(
    op: &'static str,
    (output, written): (&'static str, &Tensor<A>),
    (other, tensor): (&'static str, &Tensor<B>),
) -> Result<()> {
    let shared = written.storage().shares_with(tensor.storage()) && !written.is_empty() && !tensor.is_empty();
    ensure!(!shared, Error::Aliasing { op, output, other });
    Ok(())
}

/// All kernels.
#[cfg(test)]
pub(crate) fn kernels() -> Vec<&'static Kernel> {
    [OTHER_KERNELS, loss::elementwise::KERNELS].concat()
}

#[cfg(test)]
const OTHER_KERNELS: &[&Kernel] = &[
    &reduce::broadcast::EXPAND,
    &reduce::broadcast::SUM,
    &map::cast::KERNEL,
    &reduce::column_sum::KERNEL,
    &loss::cross_entropy::KERNEL,
    &update::gradient::ACCUMULATE,
    &update::gradient::FACTOR,
    &update::gradient::NORM,
    &map::log_softmax::BACKWARD,
    &map::log_softmax::FORWARD,
    &product::matmul::SIMD,
    &product::matmul::SUBGROUP,
    &product::matmul::TILED,
    &loss::nll::KERNEL,
    &count::rank::KERNEL,
    &reduce::blocks::COUNTS,
    &reduce::blocks::SUMS,
    &map::relu::BACKWARD,
    &map::relu::FORWARD,
    &loss::upstream_quotient::KERNEL,
    &linear::counted_rows::KERNEL,
    &loss::row_parts::KERNEL,
    &update::schedule::KERNEL,
    &update::sgd::KERNEL,
    &map::sigmoid::BACKWARD,
    &map::sigmoid::FORWARD,
    &map::softmax::BACKWARD,
    &map::softmax::FORWARD,
    &loss::statistics::KERNEL,
    &product::sum_parts::KERNEL,
    &count::tally::BINARY,
    &count::tally::ROWS,
    &count::tally::TOTAL,
    &loss::targets::KERNEL,
    &update::window_mean::KERNEL,
    &update::window_sum::KERNEL,
];
