//! Requests for results of a linear layer's loss besides its value, and the results.

use crate::error::{Error, Result};
use crate::ops::linear::layer::{Layer, LayerGrads};
use crate::ops::loss::{Denominator, Grad, Statistics, Targets};
use crate::ops::{no_alias, shape_error};
use crate::options::options;
use crate::record::Recorder;
use crate::tensor::{Element, Float, Real, Shape, Tensor, Weights, expect_shape};

/// The results that the loss of a linear layer computes besides its value: by default, none.
///
/// Each gradient can be left out; its product is not computed then. With a frozen weight, for
/// instance, there is no product of `2 N D V` operations, and no gradient of `[V, D]`.
///
/// # Examples
/// ```
/// use xent::linear::LinearLossRequest;
/// use xent::loss::Grad;
/// let frozen: LinearLossRequest = LinearLossRequest::new().hidden_grad(Grad::New);
/// # let _ = frozen;
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LinearLossRequest<'a, T: Element = f32> {
    /// The destination of the gradient with respect to the hidden states, `[N, D]`.
    pub hidden_grad: Grad<'a, T>,
    /// The destination of the gradient with respect to the weight, `[V, D]`, in `f32` whatever the
    /// type of the weight; for instance a gradient of [`Parameters`](crate::optim::Parameters).
    pub weight_grad: Grad<'a>,
    /// The destination of the gradient with respect to the bias, `[V]`. Without a bias there is
    /// none.
    pub bias_grad: Grad<'a>,
    /// The upstream gradient: a scalar, or one value per loss; 1 if `None`.
    pub upstream: Option<&'a Tensor<f32>>,
    /// Whether to compute the [`Statistics`]. Only `linear_cross_entropy` has them.
    pub statistics: bool,
}

impl<'a, T: Element> LinearLossRequest<'a, T> {
    /// A request for the loss alone.
    #[must_use]
    pub fn new() -> Self {
        Self { hidden_grad: Grad::No, weight_grad: Grad::No, bias_grad: Grad::No, upstream: None, statistics: false }
    }

    /// A request for all gradients, in new tensors.
    #[must_use]
    pub fn gradients() -> Self {
        Self { hidden_grad: Grad::New, weight_grad: Grad::New, bias_grad: Grad::New, ..Self::new() }
    }

    options!(@setters
        /// Sets the destination of the gradient of the hidden states.
        hidden_grad: Grad<'a, T>,
        /// Sets the destination of the gradient of the weight.
        weight_grad: Grad<'a>,
        /// Sets the destination of the gradient of the bias.
        bias_grad: Grad<'a>,
        /// Sets the upstream gradient.
        upstream? &'a Tensor<f32>,
    );

    /// Requests the statistics. As [`LossRequest::statistics`](crate::loss::LossRequest::statistics)
    /// says, this can change the last bit of a loss.
    #[must_use]
    pub fn statistics(self) -> Self {
        Self { statistics: true, ..self }
    }

    /// Whether a gradient is requested.
    pub(crate) fn backward(&self) -> bool {
        let wanted = |grad: Grad<'_>| !matches!(grad, Grad::No);
        !matches!(self.hidden_grad, Grad::No) || wanted(self.weight_grad) || wanted(self.bias_grad)
    }
}

/// The result of the loss of a linear layer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinearLossOutput<T: Element = f32> {
    /// The loss: a scalar, or one loss per token (of binary cross-entropy: per token and class)
    /// with [`Reduction::None`](crate::loss::Reduction::None).
    pub loss: Tensor<f32>,
    /// The gradient with respect to the hidden states, if requested.
    pub hidden_grad: Option<Tensor<T>>,
    /// The gradient with respect to the weight, if requested.
    pub weight_grad: Option<Tensor<f32>>,
    /// The gradient with respect to the bias, if requested, and if there is a bias.
    pub bias_grad: Option<Tensor<f32>>,
    /// The statistics of the tokens, if requested.
    pub statistics: Option<Statistics>,
    /// The denominator of the mean, whatever the reduction.
    pub denominator: Denominator,
}

impl<T: Element> LayerGrads<T> {
    pub(crate) fn into_output(
        self,
        loss: Tensor<f32>,
        statistics: Option<Statistics>,
        denominator: Denominator,
    ) -> LinearLossOutput<T> {
        let Self { hidden: hidden_grad, weight: weight_grad, bias: bias_grad } = self;
        LinearLossOutput { loss, hidden_grad, weight_grad, bias_grad, statistics, denominator }
    }
}

/// The caller's tensor for a gradient of this shape, if there is one.
fn destination<T: Element>(
    rec: &Recorder<'_>,
    op: &'static str,
    what: &'static str,
    grad: Grad<'_, T>,
    shape: Option<&Shape>,
) -> Result<Option<Tensor<T>>> {
    match grad {
        Grad::No | Grad::New => Ok(None),
        Grad::InPlace => Err(Error::value(op, what, "a tensor of its own", "Grad::InPlace")),
        Grad::Into(to) => {
            rec.check_device(op, what, to)?;
            let shape = shape.ok_or_else(|| shape_error(op, what, "no shape: there is no bias", to.shape()))?;
            expect_shape(op, what, to.shape(), shape)?;
            Ok(Some(to.clone()))
        }
    }
}

impl Layer {
    /// Checks that the caller's tensors for gradients fit, and share no memory with tensors that
    /// are read, or with each other.
    pub(crate) fn check_gradients<T: Float>(
        &self,
        rec: &Recorder<'_>,
        op: &'static str,
        targets: &Targets,
        weights: &[(&'static str, Option<&Weights>)],
        request: &LinearLossRequest<'_, T>,
    ) -> Result<()> {
        let hidden = destination(rec, op, "hidden_grad", request.hidden_grad, Some(self.hidden.shape()))?;
        let weight = destination(rec, op, "weight_grad", request.weight_grad, Some(self.weight.shape()))?;
        let bias = destination(rec, op, "bias_grad", request.bias_grad, self.bias.as_ref().map(Tensor::shape))?;
        let written = [
            ("hidden_grad", hidden.map(|grad| grad.real())),
            ("weight_grad", weight.map(|grad| grad.real())),
            ("bias_grad", bias.map(|grad| grad.real())),
        ];
        let written: Vec<(&'static str, Tensor<Real>)> =
            written.into_iter().filter_map(|(what, grad)| Some((what, grad?))).collect();
        for (number, (what, grad)) in written.iter().enumerate() {
            let written_too = (*what, grad);
            let upstream = request.upstream.map(Tensor::real);
            let read = [("hidden", Some(&self.hidden)), ("weight", Some(&self.weight)), ("bias", self.bias.as_ref())];
            for (other, tensor) in read.into_iter().chain([("upstream", upstream.as_ref())]) {
                tensor.map_or(Ok(()), |tensor| no_alias(op, written_too, (other, tensor)))?;
            }
            targets.no_alias(op, written_too)?;
            for (other, weights) in weights {
                weights.map_or(Ok(()), |weights| no_alias(op, written_too, (other, &weights.on(rec.gpu())?)))?;
            }
            // No dispatch writes two gradients, so they may share a buffer (like the gradients of
            // `Parameters`).
            for (other, tensor) in written.iter().take(number).filter(|(_, tensor)| grad.overlaps(tensor)) {
                no_alias(op, (other, tensor), written_too)?;
            }
        }
        Ok(())
    }
}

impl Recorder<'_> {
    /// The tensors that the requested gradients of a layer are written to.
    pub(crate) fn layer_grads<T: Float>(
        &mut self,
        op: &'static str,
        layer: &Layer,
        request: &LinearLossRequest<'_, T>,
    ) -> Result<LayerGrads<T>> {
        let bias = match &layer.bias {
            Some(bias) => self.gradient_of(op, request.bias_grad, bias.shape())?,
            None => None,
        };
        Ok(LayerGrads {
            hidden: self.gradient_of(op, request.hidden_grad, layer.hidden.shape())?,
            weight: self.gradient_of(op, request.weight_grad, layer.weight.shape())?,
            bias,
        })
    }

    fn gradient_of<T: Element>(
        &mut self,
        op: &'static str,
        grad: Grad<'_, T>,
        shape: &Shape,
    ) -> Result<Option<Tensor<T>>> {
        match grad {
            Grad::No | Grad::InPlace => Ok(None),
            Grad::New => self.output(op, shape.clone()).map(Some),
            Grad::Into(to) => Ok(Some(to.clone())),
        }
    }
}
