use super::cross_entropy::{Outcome, Targets, cross_entropy_backward, rows};
use super::{Statistics, View, cross_entropy_statistics, matmul};
use crate::error::Result;
use crate::ops::linear::LinearCrossEntropy;
use crate::ops::loss::{CrossEntropy, Reduction};
use crate::plan::product::Layout;

/// The result of [`linear_cross_entropy`].
#[derive(Clone, Debug, PartialEq)]
pub struct LinearLoss {
    /// One element, or one per token with [`Reduction::None`](crate::loss::Reduction::None).
    pub loss: Vec<f64>,
    /// The gradient with respect to the hidden states, `[N, D]`.
    pub hidden: Vec<f64>,
    /// The gradient with respect to the weight, `[V, D]`.
    pub weight: Vec<f64>,
    /// The gradient with respect to a bias, `[V]`.
    pub bias: Vec<f64>,
    /// Statistics of each token's softmax.
    pub statistics: Statistics,
}

/// Cross-entropy of `hidden weight^T + bias` and its gradients, for hidden states `[N, D]` and a
/// weight `[V, D]`; see [`Recorder::linear_cross_entropy`](crate::Recorder::linear_cross_entropy).
///
/// # Errors
/// Those of [`matmul`] and [`cross_entropy`](super::cross_entropy).
pub fn linear_cross_entropy<'a, T: Copy + Into<f64> + 'a>(
    hidden: impl Into<View<'a, T>>,
    weight: impl Into<View<'a, T>>,
    bias: Option<&[T]>,
    targets: impl Into<Targets<'a>>,
    options: &LinearCrossEntropy,
    upstream: Option<&[f64]>,
) -> Result<LinearLoss> {
    let targets = targets.into();
    let op = "cpu::linear_cross_entropy";
    options.validate(op)?;
    let (hidden, weight) = (hidden.into(), weight.into());
    let logits = matmul(Layout::Nt, hidden.clone(), weight.clone(), bias)?;
    let (hidden_shape, weight_shape) = (hidden.matrix(op, "hidden")?, weight.matrix(op, "weight")?);
    let (hidden, weight) = (hidden.data, weight.data);
    let ([tokens, inputs], classes) = (hidden_shape, weight_shape[0]);
    let shape = [tokens, classes];
    let loss = &options.loss;
    let out = cross_entropy_backward((&logits, &shape), targets.clone(), loss, upstream)?;
    let statistics = cross_entropy_statistics((&logits, &shape), targets.clone(), loss)?;
    let outcomes = rows(op, (&logits, &shape).into(), &targets, loss)?.outcomes;
    let wide = |values: &[T]| values.iter().map(|&value| value.into()).collect::<Vec<f64>>();
    let (mut grad, hidden, weight) = (out.grad, wide(hidden), wide(weight));
    if options.gradient_threshold > 0.0 {
        let of_tokens = CrossEntropy { reduction: Reduction::None, position_weight: None, ..loss.clone() };
        let alone = cross_entropy_backward((&logits, &shape), targets, &of_tokens, None)?.grad;
        let small = alone.iter().map(|alone| alone.abs() < options.gradient_threshold);
        // Keep gradients that a non-finite factor made non-finite.
        let left_out = grad.iter_mut().zip(small).filter(|(grad, small)| *small && grad.is_finite());
        left_out.for_each(|(grad, _)| *grad = 0.0);
    }
    // Clear the hidden states of ignored tokens: their gradient is 0, and 0 times NaN is NaN.
    let mut counted = hidden;
    for (row, outcome) in counted.chunks_exact_mut(inputs.max(1)).zip(outcomes) {
        if outcome == Outcome::Ignored {
            row.fill(0.0);
        }
    }
    Ok(LinearLoss {
        hidden: matmul(Layout::Nn, (&grad, &shape), (&weight, &weight_shape), None)?,
        weight: matmul(Layout::Tn, (&grad, &shape), (&counted, &hidden_shape), None)?,
        bias: super::column_sum((&grad, &shape))?,
        loss: out.loss,
        statistics,
    })
}
