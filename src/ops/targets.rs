//! Class indices: checking them on the host, counting them on the GPU.

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernel::{Kernel, Variant, params, read, wgsl, write};
use crate::options::device_ignore_index;
use crate::plan::BLOCK;
use crate::recorder::Recorder;
use crate::tensor::{Shape, Tensor};

use super::reduce::{by_blocks, pairs};

params! {
    struct CountParams {
        count: u32,
        first: u32,
        block: u32,
        targets_base: u32,
        counts_base: u32,
        classes: u32,
        ignore_index: i32,
    }
}

pub(super) const COUNT: Kernel = Kernel {
    label: "xent.count_targets",
    source: wgsl!["lib/grid", "lib/counts", "count_targets"],
    bindings: &[read("targets", "i32"), write("counts", "u32")],
    params: CountParams::FIELDS,
    constants: &["WORKGROUP"],
};

params! {
    struct CombineParams { count: u32, block: u32, input_base: u32, counts_base: u32 }
}

pub(super) const COMBINE: Kernel = Kernel {
    label: "xent.combine_counts",
    source: wgsl!["lib/grid", "lib/counts", "combine_counts"],
    bindings: &[read("input", "u32"), write("counts", "u32")],
    params: CombineParams::FIELDS,
    constants: &["WORKGROUP"],
};

impl Recorder<'_> {
    /// Counts the targets that are not ignored and finds the first that is no class: a pair of words.
    pub(super) fn count_targets(
        &mut self,
        op: &'static str,
        targets: &Tensor<i32>,
        classes: u32,
        ignore_index: i64,
    ) -> Result<Tensor<u32>> {
        let counts = pairs(self, op, targets.count())?;
        for range in by_blocks(op, targets.count(), &[4]).ranges(self.gpu().caps())? {
            let count = range.end - range.start;
            let groups = u64::from(count.div_ceil(BLOCK));
            let from = self.window(targets, range.start.into(), count.into());
            let to = self.window(&counts, u64::from(range.start / BLOCK) * 2, groups * 2);
            let params = CountParams {
                count,
                first: range.start,
                block: BLOCK,
                targets_base: from.base,
                counts_base: to.base,
                classes,
                ignore_index: device_ignore_index(ignore_index),
            };
            let variant = Variant::new(&[self.gpu().caps().workgroup_size()]);
            self.dispatch(&COUNT, variant, &params, &[Some(&from), Some(&to)], groups)?;
        }
        self.reduce_pairs(op, &COMBINE, counts)
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
