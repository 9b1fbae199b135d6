//! Elementwise losses: broadcasting, weights and reductions. Each loss adds the mathematics of one
//! element.

use super::{LossGrad, View, broadcast, broadcast_index, count, product, reduce, results, upstream_factor};
use crate::error::{Error, Result};
use crate::ops::loss::Reduction;
use crate::ops::loss::definition::{Elementwise, ElementwiseLoss};

/// An input, its target, and their factors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) weight: f64,
    pub(super) pos_weight: f64,
}

/// The mathematics of an elementwise loss.
pub(super) trait Reference: ElementwiseLoss {
    /// Checks an element. Returns the name of the number that is out of range, its value and the
    /// range.
    fn out_of_range(&self, _: Element) -> Option<(&'static str, f64, &'static str)> {
        None
    }

    /// The loss of an element, and its derivative with respect to `x`, both with the weight.
    fn element(&self, element: Element) -> (f64, f64);
}

#[expect(
    clippy::indexing_slicing,
    reason = "the views have the elements of their shapes, which broadcast to the common shape"
)]
fn elementwise<T: Copy + Into<f64>>(
    loss: &impl Reference,
    op: &'static str,
    input: &View<'_, T>,
    targets: &View<'_, T>,
    upstream: Option<&[f64]>,
) -> Result<LossGrad> {
    loss.validate()?;
    let described = Elementwise { op, ..loss.describe() };
    input.check(op, "the input")?;
    targets.check(op, "targets")?;
    let shape = described.common_shape(&input.shape, &targets.shape)?;
    let Elementwise { weight: weights, pos_weight, reduction, mean_by_weight, .. } = described;
    let weight = broadcast(op, "weight", weights, &shape)?;
    let pos_weight = broadcast(op, "pos_weight", pos_weight, &shape)?;
    let len = product(&shape);
    let mean = match weights {
        Some(weights) if mean_by_weight && reduction == Reduction::Mean => {
            weights.host(op, "weight")?.iter().copied().map(f64::from).sum()
        }
        _ => count(len),
    };
    let factor = upstream_factor(op, upstream, len, reduction, mean)?;
    let mut losses = results(op, len, input.data.len())?;
    let mut grad = vec![0.0; input.data.len()];
    for i in 0..len {
        let at = broadcast_index(i, &input.shape, &shape);
        let (x, y) = (input.data[at].into(), targets.data[broadcast_index(i, &targets.shape, &shape)].into());
        let element = Element { x, y, weight: weight(i), pos_weight: pos_weight(i) };
        if let Some((what, value, expected)) = loss.out_of_range(element) {
            let got = format!("{value} at position {i}");
            return Err(Error::value(op, what, expected, got));
        }
        let (loss, slope) = loss.element(element);
        losses.push(loss);
        grad[at] += factor(i) * slope;
    }
    Ok(LossGrad { loss: reduce(losses, reduction, mean), grad })
}

/// Declares the references of the elementwise losses.
macro_rules! references {
    ($($(#[$doc:meta])* $name:ident, $with:ident, $backward:ident: $Options:ident, $inputs:expr, $targets:expr;)*) => {
        $(
            $(#[$doc])*
            #[doc = concat!("See [`", stringify!($Options), "`](crate::loss::", stringify!($Options), ").")]
            ///
            /// # Errors
            #[doc = concat!("As [`", stringify!($backward), "`].")]
            pub fn $name<'a, T: Copy + Into<f64> + 'a>(
                input: impl Into<View<'a, T>>,
                targets: impl Into<View<'a, T>>,
                options: &crate::ops::loss::$Options,
            ) -> Result<Vec<f64>> {
                Ok($backward(input, targets, options, None)?.loss)
            }

            #[doc = concat!("[`", stringify!($name), "`] with its gradient with respect to the input.")]
            ///
            /// # Errors
            /// [`Error::Shape`] if a view does not have the elements of its shape, shapes do not
            /// fit each other, or the upstream gradient has neither one element nor one per loss;
            /// [`Error::Value`] for a number outside its range, and for weights that are on the
            /// GPU; [`Error::Limit`] for a common shape of 2^32 elements or more.
            pub fn $backward<'a, T: Copy + Into<f64> + 'a>(
                input: impl Into<View<'a, T>>,
                targets: impl Into<View<'a, T>>,
                options: &crate::ops::loss::$Options,
                upstream: Option<&[f64]>,
            ) -> Result<LossGrad> {
                elementwise(options, concat!("cpu::", stringify!($name)), &input.into(), &targets.into(), upstream)
            }
        )*
    };
}
elementwise_losses!(references);
