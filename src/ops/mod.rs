//! The operations: validation, planning and recording, one file each. The methods are on [`Recorder`](crate::Recorder).

mod bce;
mod bce_with_logits;
mod broadcast;
mod cast;
mod column_sum;
mod counted_rows;
mod cross_entropy;
mod denominator;
mod elementwise_loss;
mod gradient;
mod linear;
mod linear_bce_with_logits;
mod linear_cross_entropy;
mod linear_cross_entropy_sgd;
mod linear_plan;
mod log_softmax;
mod map;
mod matmul;
mod mse;
mod nll;
mod rank;
mod reduce;
mod relu;
mod row_factor;
mod row_loss;
mod row_map;
mod row_parts;
mod row_steps;
mod running_product;
mod schedule;
mod sgd;
mod sigmoid;
mod softmax;
mod statistics;
mod strips;
mod sum_parts;
mod tally;
mod targets;
#[cfg(test)]
mod tests;
mod window_mean;
mod window_sum;

pub use cross_entropy::{CrossEntropyRequest, CrossEntropyResult};
pub use denominator::Denominator;
pub(crate) use gradient::{ClipFactor, Gradient};
pub use linear::{LinearBackward, LinearGrads};
pub use linear_bce_with_logits::LinearLossGrads;
pub use linear_cross_entropy::{LinearCrossEntropyRequest, LinearCrossEntropyResult};
pub use linear_cross_entropy_sgd::{LinearSgd, LinearSgdResult};
pub(crate) use schedule::{ScheduleKind, ScheduleStep};
pub use sgd::Momentum;
pub(crate) use sgd::{SgdStep, unstarted};
pub use statistics::Statistics;
pub(crate) use tally::{Cells, Recorded, Rows};
pub use targets::Targets;

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

fn shape_error(op: &'static str, what: &'static str, expected: impl Into<String>, got: &Shape) -> Error {
    Error::Shape { op, what, expected: expected.into(), got: format!("shape {got}") }
}

fn same_shape<A: Element, B: Element>(
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
fn no_alias<A: Element, B: Element>(
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
    &bce::KERNEL,
    &bce_with_logits::KERNEL,
    &broadcast::EXPAND,
    &broadcast::SUM,
    &cast::KERNEL,
    &column_sum::KERNEL,
    &cross_entropy::KERNEL,
    &gradient::ACCUMULATE,
    &gradient::FACTOR,
    &gradient::NORM,
    &log_softmax::BACKWARD,
    &log_softmax::FORWARD,
    &matmul::SIMD,
    &matmul::SUBGROUP,
    &matmul::TILED,
    &mse::KERNEL,
    &nll::KERNEL,
    &rank::KERNEL,
    &reduce::COUNTS,
    &reduce::SUMS,
    &relu::BACKWARD,
    &relu::FORWARD,
    &row_factor::KERNEL,
    &counted_rows::KERNEL,
    &row_parts::KERNEL,
    &schedule::KERNEL,
    &sgd::KERNEL,
    &sigmoid::BACKWARD,
    &sigmoid::FORWARD,
    &softmax::BACKWARD,
    &softmax::FORWARD,
    &statistics::KERNEL,
    &sum_parts::KERNEL,
    &tally::BINARY,
    &tally::ROWS,
    &tally::TOTAL,
    &targets::KERNEL,
    &window_mean::KERNEL,
    &window_sum::KERNEL,
];
