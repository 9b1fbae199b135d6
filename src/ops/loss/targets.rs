//! Targets of losses of rows: validation on the host, and sums of their weights on the GPU.

use crate::engine::Gpu;
use crate::engine::kernel::{Kernel, kernel, params, read, write};
use crate::error::{Error, Result};
use crate::record::{Blocks, Recorder};
use crate::tensor::{Shape, Tensor};

use crate::ops::reduce::blocks::{partials, words};

/// The targets of rows of logits.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// One class per row.
    Index(&'a Tensor<i32>),
    /// One class per row. An ignored index that `u32` cannot represent, such as the default, is `u32::MAX` here.
    IndexU32(&'a Tensor<u32>),
    /// One probability per class and row, with the shape of the logits. They need not sum to 1.
    Probabilities(&'a Tensor<f32>),
}

impl<'a> From<&'a Tensor<i32>> for Targets<'a> {
    fn from(index: &'a Tensor<i32>) -> Self {
        Self::Index(index)
    }
}

impl<'a> From<&'a Tensor<u32>> for Targets<'a> {
    fn from(index: &'a Tensor<u32>) -> Self {
        Self::IndexU32(index)
    }
}

impl<'a> From<&'a Tensor<f32>> for Targets<'a> {
    fn from(probabilities: &'a Tensor<f32>) -> Self {
        Self::Probabilities(probabilities)
    }
}

/// Targets in the form that kernels read.
#[derive(Debug)]
pub(crate) enum KernelTargets {
    /// Class indices, as `i32` bits, and the ignored one.
    Index(Tensor<i32>, i32),
    Probabilities(Tensor<f32>),
}

impl Targets<'_> {
    /// Class indices, as `i32` bits, and the ignored one.
    pub(crate) fn indices(self, op: &'static str, ignore_index: i64) -> Result<(Tensor<i32>, i32)> {
        match self.for_kernels(ignore_index) {
            KernelTargets::Index(index, ignored) => Ok((index, ignored)),
            KernelTargets::Probabilities(_) => {
                let (expected, got) = ("class indices".to_owned(), "probabilities".to_owned());
                Err(Error::Value { op, what: "targets", expected, got })
            }
        }
    }

    pub(crate) fn for_kernels(self, ignore_index: i64) -> KernelTargets {
        match self {
            Self::Index(index) => KernelTargets::Index(index.clone(), device_ignore_index(ignore_index)),
            // Valid classes are below 2^31, so they are the same in both types; all other numbers are invalid in both.
            Self::IndexU32(index) => {
                let ignored = u32::try_from(ignore_index).unwrap_or(u32::MAX).cast_signed();
                KernelTargets::Index(index.retyped(), ignored)
            }
            Self::Probabilities(probabilities) => KernelTargets::Probabilities(probabilities.clone()),
        }
    }
}

/// The ignored index in 32 bits, as kernels compare it. A value that does not fit cannot be a
/// class: it becomes `i32::MIN`, which no class can have. Host slices are translated with this
/// function.
fn device_ignore_index(ignore_index: i64) -> i32 {
    i32::try_from(ignore_index).unwrap_or(i32::MIN)
}

params! {
    struct Params {
        /// 0: one weight for all classes; 1: one per class.
        weight_stride: u32,
        /// 0: one weight for all targets; 1: one per target.
        position_weight_stride: u32,
        classes: u32,
        ignore_index: i32,
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
    /// Sums the weights of the targets that are not ignored, or counts them, and finds the first invalid target. Returns a partial
    /// result. `weight` is a scalar, or has one element per class; `position_weight` is a scalar, or has one element per target.
    pub(crate) fn sum_target_weights(
        &mut self,
        op: &'static str,
        targets: &Tensor<i32>,
        [weight, position_weight]: [&Tensor<f32>; 2],
        classes: u32,
        ignore_index: i32,
        by_count: bool,
    ) -> Result<Tensor<u32>> {
        let partials = partials(self, op, targets.count(op)?, 1)?;
        let strides = [weight, position_weight].map(|weights| u32::from(!weights.shape().is_empty()));
        let params = Params {
            weight_stride: strides[0],
            position_weight_stride: strides[1],
            classes,
            ignore_index,
            by_count: u32::from(by_count),
        };
        let blocks = Blocks::new(op, &KERNEL, targets.count(op)?)
            .each("targets", targets)
            .whole("weight", weight)
            .per_block("partials", &partials, words(1));
        let blocks = match strides[1] {
            0 => blocks.whole("position_weight", position_weight),
            _ => blocks.each("position_weight", position_weight),
        };
        blocks.run(self, &params)?;
        self.sum_of_partials(op, partials, 1)
    }
}

impl Tensor<i32> {
    /// Uploads class indices after checking each: it must be a class, in `0..classes`, or `ignore_index`.
    ///
    /// Targets that are already on the GPU cannot be checked ahead: a loss whose target is no class is NaN, and its
    /// readback gives [`Error::Data`].
    ///
    /// # Errors
    /// [`Error::Value`] with the first bad target and its position; the errors of [`Tensor::from_slice`].
    ///
    /// # Examples
    /// ```
    /// # if let Ok(gpu) = xent::Gpu::headless() {
    /// let labels: [u8; 4] = [0, 2, 1, 9];
    /// let error = xent::Tensor::targets(&gpu, [4], &labels, 3, -100).unwrap_err();
    /// assert_eq!(error.to_string(), "targets: a target must be in 0..3 or the ignored -100, got 9 at position 3");
    /// # }
    /// ```
    pub fn targets<L: Copy + Into<i64>>(
        gpu: &Gpu,
        shape: impl Into<Shape>,
        labels: &[L],
        classes: usize,
        ignore_index: i64,
    ) -> Result<Self> {
        let class = |(position, &label): (usize, &L)| {
            let label: i64 = label.into();
            if label == ignore_index {
                return Ok(device_ignore_index(ignore_index));
            }
            match (usize::try_from(label), i32::try_from(label)) {
                (Ok(class), Ok(target)) if class < classes => Ok(target),
                _ => Err(Error::Value {
                    op: "targets",
                    what: "a target",
                    expected: format!("in 0..{classes} or the ignored {ignore_index}"),
                    got: format!("{label} at position {position}"),
                }),
            }
        };
        let checked = labels.iter().enumerate().map(class).collect::<Result<Vec<i32>>>()?;
        Self::from_slice(gpu, shape, &checked)
    }
}

impl Tensor<f32> {
    /// Uploads probabilities after checking each: it must lie in [0, 1].
    ///
    /// What is already on the GPU cannot be checked ahead: binary cross-entropy of it is NaN, and its readback gives
    /// [`Error::Data`].
    ///
    /// # Errors
    /// [`Error::Value`] with the first bad value and its position; the errors of [`Tensor::from_slice`].
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
            return Err(Error::Value {
                op: "probabilities",
                what: "a probability",
                expected: "in 0..=1".to_owned(),
                got: format!("{value} at position {position}"),
            });
        }
        Self::from_slice(gpu, shape, values)
    }
}
