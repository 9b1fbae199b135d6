use super::{LossGrad, elementwise_loss, softplus};
use crate::error::Result;
use crate::options::BceWithLogits;

/// Binary cross-entropy of logits; see [`Recorder::bce_with_logits`](crate::Recorder::bce_with_logits).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the slices differ in length.
pub fn bce_with_logits<T: Copy + Into<f64>>(logits: &[T], targets: &[T], options: &BceWithLogits) -> Result<Vec<f64>> {
    Ok(bce_with_logits_backward(logits, targets, options, None)?.loss)
}

/// [`bce_with_logits`] and its gradient with respect to `logits`.
///
/// # Errors
/// As [`bce_with_logits`], and for an upstream gradient that has neither one element nor one for each loss.
pub fn bce_with_logits_backward<T: Copy + Into<f64>>(
    logits: &[T],
    targets: &[T],
    options: &BceWithLogits,
    upstream: Option<&[f64]>,
) -> Result<LossGrad> {
    let op = "cpu::bce_with_logits";
    let lens = (logits.len(), targets.len());
    elementwise_loss(op, lens, options.reduction, upstream, |i| {
        let (x, y): (f64, f64) = (logits[i].into(), targets[i].into());
        // A factor of 0 wins over an infinite softplus: at x = +-infinity the loss takes its limit.
        let term = |factor: f64, value: f64| if factor == 0.0 && !value.is_nan() { 0.0 } else { factor * value };
        let loss = match x.is_infinite() {
            true => term(y, softplus(-x)) + term(1.0 - y, softplus(x)),
            // The part that both softplus share is added once: y and 1 - y sum to 1.
            false => y * (-x).max(0.0) + (1.0 - y) * x.max(0.0) + softplus(-x.abs()),
        };
        // sigmoid(x) - y, written so that neither tail cancels.
        let e = (-x.abs()).exp();
        let slope = if x >= 0.0 { (1.0 - y) - y * e } else { (1.0 - y) * e - y };
        let nan = x.is_nan() || y.is_nan();
        Ok(if nan { (f64::NAN, f64::NAN) } else { (loss, slope / (1.0 + e)) })
    })
}
