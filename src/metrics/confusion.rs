//! Accuracy, precision, recall and F1 from a confusion matrix.

use crate::error::{Error, Result, ensure, expect_len, try_with_capacity, within};

/// The most classes that a matrix may have.
pub(super) const MOST_CLASSES: u64 = 1 << 14;

/// A confusion matrix: entry `[t, p]` is the number of rows with target `t` and prediction `p`.
/// With sample weights it is the sum of their weights.
///
/// A score whose denominator is 0 is 0, as by default in scikit-learn.
///
/// # Examples
/// ```
/// use xent::metrics::{Average, Confusion};
/// let confusion = Confusion::of(2, &[0, 0, 1, 1, 1], &[0, 1, 1, 1, 0], None)?;
/// assert_eq!(confusion.accuracy(), 0.6);
/// assert_eq!(confusion.precision(Average::Binary(1)), 2.0 / 3.0);
/// assert_eq!(confusion.recall(Average::Binary(1)), 2.0 / 3.0);
/// let weighted = Confusion::of(2, &[0, 0, 1, 1, 1], &[0, 1, 1, 1, 0], Some(&[1.0, 0.0, 1.0, 1.0, 1.0]))?;
/// assert_eq!(weighted.accuracy(), 0.75);
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Confusion {
    classes: usize,
    counts: Vec<f64>,
    /// For each class as target, the count of rows without a prediction.
    unclassified: Vec<f64>,
    /// Whether each class occurs, as a target or as a prediction, even if only in rows of weight 0.
    occurs: Vec<bool>,
}

/// How the scores of the classes are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// The score of one class, the positive one.
    Binary(usize),
    /// The mean over the classes that occur, as a target or as a prediction, even if only in rows
    /// of weight 0.
    Macro,
    /// The score of the summed counts of all classes. With one class per row it is the accuracy.
    Micro,
    /// The mean over the classes, weighted by how often each is the target.
    Weighted,
}

/// How often a class is predicted correctly, is predicted, and is the target.
#[derive(Clone, Copy)]
struct Counts {
    right: f64,
    predicted: f64,
    actual: f64,
}

impl Confusion {
    /// Counts targets and predictions, optionally with a weight for each row.
    ///
    /// # Errors
    /// [`Error::Shape`] if the lengths differ; [`Error::Value`] with the first target or prediction
    /// that is not a class, or the first weight that is negative or not finite; [`Error::Limit`]
    /// for more than 16384 classes; [`Error::HostMemory`] if the host has no memory for the counts.
    pub fn of(classes: usize, targets: &[usize], predicted: &[usize], sample_weight: Option<&[f32]>) -> Result<Self> {
        let op = "Confusion::of";
        expect_len(op, "predicted", predicted.len(), targets.len())?;
        within(op, "the number of classes", classes as u64, MOST_CLASSES)?;
        let weights = weights(op, targets.len(), sample_weight)?;
        let mut counts = try_with_capacity(op, classes * classes)?;
        counts.resize(classes * classes, 0.0);
        let mut confusion = Self::from_counts(classes, counts)?;
        for (position, ((&target, &p), weight)) in targets.iter().zip(predicted).zip(weights).enumerate() {
            let row = confusion.counts.chunks_exact_mut(classes.max(1)).nth(target);
            let Some(count) = row.and_then(|row| row.get_mut(p)) else {
                let got = format!("{} at position {position}", target.max(p));
                return Err(Error::value(op, "a class", format!("in 0..{classes}"), got));
            };
            *count += weight;
            for class in [target, p] {
                confusion.occurs.get_mut(class).into_iter().for_each(|occurs| *occurs = true);
            }
        }
        Ok(confusion)
    }

    /// Creates a matrix from counts, or sums of weights, in row-major order.
    ///
    /// # Errors
    /// [`Error::Shape`] unless the matrix is square; [`Error::Value`] with the first count that is
    /// not from 0 to 2^64.
    pub fn from_counts(classes: usize, counts: Vec<f64>) -> Result<Self> {
        // Larger counts could make their sums infinite.
        const MOST: f64 = 18_446_744_073_709_551_616.0;
        let op = "Confusion::from_counts";
        ensure!(
            classes.checked_mul(classes) == Some(counts.len()),
            Error::shape(op, "the counts", format!("{classes} rows of {classes}"), counts.len())
        );
        if let Some((position, count)) = counts.iter().enumerate().find(|(_, count)| !(0.0..=MOST).contains(*count)) {
            return Err(Error::value(op, "a count", "from 0 to 2^64", format!("{count} at position {position}")));
        }
        let mut confusion = Self { classes, counts, unclassified: vec![0.0; classes], occurs: Vec::new() };
        let classes = (0..classes).map(|class| confusion.of_class(class));
        confusion.occurs = classes.map(|class| class.predicted + class.actual > 0.0).collect();
        Ok(confusion)
    }

    /// Sets the counts of rows without a prediction, by target. Such a row is an error, but not a
    /// false positive of any class.
    pub(crate) fn with_unclassified(self, unclassified: Vec<f64>) -> Self {
        let occurs: Vec<bool> = unclassified.iter().map(|&count| count > 0.0).collect();
        Self { unclassified, ..self }.with_occurring(&occurs)
    }

    /// Marks further classes as occurring.
    pub(crate) fn with_occurring(self, others: &[bool]) -> Self {
        let occurs = self.occurs.iter().zip(others).map(|(&occurs, &other)| occurs || other).collect();
        Self { occurs, ..self }
    }

    /// The number of rows without a prediction, because their logits have no softmax; with sample
    /// weights the sum of their weights.
    #[must_use]
    pub fn unclassified(&self) -> f64 {
        sum(&self.unclassified)
    }

    /// The number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The number of rows with this target and prediction, or the sum of their weights; 0 if either
    /// is not a class.
    #[must_use]
    pub fn count(&self, target: usize, predicted: usize) -> f64 {
        self.row(target).get(predicted).copied().unwrap_or(0.0)
    }

    /// The number of rows; with sample weights the sum of their weights.
    #[must_use]
    pub fn total(&self) -> f64 {
        sum(&self.counts) + self.unclassified()
    }

    /// The fraction of the rows whose prediction is correct.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        let Counts { right, actual, .. } = self.all();
        ratio(right, actual)
    }

    /// Of the rows predicted as a class, the fraction whose target is that class.
    #[must_use]
    pub fn precision(&self, average: Average) -> f64 {
        self.averaged(average, |counts| ratio(counts.right, counts.predicted))
    }

    /// Of the rows whose target is a class, the fraction predicted as that class.
    #[must_use]
    pub fn recall(&self, average: Average) -> f64 {
        self.averaged(average, |counts| ratio(counts.right, counts.actual))
    }

    /// The harmonic mean of precision and recall.
    #[must_use]
    pub fn f1(&self, average: Average) -> f64 {
        self.averaged(average, |counts| ratio(2.0 * counts.right, counts.predicted + counts.actual))
    }

    fn averaged(&self, average: Average, score: impl Fn(Counts) -> f64) -> f64 {
        let classes = || (0..self.classes).map(|class| self.of_class(class));
        match average {
            Average::Binary(class) if class >= self.classes => 0.0,
            Average::Binary(class) => score(self.of_class(class)),
            Average::Micro => score(self.all()),
            Average::Macro => {
                let occurring = classes().zip(&self.occurs).filter(|&(_, &occurs)| occurs);
                let (total, number) =
                    occurring.fold((0.0, 0.0), |(total, number), (class, _)| (total + score(class), number + 1.0));
                ratio(total, number)
            }
            Average::Weighted => {
                let weighted: f64 = classes().map(|counts| counts.actual * score(counts)).sum();
                ratio(weighted, self.total())
            }
        }
    }

    /// Returns the counts of a target's predictions; empty if the target is not a class.
    fn row(&self, target: usize) -> &[f64] {
        self.counts.chunks_exact(self.classes.max(1)).nth(target).unwrap_or_default()
    }

    fn of_class(&self, class: usize) -> Counts {
        let column = self.counts.iter().skip(class).step_by(self.classes.max(1));
        let unclassified = self.unclassified.get(class);
        Counts {
            right: self.count(class, class),
            predicted: sum(column),
            actual: sum(self.row(class).iter().chain(unclassified)),
        }
    }

    fn all(&self) -> Counts {
        let right = sum(self.counts.iter().step_by(self.classes.saturating_add(1)));
        let total = self.total();
        Counts { right, predicted: total, actual: total }
    }
}

fn sum<'a>(counts: impl IntoIterator<Item = &'a f64>) -> f64 {
    counts.into_iter().sum()
}

/// Returns `a / b`, or 0 if `b` is 0.
fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}

/// Checks sample weights. Returns the weight of each row, which is 1 without sample weights.
pub(super) fn weights<'a>(
    op: &'static str,
    rows: usize,
    sample_weight: Option<&'a [f32]>,
) -> Result<impl Iterator<Item = f64> + 'a> {
    if let Some(weights) = sample_weight {
        expect_len(op, "sample_weight", weights.len(), rows)?;
        let bad = weights.iter().enumerate().find(|(_, weight)| !(0.0..=f32::MAX).contains(*weight));
        if let Some((position, weight)) = bad {
            let got = format!("{weight} at position {position}");
            return Err(Error::value(op, "a sample weight", "at least 0 and finite", got));
        }
    }
    Ok((0..rows).map(move |row| sample_weight.and_then(|weights| weights.get(row)).copied().map_or(1.0, f64::from)))
}
