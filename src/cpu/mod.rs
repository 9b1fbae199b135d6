//! The reference: every operation as plain loops over `f64`, independent of the planner and the
//! kernels.
//!
//! Inputs are row-major slices of `f32` or `f64`; results are `f64`. Use it to check kernels, to
//! compute without an adapter, or to look up the definition of an operation.
//!
//! # Examples
//! ```
//! use xent::cpu;
//! use xent::loss::CrossEntropy;
//! let loss = cpu::cross_entropy((&[2.0, 1.0, 0.0], &[1, 3]), &[0], &CrossEntropy::default())?;
//! assert!((loss[0] - 0.4076059644443803).abs() < 1e-15);
//! # Ok::<(), xent::Error>(())
//! ```

mod column_sum;
mod cross_entropy;
mod elementwise;
mod linear_bce_with_logits;
mod linear_cross_entropy;
mod log_softmax;
mod matmul;
mod nll;
mod relu;
mod sgd;
mod sigmoid;
mod softmax;
mod statistics;
mod view;

pub use column_sum::column_sum;
pub use cross_entropy::{Targets, cross_entropy, cross_entropy_backward};
pub use linear_bce_with_logits::{LinearBceLoss, linear_bce_with_logits};
pub use linear_cross_entropy::{LinearLoss, linear_cross_entropy};
pub use log_softmax::{log_softmax, log_softmax_backward};
pub use matmul::matmul;
pub use nll::{nll, nll_backward};
pub use relu::{relu, relu_backward};
pub use sgd::sgd;
pub use sigmoid::{sigmoid, sigmoid_backward};
pub use softmax::{softmax, softmax_backward};
pub use statistics::{Statistics, cross_entropy_statistics};
pub use view::View;

macro_rules! modules {
    ($($(#[$doc:meta])* $name:ident, $with:ident, $backward:ident: $Options:ident, $inputs:expr, $targets:expr;)*) => {
        $(
            mod $name;
            pub use elementwise::{$name, $backward};
        )*
    };
}
elementwise_losses!(modules);

use crate::error::{Error, Result, ensure, expect_len, try_with_capacity, within};
use crate::ops::loss::Reduction;
use crate::tensor::Weights;

/// A loss and its gradient with respect to the loss's input.
#[derive(Clone, Debug, PartialEq)]
pub struct LossGrad {
    /// One element, or one per element or row with [`Reduction::None`].
    pub loss: Vec<f64>,
    /// The gradient, of the input's size.
    pub grad: Vec<f64>,
}

/// A shape split at its class dimension: for losses, dimension 0 if it is the only one, else 1.
#[derive(Clone, Copy, Debug)]
struct Classes {
    outer: usize,
    classes: usize,
    inner: usize,
}

impl Classes {
    fn of(op: &'static str, shape: &[usize], len: usize) -> Result<Self> {
        ensure!(!shape.is_empty(), Error::shape(op, "the shape", "1 or more dimensions", format!("{shape:?}")));
        Self::along(op, shape, usize::from(shape.len() > 1), len)
    }

    fn along(op: &'static str, shape: &[usize], split: usize, len: usize) -> Result<Self> {
        // As in PyTorch, a scalar has a dimension 0.
        let shape = if shape.is_empty() && split == 0 { &[1] } else { shape };
        let Some((outer, [classes, inner @ ..])) = shape.split_at_checked(split) else {
            return Err(Error::shape(op, "the shape", format!("a dimension {split}"), format!("{shape:?}")));
        };
        expect_len(op, "the input", len, product(shape))?;
        Ok(Self { outer: product(outer), classes: *classes, inner: product(inner) })
    }

    fn rows(self) -> usize {
        self.outer.saturating_mul(self.inner)
    }

    /// The positions of a row's classes. They lie within the checked slice if `row` is below
    /// `rows()`.
    fn row(self, row: usize) -> impl Iterator<Item = usize> + Clone {
        let start = row / self.inner * self.classes * self.inner + row % self.inner;
        (0..self.classes).map(move |class| start + class * self.inner)
    }
}

/// The product of dimensions. It saturates at a value that is no slice's length.
fn product(dims: &[usize]) -> usize {
    dims.iter().fold(1, |product: usize, &dim| product.saturating_mul(dim))
}

/// Allocates memory for `len` results. The limit is the GPU's, or [`OF_NOTHING`] if there are no
/// input elements, which would otherwise bound the number of results.
fn results<T>(op: &'static str, len: usize, inputs: usize) -> Result<Vec<T>> {
    within(op, "the number of elements", len as u64, if inputs == 0 { OF_NOTHING } else { u32::MAX.into() })?;
    try_with_capacity(op, len)
}

/// The largest number of results or rows if no elements bound that number.
const OF_NOTHING: u64 = 1 << 24;

/// The class of a target, or `None` if it is the ignored index.
fn class_of(op: &'static str, target: i64, position: usize, classes: usize, ignore: i64) -> Result<Option<usize>> {
    if target == ignore {
        return Ok(None);
    }
    match usize::try_from(target) {
        Ok(class) if class < classes => Ok(Some(class)),
        _ => Err(Error::value(
            op,
            "a target",
            format!("in 0..{classes} or the ignored {ignore}"),
            format!("{target} at position {position}"),
        )),
    }
}

/// The factor of each of `len` rows or classes: its weight, or 1 without weights.
#[expect(clippy::indexing_slicing, reason = "there is a value per index, or an error was returned")]
fn factors<'a>(
    op: &'static str,
    what: &'static str,
    weights: Option<&'a Weights>,
    len: usize,
) -> Result<impl Fn(usize) -> f64 + use<'a>> {
    let values = weights.map(|weights| weights.host(op, what)).transpose()?;
    if let Some(values) = values {
        expect_len(op, what, values.len(), len)?;
    }
    Ok(move |i: usize| values.map_or(1.0, |values| f64::from(values[i])))
}

/// The factor of each element of a tensor of shape `shape`: the weights, broadcast by NumPy's
/// rules, or 1 without weights.
#[expect(clippy::indexing_slicing, reason = "weights have the size of their shape, which was checked to fit")]
fn broadcast<'a>(
    op: &'static str,
    what: &'static str,
    weights: Option<&'a Weights>,
    shape: &'a [usize],
) -> Result<impl Fn(usize) -> f64 + use<'a>> {
    let values = weights.map(|weights| weights.host(op, what)).transpose()?;
    let own = weights.map_or(&[][..], |weights| weights.shape());
    let mut pairs = own.iter().rev().zip(shape.iter().rev());
    let fits = own.len() <= shape.len() && pairs.all(|(&dim, &full)| dim == 1 || dim == full);
    ensure!(fits, Error::shape(op, what, format!("a shape that broadcasts to {shape:?}"), format!("shape {own:?}")));
    Ok(move |i: usize| values.map_or(1.0, |values| f64::from(values[broadcast_index(i, own, shape)])))
}

/// The position in a tensor of shape `own` of element `i` of its broadcast to shape `full`. `i`
/// must be below the size of `full`.
fn broadcast_index(mut i: usize, own: &[usize], full: &[usize]) -> usize {
    // From the last dimension to the first. `stride` belongs to the tensor of shape `own`.
    let (mut index, mut stride) = (0, 1);
    for (&dim, &size) in own.iter().rev().zip(full.iter().rev()) {
        if dim != 1 {
            index += i % size * stride;
            stride *= dim;
        }
        i /= size;
    }
    index
}

/// Reduces losses. A mean divides by `denominator`.
fn reduce(losses: Vec<f64>, reduction: Reduction, denominator: f64) -> Vec<f64> {
    match reduction {
        Reduction::None => losses,
        Reduction::Sum => vec![losses.iter().sum()],
        Reduction::Mean | Reduction::MeanByCount => vec![losses.iter().sum::<f64>() / denominator],
    }
}

/// The factor of each element's gradient: the upstream gradient (a scalar, or one per loss),
/// divided by the denominator for a mean.
#[expect(clippy::indexing_slicing, reason = "there is one value or one per loss, or an error was returned")]
fn upstream_factor(
    op: &'static str,
    upstream: Option<&[f64]>,
    losses: usize,
    reduction: Reduction,
    denominator: f64,
) -> Result<impl Fn(usize) -> f64> {
    let upstream = upstream.map_or_else(|| vec![1.0], <[f64]>::to_vec);
    if upstream.len() != 1 && (reduction != Reduction::None || upstream.len() != losses) {
        let expected = if reduction == Reduction::None { format!("1 or {losses}") } else { "1".to_owned() };
        return Err(Error::shape(op, "upstream", format!("{expected} elements"), upstream.len()));
    }
    let divisor = if reduction.is_mean() { denominator } else { 1.0 };
    Ok(move |i: usize| upstream[if upstream.len() == 1 { 0 } else { i }] / divisor)
}

#[expect(clippy::cast_precision_loss, reason = "no slice has 2^53 elements")]
fn count(len: usize) -> f64 {
    len as f64
}
