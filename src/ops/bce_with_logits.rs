//! Binary cross-entropy of logits.

use crate::error::Result;
use crate::kernel::{Kernel, read, read4, wgsl, write, write4, write4_over};
use crate::options::BceWithLogits;
use crate::recorder::Recorder;
use crate::tensor::Tensor;

use super::elementwise_loss::{ElementwiseLoss, PARAMS};
use super::{Grad, LossGrad};

pub(super) const KERNEL: Kernel = Kernel {
    label: "xent.bce_with_logits",
    source: wgsl![
        "lib/grid",
        "lib/numerics",
        "lib/wide",
        "lib/lanes",
        "lib/sum",
        "lib/sum_across",
        "lib/partials",
        "lib/turns",
        "lib/elementwise_loss",
        "lib/element_weight",
        "bce_with_logits"
    ],
    bindings: &[
        read4("x"),
        read4("y"),
        read4("upstream"),
        read("weight", "f32"),
        read("pos_weight", "f32"),
        write4("losses"),
        write4_over("grad", "x"),
        write("partials", "u32"),
    ],
    params: PARAMS,
    constants: &["WORKGROUP", "SUBGROUP", "GRAD", "LOSSES", "QUADS", "UPSTREAM", "WEIGHTED", "POS_WEIGHTED"],
};

pub(super) fn call<'a>(
    op: &'static str,
    grad: Grad,
    logits: &'a Tensor<f32>,
    targets: &'a Tensor<f32>,
    options: &'a BceWithLogits,
    upstream: Option<&'a Tensor<f32>>,
) -> ElementwiseLoss<'a> {
    let BceWithLogits { weight, pos_weight, reduction } = options;
    ElementwiseLoss {
        op,
        kernel: &KERNEL,
        x: ("logits", logits),
        targets,
        reduction: *reduction,
        divided: true,
        upstream,
        grad,
        weight: weight.as_ref(),
        mean_by_weight: false,
        pos_weight: pos_weight.as_ref(),
        slope: 1.0,
    }
}

/// Binary cross-entropy of logits.
impl Recorder<'_> {
    /// Binary cross-entropy of logits `x` and targets `y`:
    /// `loss = w * (v * y * softplus(-x) + (1 - y) * softplus(x))` with `softplus(u) = log(1 + exp(u))`, without overflow, where
    /// `w` is the weight and `v` the positive targets' weight (1 if there is none).
    ///
    /// # Shapes
    /// `logits` and `targets` have the same shape, to which those of `weight` and `pos_weight` broadcast by NumPy's rules. The loss is
    /// a scalar, or has that shape with [`Reduction::None`](crate::Reduction::None).
    ///
    /// # Reduction
    /// Both means divide by the number of elements, whatever the weights; over nothing they are NaN.
    ///
    /// # Edge cases
    /// At x = +-infinity the loss takes its limit: right and certain costs 0, wrong and certain costs +infinity (PyTorch: NaN in
    /// most of these cases). A weight of exactly 0 times an infinite loss is 0 (PyTorch: NaN). NaN gives NaN. Targets are not restricted to [0, 1].
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
    /// use xent::{BceWithLogits, Gpu, Tensor};
    /// # if let Ok(gpu) = Gpu::headless() {
    /// let logits = Tensor::from_slice(&gpu, [2], &[2.0, -1.0f32])?;
    /// let targets = Tensor::from_slice(&gpu, [2], &[1.0, 0.0f32])?;
    /// let mut batch = gpu.batch();
    /// let loss = batch.bce_with_logits(&logits, &targets, &BceWithLogits::default())?;
    /// let mut loss = batch.read(&loss)?;
    /// batch.submit()?;
    /// assert!((loss.wait(Duration::from_secs(10))?[0] - 0.220095).abs() < 1e-6);
    /// # }
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is PyTorch's `torch.nn.functional.binary_cross_entropy_with_logits`.
    pub fn bce_with_logits(
        &mut self,
        logits: &Tensor<f32>,
        targets: &Tensor<f32>,
        options: &BceWithLogits,
    ) -> Result<Tensor<f32>> {
        Ok(self.elementwise_loss(&call("bce_with_logits", Grad::No, logits, targets, options, None))?.loss)
    }

    /// [`bce_with_logits`](Self::bce_with_logits) and its gradient with respect to `logits`, in one dispatch:
    /// `g * w * ((v * y + 1 - y) * sigmoid(x) - v * y)`, where `g` is the upstream gradient (1 if there is none), divided by the
    /// number of elements for the mean. `upstream` is a scalar or has the loss's shape.
    ///
    /// # Errors
    /// As [`bce_with_logits`](Self::bce_with_logits), and for an upstream gradient of another shape.
    ///
    /// # Cost
    /// One read of both tensors and one write (12 bytes an element).
    pub fn bce_with_logits_backward(
        &mut self,
        logits: &Tensor<f32>,
        targets: &Tensor<f32>,
        options: &BceWithLogits,
        upstream: Option<&Tensor<f32>>,
    ) -> Result<LossGrad> {
        self.elementwise_loss(&call("bce_with_logits_backward", Grad::New, logits, targets, options, upstream))
    }
}
