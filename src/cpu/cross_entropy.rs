use super::log_softmax::row_log_sum;
use super::{Classes, LossGrad, class_of, class_weight, count, expect_len, reduce, upstream_factor};
use crate::error::{Error, Result};
use crate::options::CrossEntropy;

/// What a row of logits should have been; see [`crate::Targets`].
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// A class for each row.
    Index(&'a [i64]),
    /// A probability for each class of each row.
    Probabilities(&'a [f32]),
}

impl<'a> From<&'a [i64]> for Targets<'a> {
    fn from(index: &'a [i64]) -> Self {
        Self::Index(index)
    }
}

impl<'a> From<&'a Vec<i64>> for Targets<'a> {
    fn from(index: &'a Vec<i64>) -> Self {
        Self::Index(index)
    }
}

impl<'a, const N: usize> From<&'a [i64; N]> for Targets<'a> {
    fn from(index: &'a [i64; N]) -> Self {
        Self::Index(index)
    }
}

impl<'a> From<&'a [f32]> for Targets<'a> {
    fn from(probabilities: &'a [f32]) -> Self {
        Self::Probabilities(probabilities)
    }
}

impl<'a> From<&'a Vec<f32>> for Targets<'a> {
    fn from(probabilities: &'a Vec<f32>) -> Self {
        Self::Probabilities(probabilities)
    }
}

/// Cross-entropy of logits and targets; see [`Recorder::cross_entropy`](crate::Recorder::cross_entropy).
///
/// # Errors
/// [`Error::Shape`] if a slice does not fit the shape; [`Error::Value`] with the first target that is no class, for a label
/// smoothing outside 0 to 1, and for weights that are on the GPU.
pub fn cross_entropy<'a, T: Copy + Into<f64>>(
    logits: &[T],
    shape: &[usize],
    targets: impl Into<Targets<'a>>,
    options: &CrossEntropy,
) -> Result<Vec<f64>> {
    Ok(cross_entropy_backward(logits, shape, targets, options, None)?.loss)
}

/// [`cross_entropy`] and its gradient with respect to the logits.
///
/// # Errors
/// As [`cross_entropy`], and for an upstream gradient that has neither one element nor one for each loss.
pub fn cross_entropy_backward<'a, T: Copy + Into<f64>>(
    logits: &[T],
    shape: &[usize],
    targets: impl Into<Targets<'a>>,
    options: &CrossEntropy,
    upstream: Option<&[f64]>,
) -> Result<LossGrad> {
    let op = "cpu::cross_entropy";
    let targets = targets.into();
    let CrossEntropy { weight, reduction, ignore_index, label_smoothing } = options;
    let smoothing = f64::from(*label_smoothing);
    if !(0.0..=1.0).contains(&smoothing) {
        let (expected, got) = ("in 0..=1".to_owned(), smoothing.to_string());
        return Err(Error::Value { op, what: "label_smoothing", expected, got });
    }
    let dims = Classes::of(op, shape, logits.len())?;
    let weight = class_weight(op, weight.as_ref(), dims.classes)?;
    // For each row the target's class; `None` if it is ignored or has probabilities instead.
    let mut classes = vec![None; if logits.is_empty() && dims.classes > 0 { 0 } else { dims.rows() }];
    let mean = match targets {
        Targets::Index(index) => {
            expect_len(op, "targets", index.len(), dims.rows())?;
            for (row, &target) in index.iter().enumerate() {
                classes[row] = class_of(op, target, row, dims.classes, *ignore_index)?;
            }
            classes.iter().flatten().map(|&class| weight(class)).sum()
        }
        Targets::Probabilities(probabilities) => {
            expect_len(op, "targets", probabilities.len(), logits.len())?;
            if *ignore_index >= 0 {
                let (expected, got) = ("below 0 with probabilities".to_owned(), ignore_index.to_string());
                return Err(Error::Value { op, what: "ignore_index", expected, got });
            }
            count(dims.rows())
        }
    };
    let factor = upstream_factor(op, upstream, classes.len(), *reduction, mean)?;
    let mut losses = vec![0.0; classes.len()];
    let mut grad = vec![0.0; logits.len()];
    for (row, &target) in classes.iter().enumerate() {
        // The coefficient of each class's negative log-probability.
        let coefficient = |(class, i): (usize, usize)| match targets {
            Targets::Index(_) => {
                let one_hot = if target == Some(class) { (1.0 - smoothing) * weight(class) } else { 0.0 };
                one_hot + smoothing / count(dims.classes) * weight(class)
            }
            Targets::Probabilities(q) => {
                weight(class) * ((1.0 - smoothing) * f64::from(q[i]) + smoothing / count(dims.classes))
            }
        };
        if matches!(targets, Targets::Index(_)) && target.is_none() {
            continue;
        }
        let sum: f64 = dims.row(row).enumerate().map(coefficient).sum();
        let (max, log_sum) = row_log_sum(dims.row(row).map(|i| logits[i].into()));
        for (class, i) in dims.row(row).enumerate() {
            let x: f64 = logits[i].into();
            let log_prob = (x - max) - log_sum;
            let a = coefficient((class, i));
            // A coefficient of 0 wins over an infinite log-probability; one that is not a number does not.
            losses[row] += if a == 0.0 && !log_prob.is_nan() { 0.0 } else { a * -log_prob };
            // sum * p - a, without cancellation where p is near 1.
            grad[i] = factor(row) * (a * log_prob.exp_m1() + (sum - a) * log_prob.exp());
        }
    }
    Ok(LossGrad { loss: reduce(losses, *reduction, mean), grad })
}
