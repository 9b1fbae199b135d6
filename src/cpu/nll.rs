use super::{Classes, LossGrad, Targets, View, class_of, count, factors, reduce, upstream_factor};
use crate::error::{Result, expect_len};
use crate::ops::loss::{Nll, Reduction};

/// Negative log-likelihood of log-probabilities and class indices; see
/// [`Recorder::nll`](crate::Recorder::nll).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if a slice or weights do not fit the shape;
/// [`Error::Value`](crate::Error::Value) naming the first target that is not a class, for
/// probabilities as targets, and for weights that are on the GPU.
pub fn nll<'a, T: Copy + Into<f64> + 'a>(
    log_probs: impl Into<View<'a, T>>,
    targets: impl Into<Targets<'a>>,
    options: &Nll,
) -> Result<Vec<f64>> {
    Ok(nll_backward(log_probs, targets, options, None)?.loss)
}

/// [`nll`] and its gradient with respect to the log-probabilities.
///
/// # Errors
/// Same as [`nll`], and if `upstream` has neither one element nor one per loss.
#[expect(clippy::indexing_slicing, reason = "the slices were checked to have the shape's size, and rows lie within it")]
pub fn nll_backward<'a, T: Copy + Into<f64> + 'a>(
    log_probs: impl Into<View<'a, T>>,
    targets: impl Into<Targets<'a>>,
    options: &Nll,
    upstream: Option<&[f64]>,
) -> Result<LossGrad> {
    let View { data: log_probs, shape } = log_probs.into();
    let op = "cpu::nll";
    let targets = targets.into();
    let (targets, ignored) = targets.indices(op)?;
    let &Nll { ref weight, ref position_weight, reduction } = options;
    let dims = Classes::of(op, &shape, log_probs.len())?;
    expect_len(op, "targets", targets.len(), dims.rows())?;
    let class_weight = factors(op, "weight", weight.as_ref(), dims.classes)?;
    let position_weight = factors(op, "position_weight", position_weight.as_ref(), dims.rows())?;
    let weight = |row: usize, class: usize| position_weight(row) * class_weight(class);
    let class = |(row, &target)| {
        if position_weight(row) == 0.0 { Ok(None) } else { class_of(op, target, row, dims.classes, ignored) }
    };
    let classes = targets.iter().enumerate().map(class).collect::<Result<Vec<_>>>()?;
    let mean = match reduction {
        Reduction::MeanByCount => count(targets.iter().filter(|&&target| target != ignored).count()),
        _ => classes.iter().enumerate().flat_map(|(row, class)| class.map(|class| weight(row, class))).sum(),
    };
    let factor = upstream_factor(op, upstream, dims.rows(), reduction, mean)?;
    let mut losses = vec![0.0; dims.rows()];
    let mut grad = vec![0.0; log_probs.len()];
    for (row, &target) in classes.iter().enumerate() {
        let Some(target) = target else { continue };
        for i in dims.row(row).skip(target).take(1) {
            let log_prob: f64 = log_probs[i].into();
            // A weight of 0 times an infinite log-probability is 0.
            let weight = weight(row, target);
            losses[row] = if weight == 0.0 && !log_prob.is_nan() { 0.0 } else { weight * -log_prob };
            grad[i] = -factor(row) * weight;
        }
    }
    Ok(LossGrad { loss: reduce(losses, reduction, mean), grad })
}
