//! Squared error.

use crate::engine::kernel::{Kernel, kernel, read, read4, write, write4};
use crate::error::Result;
use crate::options::{Mse, Reduction};
use crate::record::Recorder;
use crate::tensor::{Shape, Tensor};

use crate::ops::loss::elementwise::{ElementwiseLoss, PARAMS};
use crate::ops::loss::row_loss::check_upstream;
use crate::ops::reduce::broadcast::broadcast_shape;
use crate::ops::{Grad, LossGrad, shape_error};

pub(crate) static KERNEL: Kernel = kernel!(
    "mse",
    PARAMS,
    &[
        read4("x"),
        read4("y"),
        read4("upstream"),
        read("weight", "f32"),
        write4("losses"),
        write4("grad"),
        write("partials", "u32"),
    ]
);

/// Squared error.
impl Recorder<'_> {
    /// Squared error: `loss = w * (x - y)^2` with the weight `w` (1 if there is none).
    ///
    /// # Shapes
    /// `input` and `targets` have the same shape; with [`Mse::broadcast`] their shapes may be any that broadcast to a common one by NumPy's
    /// rules (PyTorch broadcasts always, and warns). The loss is a scalar, or has the common shape with
    /// [`Reduction::None`](crate::Reduction::None). `weight` has the input's shape.
    ///
    /// # Reduction
    /// [`Reduction::Mean`](crate::Reduction::Mean) divides by the number of losses, with weights by the sum of the weights (as they are given,
    /// not broadcast); [`Reduction::MeanByCount`](crate::Reduction::MeanByCount) by the number of losses, whatever the weights. Over nothing
    /// both are NaN, and where the sum of the weights is 0 the first is an infinity or NaN.
    ///
    /// # Edge cases
    /// NaN and infinities follow IEEE arithmetic: a weight of 0 does not win over an infinite loss, as in PyTorch.
    ///
    /// # Errors
    /// Shapes that differ, or with [`Mse::broadcast`] do not broadcast; weights of another shape than the input's; tensors of another
    /// [`Gpu`](crate::Gpu). Nothing is recorded then.
    ///
    /// # Cost
    /// One pass, which reads both tensors (8 bytes an element; 12 with weights, which are also summed for the mean); the sum of its
    /// blocks takes one more small pass for each factor of 1024 elements. Tensors that are broadcast are repeated in memory first.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{Mse, Gpu, Tensor};
    /// # if let Ok(gpu) = Gpu::headless() {
    /// let input = Tensor::from_slice(&gpu, [2], &[1.0, 3.0f32])?;
    /// let targets = Tensor::from_slice(&gpu, [2], &[0.0, 1.0f32])?;
    /// let mut batch = gpu.batch();
    /// let loss = batch.mse(&input, &targets, &Mse::default())?;
    /// let mut loss = batch.read(&loss)?;
    /// batch.submit()?;
    /// assert!((loss.wait(Duration::from_secs(10))?[0] - 2.5).abs() < 1e-6);
    /// # }
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is PyTorch's `torch.nn.functional.mse_loss`.
    pub fn mse(&mut self, input: &Tensor<f32>, targets: &Tensor<f32>, options: &Mse) -> Result<Tensor<f32>> {
        Ok(self.mse_call(("mse", Grad::No, true), input, targets, options, None)?.loss)
    }

    /// [`mse`](Self::mse) and its gradient with respect to `input`, in one dispatch:
    /// `2 * g * w * (x - y)`, where `g` is the upstream gradient (1 if there is none), divided by the mean's denominator, and summed
    /// over what the input was broadcast along. `upstream` is a scalar or has the loss's shape.
    ///
    /// # Errors
    /// As [`mse`](Self::mse), and for an upstream gradient of another shape.
    ///
    /// # Cost
    /// One read of both tensors and one write (12 bytes an element; 16 with weights). The gradient of an input that was broadcast is
    /// summed in a pass for each of those dimensions.
    pub fn mse_backward(
        &mut self,
        input: &Tensor<f32>,
        targets: &Tensor<f32>,
        options: &Mse,
        upstream: Option<&Tensor<f32>>,
    ) -> Result<LossGrad> {
        self.mse_call(("mse_backward", Grad::New, true), input, targets, options, upstream)
    }

    /// [`mse_backward`](Self::mse_backward), where a mean is still a sum.
    pub(crate) fn mse_undivided(
        &mut self,
        input: &Tensor<f32>,
        targets: &Tensor<f32>,
        options: &Mse,
        upstream: Option<&Tensor<f32>>,
    ) -> Result<LossGrad> {
        self.mse_call(("mse_backward", Grad::New, false), input, targets, options, upstream)
    }

    fn mse_call(
        &mut self,
        (op, grad, divided): (&'static str, Grad, bool),
        input: &Tensor<f32>,
        targets: &Tensor<f32>,
        options: &Mse,
        upstream: Option<&Tensor<f32>>,
    ) -> Result<LossGrad> {
        self.check_device(op, "input", input)?;
        self.check_device(op, "targets", targets)?;
        let Mse { weight, broadcast, reduction } = options;
        let common = if *broadcast {
            broadcast_shape(input.shape(), targets.shape())
        } else {
            (input.shape() == targets.shape()).then(|| input.shape().clone())
        };
        let Some(shape) = common else {
            let expected = options.expected_targets(input.shape());
            return Err(shape_error(op, "targets", expected, targets.shape()));
        };
        if let Some(weight) = weight {
            if weight.shape() != input.shape() {
                return Err(shape_error(op, "weight", format!("shape {}", input.shape()), weight.shape()));
            }
            self.check_device(op, "weight", &weight.on(self.gpu())?)?;
        }
        let loss = if *reduction == Reduction::None { shape.clone() } else { Shape::default() };
        if let Some(upstream) = upstream {
            self.check_device(op, "upstream", upstream)?;
            check_upstream(op, upstream, &loss)?;
        }
        let (x, y) = (self.broadcast_to(op, input, &shape)?, self.broadcast_to(op, targets, &shape)?);
        let out = self.elementwise_loss(&ElementwiseLoss {
            op,
            kernel: &KERNEL,
            x: ("input", &x),
            targets: &y,
            reduction: *reduction,
            divided,
            upstream,
            grad,
            weight: weight.as_ref(),
            mean_by_weight: true,
            pos_weight: None,
            slope: 2.0,
        })?;
        let grad = match grad {
            Grad::New => self.sum_to(op, out.grad, input.shape())?,
            Grad::No | Grad::InPlace => out.grad,
        };
        Ok(LossGrad { grad, ..out })
    }
}
