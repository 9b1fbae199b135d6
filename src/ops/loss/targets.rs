//! Targets of losses of rows: validation on the host, and sums of their weights on the GPU.

use std::ops::Range;

use crate::engine::Gpu;
use crate::engine::kernel::{Kernel, kernel, params, read, write};
use crate::error::{Error, Result};
use crate::plan::sum_block;
use crate::record::{BlockLaunch, Recorder};
use crate::tensor::{Element, Shape, Tensor};

use crate::ops::no_alias;
use crate::ops::reduce::blocks::{partials, words};

/// The targets of rows of logits: a class index per row, with an ignored index, or a probability
/// per class and row.
///
/// Tensors convert into targets whose ignored index is [`Targets::IGNORED`].
///
/// # Examples
/// ```
/// use xent::Tensor;
/// use xent::loss::Targets;
/// # let Ok(gpu) = xent::Gpu::headless() else { return Ok(()) };
/// // Checked on the host.
/// let labels: [u8; 4] = [0, 2, 1, 9];
/// let error = Targets::new(&gpu, [4], &labels, 3).unwrap_err();
/// assert_eq!(error.to_string(), "targets: a target must be in 0..3 or the ignored -100, got 9 at position 3");
/// // Already on the GPU, with 255 for rows without a label.
/// let labels = Tensor::from_slice(&gpu, [4], &[0, 2, 1, 255])?;
/// let targets = Targets::from(&labels).ignoring(255);
/// # let _ = targets;
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Targets {
    pub(crate) kind: TargetsKind,
    /// The ignored index.
    pub(crate) ignored: i64,
}

#[derive(Clone, Debug)]
pub(crate) enum TargetsKind {
    /// One class per row. A valid class is below 2^31, so its bits are the same in `i32` and `u32`;
    /// a value of 2^31 or more, or a negative one, is invalid in either.
    Index {
        index: Tensor<i32>,
        /// Whether the caller's tensor has type `u32`.
        unsigned: bool,
    },
    /// One probability per class and row.
    Probabilities(Tensor<f32>),
}

impl Targets {
    /// The default ignored index, the same as PyTorch's.
    pub const IGNORED: i64 = -100;

    /// Uploads class indices after checking that each is a class, in `0..classes`, or
    /// [`IGNORED`](Self::IGNORED).
    ///
    /// The host cannot check targets that are already on the GPU: a loss whose target is not a
    /// class is NaN, and its readback returns [`Error::Data`].
    ///
    /// # Errors
    /// [`Error::Value`] with the first invalid target and its position; the errors of
    /// [`Tensor::from_slice`].
    pub fn new<L: Copy + Into<i64>>(gpu: &Gpu, shape: impl Into<Shape>, labels: &[L], classes: usize) -> Result<Self> {
        Self::new_ignoring(gpu, shape, labels, classes, Self::IGNORED)
    }

    /// Like [`new`](Self::new), with another ignored index.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn new_ignoring<L: Copy + Into<i64>>(
        gpu: &Gpu,
        shape: impl Into<Shape>,
        labels: &[L],
        classes: usize,
        ignored: i64,
    ) -> Result<Self> {
        let class = |(position, &label): (usize, &L)| {
            let label: i64 = label.into();
            if label == ignored {
                return Ok(device_ignored(ignored));
            }
            match (usize::try_from(label), i32::try_from(label)) {
                (Ok(class), Ok(target)) if class < classes => Ok(target),
                _ => Err(Error::value(
                    "targets",
                    "a target",
                    format!("in 0..{classes} or the ignored {ignored}"),
                    format!("{label} at position {position}"),
                )),
            }
        };
        let checked = labels.iter().enumerate().map(class).collect::<Result<Vec<i32>>>()?;
        Ok(Self::from(&Tensor::from_slice(gpu, shape, &checked)?).ignoring(ignored))
    }

    /// Sets the ignored index: rows with this target have loss 0 and gradient 0, and do not count
    /// in the mean. It may lie outside the classes. An index that the type of the tensor cannot
    /// represent stands for `i32::MIN` in a `Tensor<i32>` (the value that
    /// [`new_ignoring`](Self::new_ignoring) writes) and for `u32::MAX` in a `Tensor<u32>`. With
    /// probabilities it must be negative, and has no effect.
    #[must_use]
    pub fn ignoring(self, ignored: i64) -> Self {
        Self { ignored, ..self }
    }

    /// The shape of the targets: that of the logits, without the class dimension for class indices.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        match &self.kind {
            TargetsKind::Index { index, .. } => index.shape(),
            TargetsKind::Probabilities(probabilities) => probabilities.shape(),
        }
    }

    /// Some rows along the first dimension, such as a mini-batch, without a copy.
    ///
    /// # Errors
    /// As [`Tensor::rows`].
    pub fn rows(&self, rows: Range<usize>) -> Result<Self> {
        let kind = match &self.kind {
            TargetsKind::Index { index, unsigned } => {
                TargetsKind::Index { index: index.rows(rows)?, unsigned: *unsigned }
            }
            TargetsKind::Probabilities(probabilities) => TargetsKind::Probabilities(probabilities.rows(rows)?),
        };
        Ok(Self { kind, ignored: self.ignored })
    }

    /// The class indices, and the ignored index as kernels compare it.
    pub(crate) fn indices(&self, op: &'static str) -> Result<(&Tensor<i32>, i32)> {
        match &self.kind {
            TargetsKind::Index { index, unsigned: false } => Ok((index, device_ignored(self.ignored))),
            TargetsKind::Index { index, unsigned: true } => {
                Ok((index, u32::try_from(self.ignored).unwrap_or(u32::MAX).cast_signed()))
            }
            TargetsKind::Probabilities(_) => Err(Error::value(op, "targets", "class indices", "probabilities")),
        }
    }

    /// The probabilities, if these are the targets.
    pub(crate) fn probabilities(&self) -> Option<&Tensor<f32>> {
        match &self.kind {
            TargetsKind::Index { .. } => None,
            TargetsKind::Probabilities(probabilities) => Some(probabilities),
        }
    }

    /// Checks that a written tensor shares no buffer with the targets.
    pub(crate) fn no_alias<T: Element>(&self, op: &'static str, written: (&'static str, &Tensor<T>)) -> Result<()> {
        match &self.kind {
            TargetsKind::Index { index, .. } => no_alias(op, written, ("targets", index)),
            TargetsKind::Probabilities(probabilities) => no_alias(op, written, ("targets", probabilities)),
        }
    }

    /// Checks that the targets belong to the device of a recorder.
    pub(crate) fn check_device(&self, rec: &Recorder<'_>, op: &'static str) -> Result<()> {
        match &self.kind {
            TargetsKind::Index { index, .. } => rec.check_device(op, "targets", index),
            TargetsKind::Probabilities(probabilities) => rec.check_device(op, "targets", probabilities),
        }
    }
}

impl From<&Tensor<i32>> for Targets {
    fn from(index: &Tensor<i32>) -> Self {
        Self { kind: TargetsKind::Index { index: index.clone(), unsigned: false }, ignored: Self::IGNORED }
    }
}

impl From<&Tensor<u32>> for Targets {
    fn from(index: &Tensor<u32>) -> Self {
        Self { kind: TargetsKind::Index { index: index.retyped(), unsigned: true }, ignored: Self::IGNORED }
    }
}

impl From<&Tensor<f32>> for Targets {
    fn from(probabilities: &Tensor<f32>) -> Self {
        Self { kind: TargetsKind::Probabilities(probabilities.clone()), ignored: Self::IGNORED }
    }
}

impl From<&Self> for Targets {
    fn from(targets: &Self) -> Self {
        targets.clone()
    }
}

/// The ignored index of `i32` targets, as kernels compare it. A value that does not fit cannot be a
/// class: it becomes `i32::MIN`, which cannot be a class either. [`Targets::new_ignoring`] uploads
/// this value for ignored labels.
fn device_ignored(ignored: i64) -> i32 {
    i32::try_from(ignored).unwrap_or(i32::MIN)
}

params! {
    struct Params {
        /// 0: one weight for all classes; 1: one per class.
        weight_stride: u32,
        /// 0: one weight for all targets; 1: one per target.
        position_weight_stride: u32,
        classes: u32,
        ignored: i32,
        /// 1: counts targets. The compensated sum of ones is exact.
        by_count: u32,
    }
}

pub(crate) static KERNEL: Kernel = kernel!(
    "sum_target_weights",
    Params::FIELDS,
    &[read("targets", "i32"), read("weight", "f32"), read("position_weight", "f32"), write("partials", "u32"),]
);

impl Recorder<'_> {
    /// Sums the weights of the targets that are not ignored, or counts them, and finds the first
    /// invalid target. Returns a partial result. `weight` is a scalar, or has one element per
    /// class; `position_weight` is a scalar, or has one element per target.
    pub(crate) fn sum_target_weights(
        &mut self,
        op: &'static str,
        targets: &Tensor<i32>,
        [weight, position_weight]: [&Tensor<f32>; 2],
        classes: u32,
        ignored: i32,
        by_count: bool,
    ) -> Result<Tensor<u32>> {
        let count = targets.count(op)?;
        let block = sum_block(count);
        let partials = partials(self, op, (count, block), 1)?;
        let strides = [weight, position_weight].map(|weights| u32::from(!weights.shape().is_empty()));
        let params = Params {
            weight_stride: strides[0],
            position_weight_stride: strides[1],
            classes,
            ignored,
            by_count: u32::from(by_count),
        };
        let blocks = BlockLaunch::new(op, &KERNEL, count)
            .block_size(block)
            .per_element("targets", targets)
            .whole("weight", weight)
            .per_block("partials", &partials, words(1));
        let blocks = match strides[1] {
            0 => blocks.whole("position_weight", position_weight),
            _ => blocks.per_element("position_weight", position_weight),
        };
        blocks.run(self, &params)?;
        self.sum_of_partials(op, partials, 1)
    }
}

impl Tensor<f32> {
    /// Uploads probabilities after checking that each lies in [0, 1].
    ///
    /// The host cannot check probabilities that are already on the GPU: the binary cross-entropy of
    /// one out of range is NaN, and its readback returns [`Error::Data`].
    ///
    /// # Errors
    /// [`Error::Value`] with the first value out of range and its position; the errors of
    /// [`Tensor::from_slice`].
    ///
    /// # Examples
    /// ```
    /// # if let Ok(gpu) = xent::Gpu::headless() {
    /// let error = xent::Tensor::probabilities(&gpu, [3], &[0.5, 1.0, 1.5]).unwrap_err();
    /// assert_eq!(error.to_string(), "probabilities: a probability must be in 0..=1, got 1.5 at position 2");
    /// # }
    /// ```
    pub fn probabilities(gpu: &Gpu, shape: impl Into<Shape>, values: &[f32]) -> Result<Self> {
        if let Some((position, value)) = values.iter().enumerate().find(|(_, value)| !(0.0..=1.0).contains(*value)) {
            let got = format!("{value} at position {position}");
            return Err(Error::value("probabilities", "a probability", "in 0..=1", got));
        }
        Self::from_slice(gpu, shape, values)
    }
}
