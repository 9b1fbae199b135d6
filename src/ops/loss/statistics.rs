//! Statistics of the softmax of rows.

use crate::engine::kernel::{Kernel, kernel, read, write};
use crate::error::Result;
use crate::record::{BlockLaunch, Recorder};
use crate::tensor::{Check, Shape, Tensor, size32};

/// Statistics of the softmax of each row's scaled and capped logits, without class weights, label
/// smoothing and position weights. Unless a field is a scalar, its tensor has one element per row:
/// the shape of the logits without the class dimension.
///
/// A row whose softmax is undefined (it contains NaN or +infinity, or only -infinity) has
/// statistics of NaN and the predicted class -1 (an ignored row still has `target_log_prob` 0).
#[derive(Clone, Debug)]
pub struct Statistics {
    /// The logarithm of the sum of `exp(z_c)`.
    pub log_sum_exp: Tensor<f32>,
    /// The log-probability of the target; with probabilities, of the first class with the largest
    /// probability. 0 for ignored rows.
    pub target_log_prob: Tensor<f32>,
    /// The entropy of the softmax: minus the sum of `p_c log p_c`, in nats.
    pub entropy: Tensor<f32>,
    /// The first class with the largest logit, before scale and cap.
    pub predicted: Tensor<i32>,
    /// A scalar: the number of rows whose target (as for `target_log_prob`) is predicted. Ignored
    /// rows do not count.
    pub correct: Tensor<u32>,
    /// A scalar: the number of rows that are not ignored and whose target is a class. The accuracy
    /// is `correct / counted`.
    pub counted: Tensor<u32>,
}

/// The number of words of a row's statistics in the output of the kernel.
pub(crate) const WORDS: u32 = 5;

/// The number of rows that a workgroup counts, so that their words fit the smallest binding.
const ROWS_PER_BLOCK: u32 = 512;

pub(crate) static KERNEL: Kernel = kernel!(
    "row_statistics",
    &[],
    &[
        read("statistics", "u32"),
        write("log_sum_exp", "f32"),
        write("target_log_prob", "f32"),
        write("entropy", "f32"),
        write("predicted", "i32"),
        write("partials", "u32"),
    ]
);

impl Recorder<'_> {
    /// Splits the statistics of rows, `WORDS` per row, into tensors. `check` is the check of the
    /// targets.
    pub(crate) fn row_statistics(
        &mut self,
        op: &'static str,
        words: &Tensor<u32>,
        rows: &Shape,
        check: Option<&Check>,
    ) -> Result<Statistics> {
        let count = size32(words.shape().first().copied().unwrap_or(0));
        let (log_sum_exp, target_log_prob) = (self.output(op, rows.clone())?, self.output(op, rows.clone())?);
        let (entropy, predicted) = (self.output(op, rows.clone())?, self.output(op, rows.clone())?);
        let partials: Tensor<u32> = self.output(op, [count.div_ceil(ROWS_PER_BLOCK) as usize, 2])?;
        BlockLaunch::new(op, &KERNEL, count)
            .block_size(ROWS_PER_BLOCK)
            .per_element_n("statistics", words, WORDS)
            .per_element("log_sum_exp", &log_sum_exp)
            .per_element("target_log_prob", &target_log_prob)
            .per_element("entropy", &entropy)
            .per_element("predicted", &predicted)
            .per_block("partials", &partials, 2)
            .run(self, &())?;
        let counts = match self.sum_of_counts(op, partials)? {
            none if none.is_empty() => {
                let counts = self.output(op, [2])?;
                self.fill_zero(&counts)?;
                counts
            }
            counts => counts,
        };
        Ok(Statistics {
            log_sum_exp,
            target_log_prob: target_log_prob.with_check(check.cloned()),
            entropy,
            predicted,
            correct: counts.part(0, Shape::default()).with_check(check.cloned()),
            counted: counts.part(1, Shape::default()).with_check(check.cloned()),
        })
    }
}
