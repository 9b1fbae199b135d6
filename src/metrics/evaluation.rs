//! Metrics from counters on the GPU.

use crate::engine::Gpu;
use crate::error::{Error, Result, ensure, within};
use crate::ops::loss::{CrossEntropy, Reduction};
use crate::ops::loss::{LossRequest, Targets};
use crate::ops::{Cells, Recorded, Rows};
use crate::record::{Readback, Recorder};
use crate::tensor::{Float, Tensor, expect_shape};

use super::confusion::MOST_CLASSES;
use super::scores::{Kind, Scores};

/// The outputs of a binary classifier.
#[derive(Clone, Copy, Debug)]
pub enum BinaryOutputs<'a> {
    /// Logits, as for [`Recorder::bce_with_logits`].
    Logits(&'a Tensor<f32>),
    /// Probabilities, as for [`Recorder::bce`].
    Probabilities(&'a Tensor<f32>),
}

/// Counters for the metrics of a classifier, which stay on the GPU across batches: accuracy, top-k
/// accuracy for every k, log-loss and perplexity; and a confusion matrix, if it is [asked
/// for](Self::with_confusion).
///
/// # Weights
/// A record may have sample weights, as in scikit-learn's metrics: each row counts in proportion to
/// its weight. A weight is a number from 0 to 2^31, and the mean over the counted rows is at least
/// 2^-35 (scale smaller weights up: no score depends on their scale). A row of weight 0 is left
/// out, whatever its logits; its target must be a class or the ignored index.
///
/// # Precision
/// Counts are integers, and sums of weights are integer multiples of 2^-64: exact for weights that
/// are 0 or at least 2^-40 (smaller ones are rounded), and bit-identical in any order of the GPU's
/// threads. They have 128 bits: none overflows before 2^33 rows, or 2^64 without weights. The loss
/// is kept in two `f32`, so its total is accurate to 1e-6 after millions of records; it is infinite
/// if it exceeds the range of `f32`.
///
/// # Cost
/// 16 bytes of memory for each class (4 MiB for 262144 classes), and with a confusion matrix 16 for
/// each pair of classes. Reading the scores copies all counters to the host.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use xent::loss::Targets;
/// use xent::metrics::Evaluation;
/// use xent::{Gpu, Tensor};
/// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
/// let logits = Tensor::from_slice(&gpu, [3, 2], &[2.0, 1.0, 0.0, 3.0, 1.0, 0.0f32])?;
/// let targets = Targets::new(&gpu, [3], &[0, 1, 1], 2)?;
/// let mut evaluation = Evaluation::new(&gpu, 2)?.with_confusion()?;
/// let mut batch = gpu.batch();
/// evaluation.record(&mut batch, &logits, &targets, None)?;
/// let mut scores = evaluation.read(&mut batch)?;
/// batch.submit()?;
/// let scores = scores.wait(Duration::from_secs(10))?;
/// assert_eq!(scores.accuracy(), 2.0 / 3.0);
/// assert_eq!(scores.confusion().map(|confusion| confusion.count(1, 0)), Some(1.0));
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Debug)]
pub struct Evaluation {
    cells: Cells,
    gpu: Gpu,
    /// The number of records since the last reset.
    records: u32,
}

impl Evaluation {
    /// Creates counters for this number of classes, all 0, without a confusion matrix.
    ///
    /// # Errors
    /// [`Error::Value`] for 0 classes; [`Error::Limit`] for more than 2^28; the errors of
    /// [`Tensor::zeros`].
    pub fn new(gpu: &Gpu, classes: usize) -> Result<Self> {
        let op = "Evaluation::new";
        ensure!(classes > 0, Error::value(op, "the number of classes", "at least 1", "0"));
        within(op, "the number of classes", classes as u64, 1u64 << 28)?;
        Ok(Self { cells: Cells::new(gpu, classes, false)?, gpu: gpu.clone(), records: 0 })
    }

    /// Creates counters for a binary classifier: two classes, with a confusion matrix.
    ///
    /// # Errors
    /// The errors of [`Tensor::zeros`].
    pub fn binary(gpu: &Gpu) -> Result<Self> {
        Self::new(gpu, 2)?.with_confusion()
    }

    /// Adds a confusion matrix. All counters restart at 0.
    ///
    /// # Errors
    /// [`Error::Limit`] for more than 16384 classes; the errors of [`Tensor::zeros`].
    ///
    /// # Cost
    /// 16 bytes of memory for each pair of classes.
    pub fn with_confusion(self) -> Result<Self> {
        let Self { cells, gpu, .. } = self;
        within("Evaluation::with_confusion", "the number of classes", cells.classes as u64, MOST_CLASSES)?;
        Ok(Self { cells: Cells::new(&gpu, cells.classes, true)?, gpu, records: 0 })
    }

    /// Sets the counters to 0, ahead of all work that is recorded but not yet submitted.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the device is out of memory.
    pub fn reset(&mut self) -> Result<()> {
        self.records = 0;
        self.cells.clear("Evaluation::reset", &self.gpu)
    }

    /// Counts rows of logits, optionally with a weight for each row.
    ///
    /// # Shapes
    /// `logits`, of any [`Float`] type, is `[classes]` or `[N, classes, d1, .., dK]`; `targets`,
    /// class indices of either type, and `sample_weight` have the same shape without `classes`.
    ///
    /// # Edge cases
    /// * Rows whose target is the ignored index, and rows of weight 0, do not count.
    /// * A row without a softmax (it holds NaN or +infinity, or nothing but -infinity) has no
    ///   prediction: it counts as wrong, and its loss is NaN.
    /// * A target whose logit is -infinity costs +infinity. Nothing is clipped.
    /// * If a target is not a class, or a weight is NaN, negative or above 2^31, the row does not
    ///   count, and reading the scores returns [`Error::Data`] with the first such record and
    ///   position.
    ///
    /// # Errors
    /// [`Error::Shape`] for logits with another number of classes, and for weights whose shape
    /// differs from the targets'; the errors of [`Recorder::cross_entropy`].
    ///
    /// # Cost
    /// Three reads of the logits, two of them mostly from a cache, and a few dispatches over the
    /// rows. Each row makes two or three atomic additions; with weights up to twice as many.
    pub fn record<T: Float>(
        &mut self,
        rec: &mut Recorder<'_>,
        logits: &Tensor<T>,
        targets: impl Into<Targets>,
        sample_weight: Option<&Tensor<f32>>,
    ) -> Result<()> {
        let op = "Evaluation::record";
        let classes = self.cells.classes;
        if logits.shape().get(usize::from(logits.shape().len() > 1)) != Some(&classes) {
            let expected = format!("{classes} classes: shape [{classes}] or [N, {classes}, ..]");
            return Err(Error::shape(op, "logits", expected, format!("shape {}", logits.shape())));
        }
        self.check_device(rec, op, sample_weight)?;
        let targets = targets.into();
        let (index, ignored) = targets.indices(op)?;
        sample_weight.map_or(Ok(()), |weight| expect_shape(op, "sample_weight", weight.shape(), index.shape()))?;
        let options = CrossEntropy::new().reduction(Reduction::None);
        let request = LossRequest::new().statistics();
        let out = rec.cross_entropy_with(logits, &targets, &options, request)?;
        let Some(statistics) = out.statistics else { return Ok(()) };
        let row_ranks = rec.target_ranks(op, &logits.real(), index)?;
        let rows = Rows::Rows {
            targets: index,
            ignored,
            predicted: &statistics.predicted,
            row_ranks: &row_ranks,
            losses: &out.loss,
        };
        let recorded = self.next(Kind::Rows);
        rec.tally(op, &self.cells, rows, sample_weight, recorded)?;
        self.records = recorded.record;
        Ok(())
    }

    /// Counts the elements of a binary classifier's outputs, optionally with a weight for each. The
    /// evaluation must have 2 classes. The target is 1 for the second class and 0 for the first.
    /// The second class is predicted if the logit is above 0, or the probability above 1/2.
    ///
    /// The loss of an element is `-log p` with the probability `p` of its class, for logits and
    /// probabilities alike: 0 if the classifier is certain and right, infinite if it is certain and
    /// wrong. (The losses [`bce`](Recorder::bce) and PyTorch's clip it at 100, scikit-learn's
    /// `log_loss` clips probabilities.) By the rule "0 log 0 = 0", the term of the other class
    /// vanishes.
    ///
    /// # Shapes
    /// The outputs, `targets` and `sample_weight` have the same shape.
    ///
    /// # Edge cases
    /// * Elements of weight 0 do not count.
    /// * An output of NaN is no prediction: it counts as wrong, and its loss is NaN.
    /// * If a target is neither 0 nor 1, a probability is outside [0, 1], or a weight is NaN,
    ///   negative or above 2^31, the element does not count, and reading the scores returns
    ///   [`Error::Data`] with the first such record and position.
    ///
    /// # Errors
    /// [`Error::Value`] unless the evaluation has 2 classes; [`Error::Shape`] if the shapes differ;
    /// [`Error::Limit`] for 2^32 elements or more; [`Error::ForeignTensor`].
    ///
    /// # Cost
    /// One read of each tensor, and up to three atomic additions per element; with weights up to
    /// twice as many.
    pub fn record_binary(
        &mut self,
        rec: &mut Recorder<'_>,
        outputs: BinaryOutputs<'_>,
        targets: &Tensor<f32>,
        sample_weight: Option<&Tensor<f32>>,
    ) -> Result<()> {
        let op = "Evaluation::record_binary";
        ensure!(self.cells.classes == 2, Error::value(op, "the number of classes", "2", self.cells.classes));
        let (outputs, probabilities, what) = match outputs {
            BinaryOutputs::Logits(logits) => (logits, false, "logits"),
            BinaryOutputs::Probabilities(p) => (p, true, "probabilities"),
        };
        self.check_device(rec, op, sample_weight)?;
        rec.check_device(op, what, outputs)?;
        rec.check_device(op, "targets", targets)?;
        expect_shape(op, "targets", targets.shape(), outputs.shape())?;
        sample_weight.map_or(Ok(()), |weight| expect_shape(op, "sample_weight", weight.shape(), targets.shape()))?;
        targets.count(op)?;
        let recorded = self.next(if probabilities { Kind::Probabilities } else { Kind::Logits });
        let rows = Rows::Binary { targets, outputs, probabilities };
        rec.tally(op, &self.cells, rows, sample_weight, recorded)?;
        self.records = recorded.record;
        Ok(())
    }

    /// Records the readback of the counters at this point of the recording.
    ///
    /// # Errors
    /// The errors of [`Recorder::read`]. The ticket returns [`Error::Data`] with the first record
    /// that has bad data, and its first bad position, and [`Error::Value`] for sample weights whose
    /// mean is below 2^-35.
    pub fn read(&self, rec: &mut Recorder<'_>) -> Result<Readback<Scores>> {
        let &Cells { classes, matrix, ref words, ref totals } = &self.cells;
        let counters = rec.read(words)?.and(rec.read(totals)?);
        Ok(counters.map(move |(cells, totals)| Scores::new(classes, matrix, &cells, &totals)))
    }

    fn check_device(&self, rec: &Recorder<'_>, op: &'static str, sample_weight: Option<&Tensor<f32>>) -> Result<()> {
        rec.check_device(op, "the counters", &self.cells.words)?;
        sample_weight.map_or(Ok(()), |weight| rec.check_device(op, "sample_weight", weight))
    }

    fn next(&self, kind: Kind) -> Recorded {
        Recorded { record: self.records.saturating_add(1), kind: kind as u32 }
    }
}
