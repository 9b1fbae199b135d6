use super::{Classes, LossGrad, class_of, count, expect_len, reduce, upstream_factor};
use crate::error::Result;
use crate::options::Nll;

/// Negative log-likelihood of log-probabilities and class indices; see [`Recorder::nll`](crate::Recorder::nll).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if a slice does not fit the shape; [`Error::Value`](crate::Error::Value) with the first
/// target that is no class.
pub fn nll<T: Copy + Into<f64>>(log_probs: &[T], shape: &[usize], targets: &[i64], options: &Nll) -> Result<Vec<f64>> {
    Ok(nll_backward(log_probs, shape, targets, options, None)?.loss)
}

/// [`nll`] and its gradient with respect to the log-probabilities.
///
/// # Errors
/// As [`nll`], and for an upstream gradient that has neither one element nor one for each loss.
pub fn nll_backward<T: Copy + Into<f64>>(
    log_probs: &[T],
    shape: &[usize],
    targets: &[i64],
    options: &Nll,
    upstream: Option<&[f64]>,
) -> Result<LossGrad> {
    let op = "cpu::nll";
    let &Nll { reduction, ignore_index } = options;
    let dims = Classes::of(op, shape, log_probs.len())?;
    expect_len(op, "targets", targets.len(), dims.rows())?;
    let valid = count(targets.iter().filter(|&&t| t != ignore_index).count());
    let factor = upstream_factor(op, upstream, dims.rows(), reduction, valid)?;
    let mut losses = vec![0.0; dims.rows()];
    let mut grad = vec![0.0; log_probs.len()];
    for row in 0..dims.rows() {
        let Some(target) = class_of(op, targets[row], row, dims.classes, ignore_index)? else { continue };
        for i in dims.row(row).skip(target).take(1) {
            let log_prob: f64 = log_probs[i].into();
            losses[row] = -log_prob;
            grad[i] = -factor(row);
        }
    }
    Ok(LossGrad { loss: reduce(losses, reduction, valid), grad })
}
