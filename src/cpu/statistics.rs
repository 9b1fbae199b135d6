use super::View;
use super::cross_entropy::{Outcome, Rows, Targets, rows};
use super::log_softmax::row_log_sum;
use crate::error::Result;
use crate::ops::loss::CrossEntropy;

/// Statistics of each row's softmax; see [`crate::loss::Statistics`].
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// The log of the sum of `exp(z_c)`.
    pub log_sum_exp: Vec<f64>,
    /// The log-probability of the target; with probabilities, of the first class with the largest
    /// probability. 0 for ignored rows.
    pub target_log_prob: Vec<f64>,
    /// The entropy of the softmax, in nats.
    pub entropy: Vec<f64>,
    /// The first class with the largest logit, before scale and cap; -1 if the softmax is
    /// undefined.
    pub predicted: Vec<i64>,
    /// The number of rows whose target is predicted.
    pub correct: usize,
    /// The number of rows that are not ignored.
    pub counted: usize,
}

/// Statistics of the rows of [`cross_entropy`](super::cross_entropy).
///
/// # Errors
/// Same as [`cross_entropy`](super::cross_entropy).
#[expect(
    clippy::indexing_slicing,
    reason = "`rows` returns a logit per element and an outcome per row, and all indices lie within"
)]
pub fn cross_entropy_statistics<'a, T: Copy + Into<f64> + 'a>(
    logits: impl Into<View<'a, T>>,
    targets: impl Into<Targets<'a>>,
    options: &CrossEntropy,
) -> Result<Statistics> {
    let View { data: logits, shape } = logits.into();
    let targets = targets.into();
    let Rows { dims, logits: z, outcomes, .. } =
        rows("cpu::cross_entropy_statistics", View { data: logits, shape }, &targets, options)?;
    let nothing = vec![0.0; outcomes.len()];
    let mut out = Statistics {
        log_sum_exp: nothing.clone(),
        target_log_prob: nothing.clone(),
        entropy: nothing,
        predicted: vec![-1; outcomes.len()],
        correct: 0,
        counted: 0,
    };
    for (row, &outcome) in outcomes.iter().enumerate() {
        let values = || dims.row(row).map(|i| z[i].value);
        let (max, log_sum) = row_log_sum(values());
        out.log_sum_exp[row] = max + log_sum;
        let terms = values().map(|z| (z - max) - log_sum).map(|log_prob| match log_prob {
            f64::NEG_INFINITY => 0.0,
            _ => log_prob.exp() * -log_prob,
        });
        out.entropy[row] = if max.is_nan() { f64::NAN } else { terms.sum() };
        // Raw logits, because a cap may make different logits equal. It also makes infinite ones
        // finite, so clamp those.
        let raw = || {
            let raw = dims.row(row).map(|i| logits[i].into());
            raw.map(|x: f64| if options.softcap.is_some() { x.clamp(f32::MIN.into(), f32::MAX.into()) } else { x })
        };
        let largest = raw().fold(f64::NEG_INFINITY, f64::max);
        let predicted = raw().position(|x| x == largest).filter(|_| !max.is_nan());
        out.predicted[row] = predicted.and_then(|class| i64::try_from(class).ok()).unwrap_or(-1);
        let target = match (outcome, targets.probabilities()) {
            (Outcome::Ignored, _) => continue,
            (Outcome::Class(class), _) => Some(class),
            (_, Some(q)) => {
                let classes = dims.row(row).map(|i| q[i]).enumerate().filter(|(_, q)| !q.is_nan());
                classes.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(class, _)| class)
            }
            (_, None) => None,
        };
        let log_prob = target.and_then(|class| values().nth(class)).map_or(f64::NAN, |z| (z - max) - log_sum);
        out.target_log_prob[row] = log_prob;
        out.counted += 1;
        out.correct += usize::from(predicted.is_some() && predicted == target);
    }
    Ok(out)
}
