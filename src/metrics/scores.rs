//! The scores of an evaluation.

use crate::error::{Error, Result, try_with_capacity};

use super::Confusion;

/// The kind of a record, which determines the kinds of bad data that it can have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Rows,
    Logits,
    Probabilities,
}

/// The scores of an [`Evaluation`](super::Evaluation). With sample weights, each row counts in
/// proportion to its weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    rows: u64,
    /// At index `r`: the weight of the rows with `r` outputs above their target's, in units of
    /// 2^-64.
    ranks: Vec<u128>,
    /// The weight of the rows without a rank, because of NaN.
    unranked: u128,
    right: u128,
    loss: f64,
    confusion: Option<Confusion>,
}

impl Scores {
    /// Decodes the counters of `shaders/lib/tally.wgsl` and `shaders/running_total.wgsl`.
    pub(super) fn new(classes: usize, matrix: bool, words: &[u32], totals: &[u32]) -> Result<Self> {
        let op = "Evaluation";
        let [high, low, record, position, kind] = totals[..] else { return Err(Error::NotSubmitted) };
        if let Some(record) = record.checked_sub(1) {
            let (op, what) = match kind {
                kind if kind == Kind::Rows as u32 => ("Evaluation::record", "a target or a sample weight"),
                kind if kind == Kind::Logits as u32 => {
                    ("Evaluation::record_binary", "a target, 0 or 1, or a sample weight")
                }
                _ => ("Evaluation::record_binary", "a target, 0 or 1, a probability or a sample weight"),
            };
            return Err(Error::Data { op, what, position, record: Some(record) });
        }
        let mut cells = words.chunks_exact(4).map(|words| {
            let shifted = words.iter().rev().map(|&word| u128::from(word));
            shifted.fold(0u128, |value, word| value << 32 | word)
        });
        let mut ranks = try_with_capacity(op, classes)?;
        ranks.extend(cells.by_ref().take(classes));
        let mut next = || cells.next().unwrap_or(0);
        let (unranked, right, rows) = (next(), next(), next());
        let confusion = if matrix { Some(matrix_of(classes, cells)?) } else { None };
        let (high, low) = (f64::from(f32::from_bits(high)), f64::from(f32::from_bits(low)));
        // Infinity and NaN are in the first number; the second is then meaningless.
        let loss = if high.is_finite() { high + low } else { high };
        let rows = u64::try_from(rows >> 64).unwrap_or(u64::MAX);
        let scores = Self { rows, ranks, unranked, right, loss, confusion };
        // With a smaller mean, the rounding of the weights might show.
        let least = u128::from(rows) << (64 - 35);
        if scores.weight() < least {
            let mean = scores.total_weight() / float(u128::from(rows) << 64);
            return Err(Error::value(op, "the mean of the sample weights", "at least 2^-35", format!("{mean:e}")));
        }
        Ok(scores)
    }

    /// The confusion matrix, for precision, recall and F1; `None` unless it was [asked
    /// for](super::Evaluation::with_confusion). Rows without a softmax (NaN) have no prediction and
    /// count as wrong.
    #[must_use]
    pub fn confusion(&self) -> Option<&Confusion> {
        self.confusion.as_ref()
    }

    /// The number of rows counted. Ignored rows and rows of weight 0 do not count.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.rows
    }

    /// The sum of the weights of the counted rows; without weights, their number.
    #[must_use]
    pub fn total_weight(&self) -> f64 {
        float(self.weight())
    }

    /// The fraction of the rows whose prediction is correct, as in scikit-learn's `accuracy_score`:
    /// of equal logits, the first is predicted. NaN without rows.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        float(self.right) / self.total_weight()
    }

    /// The fraction of the rows whose target is among the `k` largest logits, as in scikit-learn's
    /// `top_k_accuracy_score`: of equal logits, the later class ranks first (so the top 1 may
    /// differ from [`accuracy`](Self::accuracy)). NaN without rows.
    #[must_use]
    pub fn top_k_accuracy(&self, k: usize) -> f64 {
        float(self.ranks.iter().take(k).sum()) / self.total_weight()
    }

    /// The mean cross-entropy of the rows, in nats: the sum of weight times `-log p` with the
    /// probability `p` of the target, over the sum of the weights. Nothing is clipped: a prediction
    /// that is certain and wrong costs infinity (scikit-learn's `log_loss` clips probabilities), a
    /// prediction that is certain and right costs 0. Rows of weight 0 cost nothing, even if the
    /// product would be 0 times infinity. NaN if a row has no softmax, and without rows.
    #[must_use]
    pub fn log_loss(&self) -> f64 {
        self.loss / self.total_weight()
    }

    /// `exp` of [`log_loss`](Self::log_loss).
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        self.log_loss().exp()
    }

    fn weight(&self) -> u128 {
        self.ranks.iter().sum::<u128>().saturating_add(self.unranked)
    }
}

/// Decodes the confusion matrix from the cells that follow the cells of all rows.
fn matrix_of(classes: usize, mut cells: impl Iterator<Item = u128>) -> Result<Confusion> {
    let op = "Evaluation";
    let mut occurs = try_with_capacity(op, classes)?;
    occurs.extend(cells.by_ref().take(classes).map(|count| count > 0));
    let (mut counts, mut unclassified) = (try_with_capacity(op, classes * classes)?, try_with_capacity(op, classes)?);
    for _ in 0..classes {
        counts.extend(cells.by_ref().take(classes).map(float));
        unclassified.push(float(cells.next().unwrap_or(0)));
    }
    Ok(Confusion::from_counts(classes, counts)?.with_unclassified(unclassified).with_occurring(&occurs))
}

/// Converts an integer multiple of 2^-64.
#[expect(clippy::cast_precision_loss, reason = "one rounding is accepted")]
fn float(value: u128) -> f64 {
    value as f64 / (1u128 << 64) as f64
}
