//! Squared error.

use crate::error::Result;
use crate::kernel::{Kernel, read, read4, wgsl, write, write4};
use crate::options::Mse;
use crate::recorder::Recorder;
use crate::tensor::Tensor;

use super::elementwise_loss::{ElementwiseLoss, PARAMS};
use super::{Grad, LossGrad};

pub(super) const KERNEL: Kernel = Kernel {
    label: "xent.mse",
    source: wgsl!["lib/grid", "lib/numerics", "lib/partials", "lib/elementwise_loss", "mse"],
    bindings: &[
        read4("x"),
        read4("y"),
        read("upstream", "f32"),
        write4("losses"),
        write4("grad"),
        write("partials", "u32"),
    ],
    params: PARAMS,
    constants: &["WORKGROUP", "GRAD", "LOSSES"],
};

fn call<'a>(
    op: &'static str,
    grad: Grad,
    input: &'a Tensor<f32>,
    targets: &'a Tensor<f32>,
    options: &'a Mse,
    upstream: Option<&'a Tensor<f32>>,
) -> ElementwiseLoss<'a> {
    let Mse { reduction } = options;
    ElementwiseLoss {
        op,
        kernel: &KERNEL,
        x: ("input", input),
        targets,
        reduction: *reduction,
        upstream,
        grad,
        weight: None,
        pos_weight: None,
        slope: 2.0,
    }
}

/// Squared error.
impl Recorder<'_> {
    /// Squared error: `loss = (x - y)^2`.
    ///
    /// # Shapes
    /// `input` and `targets` have the same shape. The loss is a scalar, or has that shape with
    /// [`Reduction::None`](crate::Reduction::None).
    ///
    /// # Reduction
    /// The mean divides by the number of elements; over nothing it is NaN.
    ///
    /// # Edge cases
    /// NaN and infinities follow IEEE arithmetic.
    ///
    /// # Errors
    /// Shapes that differ, tensors of another [`Gpu`](crate::Gpu). Nothing is recorded then.
    ///
    /// # Cost
    /// One read of both tensors (8 bytes an element).
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
        Ok(self.elementwise_loss(&call("mse", Grad::No, input, targets, options, None))?.loss)
    }

    /// [`mse`](Self::mse) and its gradient with respect to `input`, in one dispatch:
    /// `2 * g * (x - y)`, where `g` is the upstream gradient (1 if there is none), divided by the
    /// number of elements for the mean. `upstream` is a scalar or has the loss's shape.
    ///
    /// # Errors
    /// As [`mse`](Self::mse), and for an upstream gradient of another shape.
    ///
    /// # Cost
    /// One read of both tensors and one write (12 bytes an element).
    pub fn mse_backward(
        &mut self,
        input: &Tensor<f32>,
        targets: &Tensor<f32>,
        options: &Mse,
        upstream: Option<&Tensor<f32>>,
    ) -> Result<LossGrad> {
        self.elementwise_loss(&call("mse_backward", Grad::New, input, targets, options, upstream))
    }
}
