//! Log-softmax over the class dimension.

use crate::error::Result;
use crate::kernel::{Kernel, Variant, params, read4, wgsl, write4};
use crate::plan::{Cut, lanes_per_row};
use crate::recorder::Recorder;
use crate::tensor::Tensor;

use super::{Classes, same_shape};

params! {
    struct ForwardParams { rows: u32, classes: u32, inner: u32, logits_base: u32, log_probs_base: u32 }
}

pub(super) const FORWARD: Kernel = Kernel {
    label: "xent.log_softmax",
    source: wgsl!["lib/grid", "lib/numerics", "lib/rows", "lib/softmax", "log_softmax"],
    bindings: &[read4("logits"), write4("log_probs")],
    params: ForwardParams::FIELDS,
    constants: &["WORKGROUP", "LANES"],
};

params! {
    struct BackwardParams {
        rows: u32,
        classes: u32,
        inner: u32,
        log_probs_base: u32,
        upstream_base: u32,
        grad_base: u32,
    }
}

pub(super) const BACKWARD: Kernel = Kernel {
    label: "xent.log_softmax_backward",
    source: wgsl!["lib/grid", "lib/numerics", "lib/rows", "log_softmax_backward"],
    bindings: &[read4("log_probs"), read4("upstream"), write4("grad")],
    params: BackwardParams::FIELDS,
    constants: &["WORKGROUP", "LANES"],
};

fn cut<'a>(op: &'static str, dims: Classes, part_bytes: &'a [u64]) -> Cut<'a> {
    let groups_per_granule = u64::from(dims.inner);
    Cut { op, rows: dims.outer, row_bytes: part_bytes, granule: 1, groups_per_granule }
}

/// Log-softmax. For a loss of logits, [`cross_entropy`](Recorder::cross_entropy) needs no log-probabilities in memory.
impl Recorder<'_> {
    /// `log_probs = (x - m) - log(sum of exp(x - m))` with the maximum `m` of a row of classes.
    ///
    /// # Shapes
    /// `[C]` or `[N, C, d1, .., dK]`; the result has the same shape.
    ///
    /// # Edge cases
    /// A row with NaN, +infinity, or nothing but -infinity becomes NaN.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for a scalar, [`Error::ForeignTensor`](crate::Error::ForeignTensor), a row larger
    /// than a binding (for `[N, C, d1, .., dK]`: one of the `N` parts).
    ///
    /// # Cost
    /// Two reads of a row, the second from a cache, and one write.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{Gpu, Tensor};
    /// # if let Ok(gpu) = Gpu::headless() {
    /// let x = Tensor::from_slice(&gpu, [1, 2], &[5.0, 5.0f32])?;
    /// let mut batch = gpu.batch();
    /// let y = batch.log_softmax(&x)?;
    /// let mut y = batch.read(&y)?;
    /// batch.submit()?;
    /// assert_eq!(y.wait(Duration::from_secs(10))?, [-std::f32::consts::LN_2; 2]);
    /// # }
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is PyTorch's `torch.nn.functional.log_softmax`.
    pub fn log_softmax(&mut self, logits: &Tensor<f32>) -> Result<Tensor<f32>> {
        let op = "log_softmax";
        self.own(op, "logits", logits)?;
        let dims = Classes::of(op, "logits", logits)?;
        let ranges = cut(op, dims, &[dims.part() * 4]).ranges(self.gpu().caps())?;
        let log_probs = self.output(op, logits.shape().clone())?;
        for outer in ranges.into_iter().filter(|_| !logits.is_empty()) {
            let rows = (outer.end - outer.start) * dims.inner;
            let (first, len) = (u64::from(outer.start) * dims.part(), u64::from(rows) * u64::from(dims.classes));
            let (from, to) = (self.window(logits, first, len), self.window(&log_probs, first, len));
            let params = ForwardParams {
                rows,
                classes: dims.classes,
                inner: dims.inner,
                logits_base: from.base,
                log_probs_base: to.base,
            };
            let (variant, groups) = self.row_variant(dims, rows);
            self.dispatch(&FORWARD, variant, &params, &[Some(&from), Some(&to)], groups)?;
        }
        Ok(log_probs)
    }

    /// The gradient of [`log_softmax`](Self::log_softmax), from its output:
    /// `grad = upstream - exp(log_probs) * (sum of upstream over the row)`.
    ///
    /// # Errors
    /// If `upstream` and `log_probs` differ in shape; else as [`log_softmax`](Self::log_softmax).
    ///
    /// # Cost
    /// Three reads (one from a cache) and one write.
    pub fn log_softmax_backward(&mut self, log_probs: &Tensor<f32>, upstream: &Tensor<f32>) -> Result<Tensor<f32>> {
        let op = "log_softmax_backward";
        self.own(op, "log_probs", log_probs)?;
        self.own(op, "upstream", upstream)?;
        let dims = Classes::of(op, "log_probs", log_probs)?;
        same_shape(op, "upstream", upstream, log_probs)?;
        let ranges = cut(op, dims, &[dims.part() * 4]).ranges(self.gpu().caps())?;
        let grad = self.output(op, log_probs.shape().clone())?;
        for outer in ranges.into_iter().filter(|_| !log_probs.is_empty()) {
            let rows = (outer.end - outer.start) * dims.inner;
            let (first, len) = (u64::from(outer.start) * dims.part(), u64::from(rows) * u64::from(dims.classes));
            let (y, g) = (self.window(log_probs, first, len), self.window(upstream, first, len));
            let to = self.window(&grad, first, len);
            let params = BackwardParams {
                rows,
                classes: dims.classes,
                inner: dims.inner,
                log_probs_base: y.base,
                upstream_base: g.base,
                grad_base: to.base,
            };
            let (variant, groups) = self.row_variant(dims, rows);
            self.dispatch(&BACKWARD, variant, &params, &[Some(&y), Some(&g), Some(&to)], groups)?;
        }
        Ok(grad)
    }

    /// How a kernel of rows is compiled, and its workgroups.
    fn row_variant(&self, dims: Classes, rows: u32) -> (Variant, u64) {
        let workgroup = self.gpu().caps().workgroup_size();
        let lanes = lanes_per_row(self.gpu().caps(), dims.classes, dims.inner);
        let vec4 = dims.inner == 1 && dims.classes.is_multiple_of(4);
        let groups = u64::from(rows).div_ceil(u64::from(workgroup / lanes));
        (Variant { vec4, ..Variant::new(&[workgroup, lanes]) }, groups)
    }
}
