//! Accuracy, precision, recall and F1 from a confusion matrix.

use crate::error::{Error, Result, room};

/// How often each class was taken for each: row `t`, column `p` counts what is `t` and was taken for `p`.
///
/// What would divide by 0 is 0, as scikit-learn's default has it.
///
/// # Examples
/// ```
/// use xent::metrics::{Average, Confusion};
/// let confusion = Confusion::of(2, &[0, 0, 1, 1, 1], &[0, 1, 1, 1, 0])?;
/// assert_eq!(confusion.accuracy(), 0.6);
/// assert_eq!(confusion.precision(Average::Binary(1)), 2.0 / 3.0);
/// assert_eq!(confusion.recall(Average::Binary(1)), 2.0 / 3.0);
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    counts: Vec<u64>,
    /// Of each class, how often it was taken for none.
    unclassified: Vec<u64>,
}

/// How the numbers of the classes become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// That of one class, the positive one.
    Binary(usize),
    /// The mean over the classes that occur, as a target or as a prediction.
    Macro,
    /// That of the counts of all classes together. For one class a row it is the accuracy.
    Micro,
    /// The mean over the classes, weighted by how often each is the target.
    Weighted,
}

/// A class's right predictions, what it was predicted for, and what it is.
#[derive(Clone, Copy)]
struct Counts {
    right: f64,
    predicted: f64,
    actual: f64,
}

impl Confusion {
    /// Counts of targets and predictions.
    ///
    /// # Errors
    /// [`Error::Shape`] if they differ in length; [`Error::Value`] with the first that is no class; [`Error::Limit`] for more than 16384
    /// classes; [`Error::HostMemory`] if there is no memory for the counts.
    pub fn of(classes: usize, targets: &[usize], predicted: &[usize]) -> Result<Self> {
        let op = "Confusion::of";
        if targets.len() != predicted.len() {
            let (expected, got) = (format!("{} elements", targets.len()), predicted.len().to_string());
            return Err(Error::Shape { op, what: "predicted", expected, got });
        }
        if classes > 1 << 14 {
            let (needed, allowed) = (classes as u64, 1 << 14);
            return Err(Error::Limit { op, what: "the number of classes", needed, allowed });
        }
        let mut counts = room(op, classes * classes)?;
        counts.resize(classes * classes, 0);
        let mut confusion = Self::from_counts(classes, counts)?;
        for (position, (&target, &p)) in targets.iter().zip(predicted).enumerate() {
            let row = confusion.counts.chunks_exact_mut(classes.max(1)).nth(target);
            let Some(count) = row.and_then(|row| row.get_mut(p)) else {
                let got = format!("{} at position {position}", target.max(p));
                return Err(Error::Value { op, what: "a class", expected: format!("in 0..{classes}"), got });
            };
            *count += 1;
        }
        Ok(confusion)
    }

    /// A matrix of counts, row by row.
    ///
    /// # Errors
    /// [`Error::Shape`] unless it is square.
    pub fn from_counts(classes: usize, counts: Vec<u64>) -> Result<Self> {
        match classes.checked_mul(classes) == Some(counts.len()) {
            true => Ok(Self { classes, counts, unclassified: vec![0; classes] }),
            false => Err(Error::Shape {
                op: "Confusion::from_counts",
                what: "the counts",
                expected: format!("{classes} rows of {classes}"),
                got: counts.len().to_string(),
            }),
        }
    }

    /// The same with counts of rows that were taken for no class: mistakes, but nobody's false alarm.
    pub(crate) fn with_unclassified(self, unclassified: Vec<u64>) -> Self {
        Self { unclassified, ..self }
    }

    /// How many rows were taken for no class, because their logits had no softmax.
    #[must_use]
    pub fn unclassified(&self) -> u64 {
        sum(&self.unclassified)
    }

    /// The number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How often `target` was taken for `predicted`; 0 if one of them is no class.
    #[must_use]
    pub fn count(&self, target: usize, predicted: usize) -> u64 {
        self.row(target).get(predicted).copied().unwrap_or(0)
    }

    /// How many rows there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        sum(&self.counts).saturating_add(self.unclassified())
    }

    /// The part of the rows that was taken for what it is.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        let Counts { right, actual, .. } = self.all();
        ratio(right, actual)
    }

    /// Of what was taken for a class, the part that is it.
    #[must_use]
    pub fn precision(&self, average: Average) -> f64 {
        self.averaged(average, |counts| ratio(counts.right, counts.predicted))
    }

    /// Of what is a class, the part that was taken for it.
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
                let present: Vec<f64> = classes().filter(|c| c.predicted + c.actual > 0.0).map(&score).collect();
                ratio(present.iter().sum(), float(present.len() as u64))
            }
            Average::Weighted => {
                let weighted: f64 = classes().map(|counts| counts.actual * score(counts)).sum();
                ratio(weighted, float(self.total()))
            }
        }
    }

    /// What a class was taken for; of what is no class, nothing.
    fn row(&self, target: usize) -> &[u64] {
        self.counts.chunks_exact(self.classes.max(1)).nth(target).unwrap_or_default()
    }

    fn of_class(&self, class: usize) -> Counts {
        let column = self.counts.iter().skip(class).step_by(self.classes.max(1));
        let unclassified = self.unclassified.get(class);
        Counts {
            right: float(self.count(class, class)),
            predicted: float(sum(column)),
            actual: float(sum(self.row(class).iter().chain(unclassified))),
        }
    }

    fn all(&self) -> Counts {
        let right = self.counts.iter().step_by(self.classes.saturating_add(1));
        let total = float(self.total());
        Counts { right: float(sum(right)), predicted: total, actual: total }
    }
}

/// A sum; of counts of the caller's, at most what fits.
fn sum<'a>(counts: impl IntoIterator<Item = &'a u64>) -> u64 {
    counts.into_iter().fold(0, |sum, &count| sum.saturating_add(count))
}

/// A quotient; what would divide by 0 is 0.
fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}

#[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}
