//! The operations: validation, planning and recording, one file each. The methods are on [`Recorder`](crate::Recorder).

mod count;
mod linear;
mod loss;
mod map;
mod product;
mod reduce;
mod strips;
#[cfg(test)]
mod tests;
mod update;

pub(crate) use count::tally::{Cells, Recorded, Rows};
pub use linear::bce_with_logits::LinearLossGrads;
pub use linear::cross_entropy::{LinearCrossEntropyRequest, LinearCrossEntropyResult};
pub use linear::cross_entropy_sgd::{LinearSgd, LinearSgdResult};
pub use linear::layer::{LinearBackward, LinearGrads};
pub use loss::cross_entropy::{CrossEntropyRequest, CrossEntropyResult};
pub use loss::denominator::Denominator;
pub use loss::statistics::Statistics;
pub use loss::targets::Targets;
pub(crate) use update::gradient::{ClipFactor, Gradient};
pub(crate) use update::schedule::{ScheduleKind, ScheduleStep};
pub use update::sgd::Momentum;
pub(crate) use update::sgd::{SgdStep, unstarted};

#[cfg(test)]
use crate::engine::kernel::Kernel;
use crate::error::{Error, Result};
use crate::plan::strips::Classes;
use crate::tensor::{Element, Shape, Tensor};

/// A loss and its gradient with respect to the loss's input.
#[derive(Clone, Debug)]
pub struct LossGrad<T: Element = f32> {
    /// The loss: a scalar, or one for each element or row with [`Reduction::None`](crate::Reduction::None).
    pub loss: Tensor<f32>,
    /// The gradient, of the input's shape and type.
    pub grad: Tensor<T>,
    /// What the mean divides by, whatever the reduction.
    pub denominator: Denominator,
}

/// Where a gradient goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grad {
    /// Nowhere: it is not computed.
    #[default]
    No,
    /// Into a tensor of its own.
    New,
    /// Over the operation's input.
    InPlace,
}

impl Classes {
    /// Reads `[C]` or `[N, C, d1, .., dK]`.
    fn of(op: &'static str, what: &'static str, shape: &Shape) -> Result<Self> {
        if shape.is_empty() {
            return Err(shape_error(op, what, "1 or more dimensions", shape));
        }
        Self::along(op, what, shape, usize::from(shape.len() > 1))
    }

    /// The dimensions around dimension `split`.
    fn along(op: &'static str, what: &'static str, shape: &Shape, split: usize) -> Result<Self> {
        // PyTorch lets a scalar have a dimension 0.
        if shape.is_empty() && split == 0 {
            return Ok(Self { outer: 1, classes: 1, inner: 1 });
        }
        let Some((before, [classes, after @ ..])) = shape.split_at_checked(split) else {
            return Err(shape_error(op, what, format!("a dimension {split}"), shape));
        };
        let narrow = |what, size: usize| {
            let limit = |_| Error::Limit { op, what, needed: size as u64, allowed: u64::from(u32::MAX) };
            u32::try_from(size).map_err(limit)
        };
        let rows = before.iter().chain(after).product();
        let classes = narrow("the number of classes", *classes)?;
        // Without rows it does not matter how many there would be of what is not 0.
        let none = narrow("the number of rows", rows)? == 0;
        let size = |dims: &[usize]| match narrow("the number of rows", dims.iter().product()) {
            Err(_) if none => Ok(u32::MAX),
            size => size,
        };
        Ok(Self { outer: size(before)?, classes, inner: size(after)? })
    }
}

pub(crate) fn shape_error(op: &'static str, what: &'static str, expected: impl Into<String>, got: &Shape) -> Error {
    Error::Shape { op, what, expected: expected.into(), got: format!("shape {got}") }
}

pub(crate) fn same_shape<A: Element, B: Element>(
    op: &'static str,
    what: &'static str,
    tensor: &Tensor<A>,
    like: &Tensor<B>,
) -> Result<()> {
    if tensor.shape() == like.shape() {
        Ok(())
    } else {
        Err(shape_error(op, what, format!("shape {}", like.shape()), tensor.shape()))
    }
}

/// Checks that a tensor that is written shares no buffer with another tensor of the operation.
pub(crate) fn no_alias<A: Element, B: Element>(
    op: &'static str,
    (output, written): (&'static str, &Tensor<A>),
    (other, tensor): (&'static str, &Tensor<B>),
) -> Result<()> {
    if written.storage().shares_with(tensor.storage()) && !written.is_empty() && !tensor.is_empty() {
        Err(Error::Aliasing { op, output, other })
    } else {
        Ok(())
    }
}

/// Every kernel of the crate, for the tests that look at all of them.
#[cfg(test)]
pub(crate) const KERNELS: &[&Kernel] = &[
    &loss::bce::KERNEL,
    &loss::bce_with_logits::KERNEL,
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
    &loss::mse::KERNEL,
    &loss::nll::KERNEL,
    &count::rank::KERNEL,
    &reduce::blocks::COUNTS,
    &reduce::blocks::SUMS,
    &map::relu::BACKWARD,
    &map::relu::FORWARD,
    &loss::row_factor::KERNEL,
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
