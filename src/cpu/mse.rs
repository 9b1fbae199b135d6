use super::{LossGrad, elementwise_loss};
use crate::error::Result;
use crate::options::Mse;

/// Squared error; see [`Recorder::mse`](crate::Recorder::mse).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the slices differ in length.
pub fn mse<T: Copy + Into<f64>>(input: &[T], targets: &[T], options: &Mse) -> Result<Vec<f64>> {
    Ok(mse_backward(input, targets, options, None)?.loss)
}

/// [`mse`] and its gradient with respect to `input`.
///
/// # Errors
/// As [`mse`], and for an upstream gradient that has neither one element nor one for each loss.
pub fn mse_backward<T: Copy + Into<f64>>(
    input: &[T],
    targets: &[T],
    options: &Mse,
    upstream: Option<&[f64]>,
) -> Result<LossGrad> {
    let op = "cpu::mse";
    let lens = (input.len(), targets.len());
    elementwise_loss(op, lens, options.reduction, upstream, |i| {
        let (x, y): (f64, f64) = (input[i].into(), targets[i].into());
        Ok(((x - y) * (x - y), 2.0 * (x - y)))
    })
}
