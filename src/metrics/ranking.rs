//! Metrics of how well scores rank positives above negatives.

use crate::error::{Error, Result, expect_len};

use super::confusion::weights;

/// A point of a ROC curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RocPoint {
    /// The lowest score that is classified as positive; infinity at the first point.
    pub threshold: f32,
    /// The fraction of the negatives that is classified as positive.
    pub false_positive_rate: f64,
    /// The fraction of the positives that is classified as positive.
    pub true_positive_rate: f64,
}

/// Returns the distinct scores in descending order, each with the total weight of the positives and
/// of the negatives with at least that score. Rows of weight 0 are left out.
fn steps(
    op: &'static str,
    scores: &[f32],
    positive: &[bool],
    sample_weight: Option<&[f32]>,
) -> Result<Vec<(f32, f64, f64)>> {
    expect_len(op, "the labels", positive.len(), scores.len())?;
    if let Some(position) = scores.iter().position(|score| score.is_nan()) {
        return Err(Error::value(op, "a score", "a number", format!("NaN at position {position}")));
    }
    let weights = weights(op, scores.len(), sample_weight)?;
    let rows = scores.iter().zip(positive).zip(weights).map(|((&score, &positive), weight)| (score, positive, weight));
    let mut order: Vec<(f32, bool, f64)> = rows.filter(|&(.., weight)| weight > 0.0).collect();
    order.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
    let (mut positives, mut negatives) = (0.0, 0.0);
    let mut steps: Vec<(f32, f64, f64)> = Vec::new();
    for (score, positive, weight) in order {
        if positive {
            positives += weight;
        } else {
            negatives += weight;
        }
        match steps.last_mut() {
            // 0 and -0 are equal, too.
            Some(last) if last.0 == score => (last.1, last.2) = (positives, negatives),
            _ => steps.push((score, positives, negatives)),
        }
    }
    Ok(steps)
}

/// The ROC curve, from (0, 0) to (1, 1): a point for each distinct score. A rate over no rows is
/// NaN.
///
/// With sample weights, rates are fractions of weights, and rows of weight 0 are left out, as in
/// scikit-learn's `roc_curve` (which by default drops points on straight lines; here they stay).
///
/// # Errors
/// [`Error::Shape`] if the slices differ in length; [`Error::Value`] with the first score that is
/// NaN, or the first weight that is negative or not finite.
pub fn roc_curve(scores: &[f32], positive: &[bool], sample_weight: Option<&[f32]>) -> Result<Vec<RocPoint>> {
    let steps = steps("roc_curve", scores, positive, sample_weight)?;
    let (all_positives, all_negatives) = steps.last().map_or((0.0, 0.0), |last| (last.1, last.2));
    let point = |(threshold, positives, negatives): (f32, f64, f64)| RocPoint {
        threshold,
        false_positive_rate: negatives / all_negatives,
        true_positive_rate: positives / all_positives,
    };
    Ok(std::iter::once((f32::INFINITY, 0.0, 0.0)).chain(steps).map(point).collect())
}

/// The area under the ROC curve: the probability that a positive has a higher score than a
/// negative, where equal scores count half. NaN unless there are both positives and negatives.
///
/// With sample weights, for positives `i` and negatives `j` with scores `s` and weights `w`, it is
///
/// ```text
/// sum of w_i w_j ([s_i > s_j] + [s_i = s_j] / 2) / sum of w_i w_j
/// ```
///
/// as in scikit-learn's `roc_auc_score`.
///
/// # Errors
/// As [`roc_curve`].
///
/// # Examples
/// ```
/// use xent::metrics::roc_auc;
/// let (scores, positive) = ([0.1, 0.4, 0.35, 0.8], [false, false, true, true]);
/// assert_eq!(roc_auc(&scores, &positive, None)?, 0.75);
/// // The second negative, which scores above a positive, is three quarters of the negatives.
/// assert_eq!(roc_auc(&scores, &positive, Some(&[1.0, 3.0, 1.0, 1.0]))?, 0.625);
/// # Ok::<(), xent::Error>(())
/// ```
pub fn roc_auc(scores: &[f32], positive: &[bool], sample_weight: Option<&[f32]>) -> Result<f64> {
    let steps = steps("roc_auc", scores, positive, sample_weight)?;
    let (mut area, mut before) = (0.0, (0.0, 0.0));
    for &(_, positives, negatives) in &steps {
        // Trapezia, in counts: without weights, exact multiples of 1/2.
        area += (negatives - before.1) * (positives + before.0) / 2.0;
        before = (positives, negatives);
    }
    Ok(area / (before.0 * before.1))
}

/// The average precision: the sum over the thresholds of the precision times the increase in
/// recall. 0 without positives, as in scikit-learn. With sample weights, precision and recall are
/// fractions of weights.
///
/// # Errors
/// As [`roc_curve`].
///
/// # Examples
/// ```
/// use xent::metrics::average_precision;
/// let ap = average_precision(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true], None)?;
/// assert!((ap - 5.0 / 6.0).abs() < 1e-15);
/// # Ok::<(), xent::Error>(())
/// ```
pub fn average_precision(scores: &[f32], positive: &[bool], sample_weight: Option<&[f32]>) -> Result<f64> {
    let steps = steps("average_precision", scores, positive, sample_weight)?;
    let all = steps.last().map_or(0.0, |last| last.1);
    if all == 0.0 {
        return Ok(0.0);
    }
    let mut before = 0.0;
    let terms = steps.iter().map(|&(_, positives, negatives)| {
        let added = positives - before;
        before = positives;
        added / all * (positives / (positives + negatives))
    });
    Ok(terms.sum())
}
