use super::{View, bce_with_logits_backward, column_sum, matmul};
use crate::error::Result;
use crate::ops::loss::BceWithLogits;
use crate::plan::product::Layout;

/// The result of [`linear_bce_with_logits`].
#[derive(Clone, Debug, PartialEq)]
pub struct LinearBceLoss {
    /// One element, or one per token and class with
    /// [`Reduction::None`](crate::loss::Reduction::None).
    pub loss: Vec<f64>,
    /// The gradient with respect to the hidden states, `[N, D]`.
    pub hidden: Vec<f64>,
    /// The gradient with respect to the weight, `[V, D]`.
    pub weight: Vec<f64>,
    /// The gradient with respect to a bias, `[V]`.
    pub bias: Vec<f64>,
}

/// Binary cross-entropy of `hidden weight^T + bias` and its gradients, for hidden states `[N, D]`
/// and a weight `[V, D]`; see
/// [`Recorder::linear_bce_with_logits`](crate::Recorder::linear_bce_with_logits).
///
/// # Errors
/// Those of [`matmul`] and [`bce_with_logits`](super::bce_with_logits).
pub fn linear_bce_with_logits<'a, T: Copy + Into<f64> + 'a>(
    hidden: impl Into<View<'a, T>>,
    weight: impl Into<View<'a, T>>,
    bias: Option<&[T]>,
    targets: &[f64],
    options: &BceWithLogits,
    upstream: Option<&[f64]>,
) -> Result<LinearBceLoss> {
    let op = "cpu::linear_bce_with_logits";
    let (hidden, weight) = (hidden.into(), weight.into());
    let logits = matmul(Layout::Nt, hidden.clone(), weight.clone(), bias)?;
    let (hidden_shape, weight_shape) = (hidden.matrix(op, "hidden")?, weight.matrix(op, "weight")?);
    let (hidden, weight) = (hidden.data, weight.data);
    let shape = [hidden_shape[0], weight_shape[0]];
    let out = bce_with_logits_backward((&logits, &shape), (targets, &shape), options, upstream)?;
    let wide = |values: &[T]| values.iter().map(|&value| value.into()).collect::<Vec<f64>>();
    let (grad, hidden, weight) = (out.grad, wide(hidden), wide(weight));
    Ok(LinearBceLoss {
        hidden: matmul(Layout::Nn, (&grad, &shape), (&weight, &weight_shape), None)?,
        weight: matmul(Layout::Tn, (&grad, &shape), (&hidden, &hidden_shape), None)?,
        bias: column_sum((&grad, &shape))?,
        loss: out.loss,
    })
}
