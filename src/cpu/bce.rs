use super::{LossGrad, broadcast, elementwise_loss, expect_len, product};
use crate::error::{Error, Result};
use crate::options::Bce;

/// Binary cross-entropy of probabilities; see [`Recorder::bce`](crate::Recorder::bce).
///
/// # Errors
/// [`Error::Shape`] if a slice does not have the shape's size, or weights do not broadcast to the
/// shape; [`Error::Value`] naming the first probability or target outside [0, 1], and for weights
/// that are on the GPU.
pub fn bce<T: Copy + Into<f64>>(
    probabilities: &[T],
    shape: &[usize],
    targets: &[T],
    options: &Bce,
) -> Result<Vec<f64>> {
    Ok(bce_backward(probabilities, shape, targets, options, None)?.loss)
}

/// [`bce`] and its gradient with respect to `probabilities`.
///
/// # Errors
/// Same as [`bce`], and if `upstream` has neither one element nor one per loss.
pub fn bce_backward<T: Copy + Into<f64>>(
    probabilities: &[T],
    shape: &[usize],
    targets: &[T],
    options: &Bce,
    upstream: Option<&[f64]>,
) -> Result<LossGrad> {
    let op = "cpu::bce";
    expect_len(op, "the input", probabilities.len(), product(shape))?;
    let weight = broadcast(op, "weight", options.weight.as_ref(), shape)?;
    elementwise_loss(op, (probabilities, targets), options.reduction, upstream, |i, p, y| {
        for (what, value) in [("a probability", p), ("a target", y)] {
            if !(0.0..=1.0).contains(&value) {
                let got = format!("{value} at position {i}");
                return Err(Error::Value { op, what, expected: "in 0..=1".to_owned(), got });
            }
        }
        let loss = (y - 1.0) * (-p).ln_1p().max(-100.0) - y * p.ln().max(-100.0);
        Ok((weight(i) * loss, weight(i) * (p - y) / ((1.0 - p) * p).max(f64::from(1e-12f32))))
    })
}
