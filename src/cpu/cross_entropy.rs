use super::log_softmax::row_log_sum;
use super::{Classes, LossGrad, class_of, count, expect_len, reduce, upstream_factor};
use crate::error::Result;
use crate::options::CrossEntropy;

/// Cross-entropy of logits and class indices; see [`Recorder::cross_entropy`](crate::Recorder::cross_entropy).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if a slice does not fit the shape; [`Error::Value`](crate::Error::Value) with the first
/// target that is no class.
pub fn cross_entropy<T: Copy + Into<f64>>(
    logits: &[T],
    shape: &[usize],
    targets: &[i64],
    options: &CrossEntropy,
) -> Result<Vec<f64>> {
    Ok(cross_entropy_backward(logits, shape, targets, options, None)?.loss)
}

/// [`cross_entropy`] and its gradient with respect to the logits.
///
/// # Errors
/// As [`cross_entropy`], and for an upstream gradient that has neither one element nor one for each loss.
pub fn cross_entropy_backward<T: Copy + Into<f64>>(
    logits: &[T],
    shape: &[usize],
    targets: &[i64],
    options: &CrossEntropy,
    upstream: Option<&[f64]>,
) -> Result<LossGrad> {
    let op = "cpu::cross_entropy";
    let &CrossEntropy { reduction, ignore_index } = options;
    let dims = Classes::of(op, shape, logits.len())?;
    expect_len(op, "targets", targets.len(), dims.rows())?;
    let valid = count(targets.iter().filter(|&&t| t != ignore_index).count());
    let factor = upstream_factor(op, upstream, dims.rows(), reduction, valid)?;
    let mut losses = vec![0.0; dims.rows()];
    let mut grad = vec![0.0; logits.len()];
    for row in 0..dims.rows() {
        let Some(target) = class_of(op, targets[row], row, dims.classes, ignore_index)? else { continue };
        let (max, log_sum) = row_log_sum(dims.row(row).map(|i| logits[i].into()));
        for (class, i) in dims.row(row).enumerate() {
            let x: f64 = logits[i].into();
            let log_prob = (x - max) - log_sum;
            if class == target {
                losses[row] = -log_prob;
                // p - 1, without cancellation where p is near 1.
                grad[i] = factor(row) * log_prob.exp_m1();
            } else {
                grad[i] = factor(row) * log_prob.exp();
            }
        }
    }
    Ok(LossGrad { loss: reduce(losses, reduction, valid), grad })
}
