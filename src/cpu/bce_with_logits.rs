use super::{LossGrad, broadcast, elementwise_loss, expect_len, product};
use crate::error::Result;
use crate::options::BceWithLogits;

/// Binary cross-entropy of logits; see
/// [`Recorder::bce_with_logits`](crate::Recorder::bce_with_logits).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if a slice does not have the shape's size, or weights do
/// not broadcast to the shape; [`Error::Value`](crate::Error::Value) for weights that are on the
/// GPU.
pub fn bce_with_logits<T: Copy + Into<f64>>(
    logits: &[T],
    shape: &[usize],
    targets: &[T],
    options: &BceWithLogits,
) -> Result<Vec<f64>> {
    Ok(bce_with_logits_backward(logits, shape, targets, options, None)?.loss)
}

/// [`bce_with_logits`] and its gradient with respect to `logits`.
///
/// # Errors
/// Same as [`bce_with_logits`], and if `upstream` has neither one element nor one per loss.
pub fn bce_with_logits_backward<T: Copy + Into<f64>>(
    logits: &[T],
    shape: &[usize],
    targets: &[T],
    options: &BceWithLogits,
    upstream: Option<&[f64]>,
) -> Result<LossGrad> {
    let op = "cpu::bce_with_logits";
    expect_len(op, "the input", logits.len(), product(shape))?;
    let weight = broadcast(op, "weight", options.weight.as_ref(), shape)?;
    let pos_weight = broadcast(op, "pos_weight", options.pos_weight.as_ref(), shape)?;
    elementwise_loss(op, (logits, targets), options.reduction, upstream, |i, x, y| {
        let (positive, negative) = (pos_weight(i) * y, 1.0 - y);
        // A factor of 0 times an infinite value is 0: at x = +-infinity the loss takes its limit.
        let term = |factor: f64, value: f64| if factor == 0.0 && !value.is_nan() { 0.0 } else { factor * value };
        // softplus(u) = max(u, 0) + ln_1p(exp(-|u|)): the second term is the same for x and -x.
        let e = (-x.abs()).exp();
        let loss = term(positive, (-x).max(0.0)) + term(negative, x.max(0.0)) + (positive + negative) * e.ln_1p();
        // (v y + 1 - y) sigmoid(x) - v y with v = pos_weight, written so that neither tail cancels.
        let slope = if x >= 0.0 { negative - positive * e } else { negative * e - positive };
        let nan = x.is_nan() || y.is_nan();
        Ok(if nan { (f64::NAN, f64::NAN) } else { (term(weight(i), loss), weight(i) * slope / (1.0 + e)) })
    })
}
