//! Counters on the GPU.

use crate::error::{Error, Result, room};
use crate::gpu::Gpu;
use crate::kernel::{Kernel, Variant, count, params, read, wgsl};
use crate::ops::{CrossEntropyRequest, Targets};
use crate::options::{Bce, BceWithLogits, CrossEntropy, Reduction, device_ignore_index};
use crate::plan::{BLOCK, Cut, Work};
use crate::readback::Readback;
use crate::recorder::Recorder;
use crate::tensor::{Shape, Tensor, size32};

use super::Confusion;

params! {
    struct Params {
        rows: u32,
        classes: u32,
        block: u32,
        targets_base: u32,
        predicted_base: u32,
        row_ranks_base: u32,
        confusion_base: u32,
        ranks_base: u32,
        ignore_index: i32,
    }
}

pub(crate) const KERNEL: Kernel = Kernel {
    label: "xent.confusion",
    source: wgsl!["lib/grid", "confusion"],
    bindings: &[
        read("targets", "i32"),
        read("predicted", "i32"),
        read("row_ranks", "u32"),
        count("confusion"),
        count("ranks"),
    ],
    params: Params::FIELDS,
    constants: &["WORKGROUP"],
};

params! {
    struct BinaryParams {
        count: u32,
        block: u32,
        scores_base: u32,
        targets_base: u32,
        confusion_base: u32,
        ranks_base: u32,
        threshold: f32,
    }
}

pub(crate) const BINARY: Kernel = Kernel {
    label: "xent.binary_confusion",
    source: wgsl!["lib/grid", "lib/numerics", "binary_confusion"],
    bindings: &[read("scores", "f32"), read("targets", "f32"), count("confusion"), count("ranks")],
    params: BinaryParams::FIELDS,
    constants: &["WORKGROUP"],
};

/// What a binary classifier gives.
#[derive(Clone, Copy, Debug)]
pub enum BinaryOutputs<'a> {
    /// Logits, as for [`Recorder::bce_with_logits`].
    Logits(&'a Tensor<f32>),
    /// Probabilities, as for [`Recorder::bce`].
    Probabilities(&'a Tensor<f32>),
}

/// Counters of how a classifier does, which stay on the GPU while batch after batch goes by. They have 32 bits each: [`reset`](Self::reset)
/// them before 2^32 rows are counted.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use xent::metrics::Evaluation;
/// use xent::{Gpu, Tensor};
/// # if let Ok(gpu) = Gpu::headless() {
/// let logits = Tensor::from_slice(&gpu, [3, 2], &[2.0, 1.0, 0.0, 3.0, 1.0, 0.0])?;
/// let targets = Tensor::targets(&gpu, [3], &[0, 1, 1], 2, -100)?;
/// let mut evaluation = Evaluation::new(&gpu, 2)?;
/// let mut batch = gpu.batch();
/// evaluation.record(&mut batch, &logits, &targets)?;
/// let mut scores = evaluation.read(&mut batch)?;
/// batch.submit()?;
/// let scores = scores.wait(Duration::from_secs(10))?;
/// assert_eq!(scores.confusion().accuracy(), 2.0 / 3.0);
/// # }
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Debug)]
pub struct Evaluation {
    classes: usize,
    confusion: Tensor<u32>,
    /// How many rows have so many logits above their target's.
    ranks: Tensor<u32>,
    /// A scalar: the sum of the rows' cross-entropy.
    loss: Tensor<f32>,
    ignore_index: i64,
}

impl Evaluation {
    /// Counters for a number of classes, all 0.
    ///
    /// # Errors
    /// [`Error::Value`] without classes; [`Error::Limit`] for so many that their matrix does not fit a binding; those of
    /// [`Tensor::zeros`].
    pub fn new(gpu: &Gpu, classes: usize) -> Result<Self> {
        let op = "Evaluation::new";
        if classes == 0 {
            let (expected, got) = ("at least 1".to_owned(), "0".to_owned());
            return Err(Error::Value { op, what: "the number of classes", expected, got });
        }
        let needed = (classes as u64).saturating_mul((classes as u64).saturating_add(1)).saturating_mul(4);
        let allowed = gpu.caps().usable_binding();
        if needed > allowed {
            return Err(Error::Limit {
                op,
                what: "a storage binding's bytes for the confusion matrix",
                needed,
                allowed,
            });
        }
        Ok(Self {
            classes,
            confusion: Tensor::zeros(gpu, [classes, classes + 1])?,
            ranks: Tensor::zeros(gpu, [classes + 1])?,
            loss: Tensor::zeros(gpu, Shape::default())?,
            ignore_index: CrossEntropy::DEFAULT.ignore_index,
        })
    }

    /// The same counters, which do not count rows with this target (-100 by default).
    #[must_use]
    pub fn ignoring(self, ignore_index: i64) -> Self {
        Self { ignore_index, ..self }
    }

    /// Sets the counters to 0, before everything that is recorded but not submitted yet.
    ///
    /// # Errors
    /// Those of [`Tensor::write`].
    pub fn reset(&mut self) -> Result<()> {
        self.loss.fill_with(0.0)?;
        self.confusion.fill_with(0)?;
        self.ranks.fill_with(0)
    }

    /// Counts the rows of logits `[N, classes]`. Rows whose target is the ignored index do not count; a target that is no class does
    /// not either, and makes the log-loss NaN.
    ///
    /// # Errors
    /// [`Error::Shape`] unless the logits have these two dimensions; those of [`Recorder::cross_entropy`].
    ///
    /// # Cost
    /// Three reads of the logits, two of them mostly from a cache.
    pub fn record(&mut self, rec: &mut Recorder<'_>, logits: &Tensor<f32>, targets: &Tensor<i32>) -> Result<()> {
        let op = "Evaluation::record";
        let [rows, classes] = logits.shape()[..] else {
            let (expected, got) = ("2 dimensions".to_owned(), format!("shape {}", logits.shape()));
            return Err(Error::Shape { op, what: "logits", expected, got });
        };
        if classes != self.classes {
            let (expected, got) = (format!("{} classes", self.classes), classes.to_string());
            return Err(Error::Shape { op, what: "logits", expected, got });
        }
        rec.own(op, "the counters", &self.confusion)?;
        let ignore_index = self.ignore_index;
        let options = CrossEntropy { reduction: Reduction::Sum, ignore_index, ..CrossEntropy::DEFAULT };
        let request = CrossEntropyRequest { statistics: true, ..CrossEntropyRequest::default() };
        let out = rec.cross_entropy_with(logits, Targets::Index(targets), &options, request)?;
        let Some(statistics) = out.statistics else { return Ok(()) };
        let row_ranks = rec.target_ranks(op, &logits.real(), targets)?;
        let per_row = [targets.per_row(1), statistics.predicted.per_row(1), row_ranks.per_row(1)];
        for range in Cut::by_blocks(op, size32(rows), &per_row).ranges(rec.gpu().caps())? {
            let (first, len) = (u64::from(range.start), u64::from(range.end - range.start));
            let target = rec.window(targets, first, len);
            let predicted = rec.window(&statistics.predicted, first, len);
            let row_rank = rec.window(&row_ranks, first, len);
            let (confusion, ranks) = (rec.whole(&self.confusion), rec.whole(&self.ranks));
            let params = Params {
                rows: range.end - range.start,
                classes: size32(classes),
                block: BLOCK,
                targets_base: target.base,
                predicted_base: predicted.base,
                row_ranks_base: row_rank.base,
                confusion_base: confusion.base,
                ranks_base: ranks.base,
                ignore_index: device_ignore_index(ignore_index),
            };
            let slots = [Some(&target), Some(&predicted), Some(&row_rank), Some(&confusion), Some(&ranks)];
            let variant = Variant::new(&[rec.gpu().caps().workgroup_size()]);
            let work = Work::by_blocks(rec.gpu().caps(), len.div_ceil(BLOCK.into()));
            rec.dispatch(&KERNEL, variant, &params, &slots, work)?;
        }
        rec.accumulate(&out.loss, &self.loss)
    }

    /// Counts the elements of a binary classifier's outputs; the evaluation is of 2 classes. The second class is what has a target above
    /// 1/2, and what is taken for it a logit above 0, or a probability above 1/2.
    ///
    /// # Errors
    /// [`Error::Value`] unless the evaluation is of 2 classes; those of [`Recorder::bce_with_logits`] or [`Recorder::bce`], of which
    /// the log-loss is.
    ///
    /// # Cost
    /// Two reads of both tensors.
    pub fn record_binary(
        &mut self,
        rec: &mut Recorder<'_>,
        outputs: BinaryOutputs<'_>,
        targets: &Tensor<f32>,
    ) -> Result<()> {
        let op = "Evaluation::record_binary";
        if self.classes != 2 {
            let (expected, got) = ("2".to_owned(), self.classes.to_string());
            return Err(Error::Value { op, what: "the number of classes", expected, got });
        }
        rec.own(op, "the counters", &self.confusion)?;
        let reduction = Reduction::Sum;
        let (scores, loss, threshold) = match outputs {
            BinaryOutputs::Logits(x) => {
                (x, rec.bce_with_logits(x, targets, &BceWithLogits { reduction, ..Default::default() })?, 0.0)
            }
            BinaryOutputs::Probabilities(p) => (p, rec.bce(p, targets, &Bce { reduction, ..Default::default() })?, 0.5),
        };
        let per_element = [scores, targets].map(|tensor| tensor.per_row(1));
        let cut = Cut::by_blocks(op, scores.count(op)?, &per_element);
        for range in cut.ranges(rec.gpu().caps())? {
            let (first, len) = (u64::from(range.start), u64::from(range.end - range.start));
            let (score, target) = (rec.window(scores, first, len), rec.window(targets, first, len));
            let (confusion, ranks) = (rec.whole(&self.confusion), rec.whole(&self.ranks));
            let params = BinaryParams {
                count: range.end - range.start,
                block: BLOCK,
                scores_base: score.base,
                targets_base: target.base,
                confusion_base: confusion.base,
                ranks_base: ranks.base,
                threshold,
            };
            let slots = [Some(&score), Some(&target), Some(&confusion), Some(&ranks)];
            let variant = Variant::new(&[rec.gpu().caps().workgroup_size()]);
            let work = Work::by_blocks(rec.gpu().caps(), len.div_ceil(BLOCK.into()));
            rec.dispatch(&BINARY, variant, &params, &slots, work)?;
        }
        rec.accumulate(&loss, &self.loss)
    }

    /// Copies the counters, as they are at this point of the recording, to where the host can read them.
    ///
    /// # Errors
    /// Those of [`Recorder::read`].
    pub fn read(&self, rec: &mut Recorder<'_>) -> Result<EvaluationReadback> {
        Ok(EvaluationReadback {
            classes: self.classes,
            confusion: rec.read(&self.confusion)?,
            ranks: rec.read(&self.ranks)?,
            loss: rec.read(&self.loss)?,
            arrived: (None, None),
        })
    }
}

/// Counters on their way back from the GPU.
#[derive(Debug)]
#[must_use = "a ticket does nothing unless it is waited for"]
pub struct EvaluationReadback {
    classes: usize,
    confusion: Readback<u32>,
    ranks: Readback<u32>,
    loss: Readback<f32>,
    /// What has arrived when a wait ran out of time.
    #[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "nothing waits on the web"))]
    arrived: (Option<Vec<u32>>, Option<Vec<u32>>),
}

impl EvaluationReadback {
    /// The scores, once the recording is submitted and done.
    ///
    /// # Errors
    /// Those of [`Readback`]; [`Error::Data`] for a target that is no class.
    pub async fn arrive(self) -> Result<Scores> {
        Scores::new(self.classes, &self.confusion.await?, self.ranks.await?, &self.loss.await?)
    }

    /// Polls the device until the scores are here. Not on the web.
    ///
    /// # Errors
    /// As [`Readback::wait`]; [`Error::Data`] for a target that is no class.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&mut self, timeout: std::time::Duration) -> Result<Scores> {
        let start = std::time::Instant::now();
        let left = || timeout.saturating_sub(start.elapsed());
        if self.arrived.0.is_none() {
            self.arrived.0 = Some(self.confusion.wait(left())?);
        }
        if self.arrived.1.is_none() {
            self.arrived.1 = Some(self.ranks.wait(left())?);
        }
        let loss = self.loss.wait(left())?;
        let (confusion, ranks) = std::mem::take(&mut self.arrived);
        Scores::new(self.classes, &confusion.unwrap_or_default(), ranks.unwrap_or_default(), &loss)
    }
}

/// What the counters say.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    confusion: Confusion,
    ranks: Vec<u32>,
    loss: f64,
}

impl Scores {
    fn new(classes: usize, confusion: &[u32], ranks: Vec<u32>, loss: &[f32]) -> Result<Self> {
        let (mut counts, mut unclassified) = (room("Scores", confusion.len())?, room("Scores", classes)?);
        for row in confusion.chunks_exact(classes + 1) {
            let Some((none, classes)) = row.split_last() else { continue };
            counts.extend(classes.iter().copied().map(u64::from));
            unclassified.push(u64::from(*none));
        }
        let confusion = Confusion::from_counts(classes, counts)?.with_unclassified(unclassified);
        Ok(Self { confusion, ranks, loss: loss.iter().copied().map(f64::from).sum() })
    }

    /// The confusion matrix: accuracy, precision, recall, F1. Rows without a softmax (NaN) are taken for no class, which is wrong.
    #[must_use]
    pub fn confusion(&self) -> &Confusion {
        &self.confusion
    }

    /// How many rows were counted.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.ranks.iter().copied().map(u64::from).sum()
    }

    /// The part of the rows whose target is among the `k` largest logits; of equal logits the later class comes first, as scikit-learn
    /// has it. NaN without rows.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    pub fn top_k_accuracy(&self, k: usize) -> f64 {
        let right: u64 =
            self.ranks.iter().take(k.min(self.ranks.len().saturating_sub(1))).copied().map(u64::from).sum();
        right as f64 / self.counted() as f64
    }

    /// The mean cross-entropy of the rows, in nats, summed in `f32`. Nothing is clipped, so a certain mistake may cost infinitely much
    /// (scikit-learn's `log_loss` clips probabilities). NaN without rows.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    pub fn log_loss(&self) -> f64 {
        self.loss / self.counted() as f64
    }
}
