//! Binary cross-entropy of probabilities.

use crate::engine::kernel::{Kernel, kernel, read, read4, write, write4};
use crate::error::Result;
use crate::options::Bce;
use crate::record::Recorder;
use crate::tensor::Tensor;

use crate::ops::loss::elementwise::{ElementwiseLoss, PARAMS};
use crate::ops::{Grad, LossGrad};

pub(crate) static KERNEL: Kernel = kernel!(
    "bce",
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

fn call<'a>(
    op: &'static str,
    grad: Grad,
    probabilities: &'a Tensor<f32>,
    targets: &'a Tensor<f32>,
    options: &'a Bce,
    upstream: Option<&'a Tensor<f32>>,
) -> ElementwiseLoss<'a> {
    let Bce { weight, reduction } = options;
    ElementwiseLoss {
        op,
        kernel: &KERNEL,
        x: ("probabilities", probabilities),
        targets,
        reduction: *reduction,
        divided: true,
        upstream,
        grad,
        weight: weight.as_ref(),
        mean_by_weight: false,
        pos_weight: None,
        slope: 1.0,
    }
}

/// Binary cross-entropy of probabilities.
impl Recorder<'_> {
    /// Binary cross-entropy of probabilities `p` and targets `y`, both in [0, 1]:
    /// `loss = -w * (y * max(log p, -100) + (1 - y) * max(log(1 - p), -100))` with the weight `w` (1 if there is none).
    ///
    /// # Shapes
    /// `probabilities` and `targets` have the same shape, to which that of `weight` broadcasts by NumPy's rules. The loss is a
    /// scalar, or has that shape with [`Reduction::None`](crate::Reduction::None).
    ///
    /// # Reduction
    /// Both means divide by the number of elements, whatever the weights; over nothing they are NaN.
    ///
    /// # Edge cases
    /// A probability or target outside [0, 1], or NaN, gives NaN there, and reading the result gives
    /// [`Error::Data`](crate::Error::Data) with its position. For logits,
    /// [`bce_with_logits`](Self::bce_with_logits) is exact where a probability has rounded to 0 or 1.
    ///
    /// # Errors
    /// Shapes that differ or weights that do not broadcast, tensors of another [`Gpu`](crate::Gpu). Nothing is recorded then.
    ///
    /// # Cost
    /// One pass, which reads both tensors (8 bytes an element, and 4 for each tensor of weights with one for each element); the sum
    /// of its blocks takes one more small pass for each factor of 1024 elements. Weights that vary along neighbouring dimensions are read where they are;
    /// others, such as `[2, 1, 4]` for `[2, 3, 4]`, are expanded first.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{Bce, Gpu, Tensor};
    /// # if let Ok(gpu) = Gpu::headless() {
    /// let probabilities = Tensor::from_slice(&gpu, [2], &[0.9, 0.1f32])?;
    /// let targets = Tensor::from_slice(&gpu, [2], &[1.0, 0.0f32])?;
    /// let mut batch = gpu.batch();
    /// let loss = batch.bce(&probabilities, &targets, &Bce::default())?;
    /// let mut loss = batch.read(&loss)?;
    /// batch.submit()?;
    /// assert!((loss.wait(Duration::from_secs(10))?[0] - 0.105361).abs() < 1e-6);
    /// # }
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is PyTorch's `torch.nn.functional.binary_cross_entropy`.
    pub fn bce(&mut self, probabilities: &Tensor<f32>, targets: &Tensor<f32>, options: &Bce) -> Result<Tensor<f32>> {
        Ok(self.elementwise_loss(&call("bce", Grad::No, probabilities, targets, options, None))?.loss)
    }

    /// [`bce`](Self::bce) and its gradient with respect to `probabilities`, in one dispatch:
    /// `g * w * (p - y) / max(p * (1 - p), 1e-12)`, where `g` is the upstream gradient (1 if there is none), divided by the
    /// number of elements for the mean. `upstream` is a scalar or has the loss's shape.
    ///
    /// # Errors
    /// As [`bce`](Self::bce), and for an upstream gradient of another shape.
    ///
    /// # Cost
    /// One read of both tensors and one write (12 bytes an element).
    pub fn bce_backward(
        &mut self,
        probabilities: &Tensor<f32>,
        targets: &Tensor<f32>,
        options: &Bce,
        upstream: Option<&Tensor<f32>>,
    ) -> Result<LossGrad> {
        self.elementwise_loss(&call("bce_backward", Grad::New, probabilities, targets, options, upstream))
    }
}
