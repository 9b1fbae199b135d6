//! Requests for results of a loss besides its value, and the results.

use crate::error::{Error, Result, ensure};
use crate::ops::loss::denominator::Denominator;
use crate::ops::loss::statistics::Statistics;
use crate::options::options;
use crate::tensor::{Check, Element, Tensor};

/// The destination of a gradient.
#[derive(Clone, Copy, Debug, Default)]
pub enum Grad<'a, T: Element = f32> {
    /// The gradient is not computed.
    #[default]
    No,
    /// A new tensor.
    New,
    /// The input of the loss, which is overwritten.
    InPlace,
    /// This tensor, which has the input's shape and shares its buffer with no other argument.
    Into(&'a Tensor<T>),
}

/// Where kernels write a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GradientPlace {
    /// Nowhere.
    None,
    /// Over the input.
    InPlace,
    /// Into a tensor of its own.
    Separate,
}

impl<T: Element> Grad<'_, T> {
    pub(crate) fn place(self) -> GradientPlace {
        match self {
            Self::No => GradientPlace::None,
            Self::InPlace => GradientPlace::InPlace,
            Self::New | Self::Into(_) => GradientPlace::Separate,
        }
    }
}

/// The results that a loss computes besides its value: by default, none.
///
/// A [`Grad`] converts into a request, so that `Grad::New` can be passed where a request is
/// expected.
///
/// # Examples
/// ```
/// use xent::loss::{Grad, LossRequest};
/// let request: LossRequest = LossRequest::new().grad(Grad::New);
/// # let _ = request;
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LossRequest<'a, T: Element = f32> {
    /// The destination of the gradient with respect to the input.
    pub grad: Grad<'a, T>,
    /// The upstream gradient: a scalar, or one value per loss; 1 if there is none.
    pub upstream: Option<&'a Tensor<f32>>,
    /// Whether to compute the [`Statistics`] of rows. Only `cross_entropy` has them.
    pub statistics: bool,
}

impl<'a, T: Element> LossRequest<'a, T> {
    /// A request for the loss alone.
    #[must_use]
    pub fn new() -> Self {
        Self { grad: Grad::No, upstream: None, statistics: false }
    }

    options!(@setters
        /// Sets the destination of the gradient.
        grad: Grad<'a, T>,
        /// Sets the upstream gradient.
        upstream? &'a Tensor<f32>,
    );

    /// Requests the statistics. On a GPU, a few rows of more than 8192 classes are then not split
    /// across workgroups, so their losses can differ in the last bit from those without statistics.
    #[must_use]
    pub fn statistics(self) -> Self {
        Self { statistics: true, ..self }
    }

    /// Checks that statistics are not requested from a loss that has none.
    pub(crate) fn reject_statistics(&self, op: &'static str) -> Result<()> {
        let expected = "not requested: only cross_entropy has them";
        ensure!(!self.statistics, Error::value(op, "statistics", expected, "a request"));
        Ok(())
    }
}

impl<'a, T: Element> From<Grad<'a, T>> for LossRequest<'a, T> {
    fn from(grad: Grad<'a, T>) -> Self {
        Self::new().grad(grad)
    }
}

/// The result of a loss.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LossOutput<T: Element = f32> {
    /// The loss: a scalar, or one loss per element or row with
    /// [`Reduction::None`](crate::loss::Reduction::None).
    pub loss: Tensor<f32>,
    /// The gradient with respect to the input, if requested.
    pub grad: Option<Tensor<T>>,
    /// The statistics of rows, if requested.
    pub statistics: Option<Statistics>,
    /// The denominator of the mean, whatever the reduction.
    pub denominator: Denominator,
}

impl<T: Element> LossOutput<T> {
    /// The gradient.
    ///
    /// # Errors
    /// [`Error::Value`] if no gradient was requested.
    pub fn gradient(&self) -> Result<Tensor<T>> {
        self.grad.clone().ok_or_else(|| not_requested("the gradient"))
    }

    /// The statistics.
    ///
    /// # Errors
    /// [`Error::Value`] if no statistics were requested.
    pub fn row_statistics(&self) -> Result<&Statistics> {
        self.statistics.as_ref().ok_or_else(|| not_requested("the statistics"))
    }

    pub(crate) fn with_check(self, check: Option<&Check>) -> Self {
        let loss = self.loss.with_check(check.cloned());
        Self { loss, grad: self.grad.map(|grad| grad.with_check(check.cloned())), ..self }
    }
}

fn not_requested(what: &'static str) -> Error {
    Error::value("LossOutput", what, "part of the request", "a request without it")
}
