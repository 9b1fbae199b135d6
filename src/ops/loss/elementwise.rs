//! The operations of elementwise losses.

use crate::engine::Caps;
use crate::error::{Result, within};
use crate::ops::loss::definition::{Elementwise, ElementwiseLoss};
use crate::ops::loss::elements::{ElementsCall, ElementsSlice};
use crate::ops::loss::request::GradientPlace;
use crate::ops::loss::row_loss::check_upstream;
use crate::ops::loss::{Grad, LossOutput, LossRequest, Reduction};
use crate::ops::reduce::blocks::{check_of, loss_partials};
use crate::ops::{no_alias, shape_error};
use crate::record::Recorder;
use crate::tensor::{Shape, Tensor, element_count, expect_shape};

impl Recorder<'_> {
    /// Records an elementwise loss; `divided` says whether a mean is divided by its denominator, or
    /// left as a sum.
    pub(crate) fn elementwise_loss(
        &mut self,
        options: &dyn ElementwiseLoss,
        input: &Tensor<f32>,
        targets: &Tensor<f32>,
        request: &LossRequest<'_>,
        divided: bool,
    ) -> Result<LossOutput> {
        options.validate()?;
        let loss = options.describe();
        let op = loss.op;
        request.reject_statistics(op)?;
        self.check_device(op, loss.input, input)?;
        self.check_device(op, "targets", targets)?;
        let shape = loss.common_shape(input.shape(), targets.shape())?;
        within(op, "the number of elements", element_count(op, &shape)?, u32::MAX)?;
        if let Some(weight) = loss.weight {
            self.check_device(op, "weight", &weight.on(self.gpu())?)?;
        }
        let unreduced = loss.reduction == Reduction::None;
        check_upstream(self, op, request.upstream, loss.reduction, &shape)?;
        self.check_gradient(&loss, input, targets, &shape, request)?;
        if input.shape() != targets.shape() {
            // Broadcasting records copies, so the weights are checked before it.
            for (what, weights) in [("weight", loss.weight), ("pos_weight", loss.pos_weight)] {
                weights.map(|weights| self.plan_broadcast(op, what, weights, &shape)).transpose()?;
            }
        }
        let (x, y) = (self.broadcast_to(op, input, &shape)?, self.broadcast_to(op, targets, &shape)?);
        let count = x.count(op)?;
        let repeated = x.shape() != input.shape();
        let grad = match request.grad {
            Grad::No | Grad::InPlace => None,
            Grad::Into(to) if !repeated => Some(to.clone()),
            Grad::New | Grad::Into(_) => Some(self.output(op, shape.clone())?),
        };
        // Saves a binding: the gradient is written in place over a copy of the input.
        let copy = grad.as_ref().filter(|_| self.gpu().caps().max_bindings < Caps::ENOUGH_BINDINGS);
        let gradient = if copy.is_some() { GradientPlace::InPlace } else { request.grad.place() };
        let call = ElementsCall { loss, targets: &y, upstream: request.upstream, gradient, divided };
        let begun = self.begin_elements(&call, &shape)?;
        if let Some(copy) = copy {
            self.copy(&x, copy)?;
        }
        let losses = unreduced.then(|| self.output(op, shape)).transpose()?;
        let partials = loss_partials(self, op, count)?;
        let all = ElementsSlice {
            elements: 0..count,
            first: 0,
            x: copy.unwrap_or(&x),
            losses: losses.as_ref(),
            grad: grad.as_ref().filter(|_| copy.is_none()),
            partials: &partials,
        };
        self.elements_slice(&call, &begun, &all)?;
        let (loss, total) = match losses {
            Some(losses) => (losses, self.sum_of_partials(op, partials, 1)?),
            None => self.loss_of_partials(op, partials, call.divisor(&begun))?,
        };
        let grad = match (grad, request.grad) {
            (Some(grad), _) if repeated => {
                let sum = self.sum_to(op, grad, input.shape())?;
                if let Grad::Into(to) = request.grad {
                    self.copy(&sum, to)?;
                    Some(to.clone())
                } else {
                    Some(sum)
                }
            }
            (None, Grad::InPlace) => Some(input.clone()),
            (grad, _) => grad,
        };
        let check = check_of(op, "an input or a target", &total);
        let output = LossOutput { loss, grad, statistics: None, denominator: begun.denominator(self) };
        Ok(output.with_check(check.as_ref()))
    }

    /// Checks the tensor that the gradient is written to.
    fn check_gradient(
        &self,
        loss: &Elementwise<'_>,
        input: &Tensor<f32>,
        targets: &Tensor<f32>,
        shape: &Shape,
        request: &LossRequest<'_>,
    ) -> Result<()> {
        let op = loss.op;
        let written = match request.grad {
            Grad::No | Grad::New => return Ok(()),
            Grad::InPlace if input.shape() == shape => (loss.input, input),
            Grad::InPlace => {
                let expected = format!("the losses' shape {shape}, to be overwritten");
                return Err(shape_error(op, loss.input, expected, input.shape()));
            }
            Grad::Into(to) => {
                self.check_device(op, "grad", to)?;
                expect_shape(op, "grad", to.shape(), input.shape())?;
                no_alias(op, ("grad", to), (loss.input, input))?;
                ("grad", to)
            }
        };
        no_alias(op, written, ("targets", targets))?;
        request.upstream.map_or(Ok(()), |upstream| no_alias(op, written, ("upstream", upstream)))?;
        for (what, weights) in [("weight", loss.weight), ("pos_weight", loss.pos_weight)] {
            weights.map_or(Ok(()), |weights| no_alias(op, written, (what, &weights.on(self.gpu())?)))?;
        }
        Ok(())
    }
}

/// Declares the operations of the elementwise losses.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident, $with:ident, $backward:ident: $Options:ident, $inputs:expr, $targets:expr;)*) => {
        /// Elementwise losses. The docs of each options type have the formulas, an example, and the
        /// source of the definition.
        impl Recorder<'_> {
            $(
                $(#[$doc])*
                #[doc = concat!("See [`", stringify!($Options), "`](crate::loss::", stringify!($Options), ").")]
                ///
                /// # Errors
                #[doc = concat!("Those of [`", stringify!($with), "`](Self::", stringify!($with), ").")]
                pub fn $name(
                    &mut self,
                    input: &Tensor<f32>,
                    targets: &Tensor<f32>,
                    options: &crate::ops::loss::$Options,
                ) -> Result<Tensor<f32>> {
                    Ok(self.elementwise_loss(options, input, targets, &LossRequest::new(), true)?.loss)
                }

                #[doc = concat!("[`", stringify!($name), "`](Self::", stringify!($name), ") with its gradient, in one")]
                /// pass.
                ///
                /// # Shapes
                /// `input` and `targets` have the same shape, or, with the option `broadcast`,
                /// shapes that broadcast to a common one by NumPy's rules. The loss is a scalar, or
                /// has the common shape with [`Reduction::None`]. The gradient has the input's
                /// shape, and is summed over the dimensions along which the input was broadcast.
                /// The upstream gradient is a scalar, or has the loss's shape.
                ///
                /// # Errors
                /// Shapes that differ, or do not broadcast; weights of a wrong shape; numbers
                /// outside their range; tensors of another [`Gpu`](crate::Gpu); a request for
                /// statistics; [`Error::Aliasing`](crate::Error::Aliasing) if the destination of
                /// the gradient shares its buffer with another argument. On an error nothing is
                /// recorded (except as stated for [`Recorder`]).
                ///
                /// # Cost
                /// One pass: 8 bytes an element, and 4 more for each of a gradient, unreduced
                /// losses, one upstream gradient per element, and one weight per element. The
                /// partial sums of blocks take another small pass for each factor of 1024 elements (on
                /// a GPU, the first factor is up to 3072).
                /// Broadcast tensors are first repeated in memory, except for weights that vary
                /// only along neighbouring dimensions.
                pub fn $with<'a>(
                    &mut self,
                    input: &Tensor<f32>,
                    targets: &Tensor<f32>,
                    options: &crate::ops::loss::$Options,
                    request: impl Into<LossRequest<'a>>,
                ) -> Result<LossOutput> {
                    self.elementwise_loss(options, input, targets, &request.into(), true)
                }
            )*
        }

        /// The kernels of the elementwise losses, for tests.
        #[cfg(test)]
        pub(crate) const KERNELS: &[&crate::engine::kernel::Kernel] = &[$(&crate::ops::loss::$name::KERNEL),*];
    };
}
elementwise_losses!(operations);
