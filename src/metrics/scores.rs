//! What the counters of an evaluation say.

use crate::error::{Error, Result, try_with_capacity};

use super::Confusion;

/// What was recorded: which data can be bad in it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Rows,
    Logits,
    Probabilities,
}

/// What the counters of an [`Evaluation`](super::Evaluation) say. With sample weights each row counts as much as its weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    rows: u64,
    /// The weight of the rows that have so many outputs above their target's, in units of 2^-64.
    ranks: Vec<u128>,
    /// That of the rows without an order.
    unranked: u128,
    right: u128,
    loss: f64,
    confusion: Option<Confusion>,
}

impl Scores {
    /// From what `shaders/lib/tally.wgsl` and `shaders/running_total.wgsl` count.
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
        // Infinity and NaN are in the first number; the second is of no use then.
        let loss = if high.is_finite() { high + low } else { high };
        let rows = u64::try_from(rows >> 64).unwrap_or(u64::MAX);
        let scores = Self { rows, ranks, unranked, right, loss, confusion };
        // Below that, what weights are rounded to might show.
        let least = u128::from(rows) << (64 - 35);
        if scores.weight() < least {
            let mean = scores.total_weight() / float(u128::from(rows) << 64);
            let (expected, got) = ("at least 2^-35".to_owned(), format!("{mean:e}"));
            return Err(Error::Value { op, what: "the mean of the sample weights", expected, got });
        }
        Ok(scores)
    }

    /// The confusion matrix: precision, recall, F1. None unless it was [asked for](super::Evaluation::with_confusion). Rows without a
    /// softmax (NaN) are taken for no class, which is wrong.
    #[must_use]
    pub fn confusion(&self) -> Option<&Confusion> {
        self.confusion.as_ref()
    }

    /// How many rows were counted. Those that are ignored, and those of weight 0, are not.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.rows
    }

    /// The sum of the weights of the rows that were counted; without weights their number.
    #[must_use]
    pub fn total_weight(&self) -> f64 {
        float(self.weight())
    }

    /// The part of the rows that was taken for what it is, as `accuracy_score` of scikit-learn has it: of equal logits the first is what a
    /// row is taken for. NaN without rows.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        float(self.right) / self.total_weight()
    }

    /// The part of the rows whose target is among the `k` largest logits, as `top_k_accuracy_score` of scikit-learn has it: of equal logits
    /// the later class comes first (which makes a difference between [`accuracy`](Self::accuracy) and the top 1). NaN without rows.
    #[must_use]
    pub fn top_k_accuracy(&self, k: usize) -> f64 {
        float(self.ranks.iter().take(k).sum()) / self.total_weight()
    }

    /// The mean cross-entropy of the rows, in nats: the sum of weight times `-log p` with the probability `p` of the target, over the sum of
    /// the weights. Nothing is clipped: a certain mistake costs infinitely much (scikit-learn's `log_loss` clips probabilities), and what is
    /// certain and right costs 0. Rows of weight 0 cost nothing, not even where 0 times infinity is meant. NaN if a row has no softmax, and
    /// without rows.
    #[must_use]
    pub fn log_loss(&self) -> f64 {
        self.loss / self.total_weight()
    }

    /// `exp` of the [`log_loss`](Self::log_loss).
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        self.log_loss().exp()
    }

    fn weight(&self) -> u128 {
        self.ranks.iter().sum::<u128>().saturating_add(self.unranked)
    }
}

/// The confusion matrix of the cells after those of all rows.
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

/// A whole number of 2^-64.
#[expect(clippy::cast_precision_loss, reason = "rounded once")]
fn float(value: u128) -> f64 {
    value as f64 / (1u128 << 64) as f64
}
