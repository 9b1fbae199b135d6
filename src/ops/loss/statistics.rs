//! What rows' softmax says besides the loss.

use crate::engine::kernel::{Kernel, kernel, read, write};
use crate::error::Result;
use crate::record::{Blocks, Recorder};
use crate::tensor::{Check, Shape, Tensor, size32};

/// What the softmax of each row says besides its loss. All of it is of the logits as they are scaled and capped, and without class
/// weights, smoothing and position weights. The tensors have one element for each row: the logits' shape without its classes.
///
/// A row without a softmax (it holds NaN or +infinity, or nothing but -infinity) has NaN, and the class -1.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// The log of the sum of `exp(z_c)`.
    pub log_sum_exp: Tensor<f32>,
    /// The log-probability of the target; with probabilities that of the class with the largest (the first of equals). 0 where the
    /// row is ignored.
    pub target_log_prob: Tensor<f32>,
    /// The entropy of the softmax: minus the sum of `p_c log p_c`, in nats.
    pub entropy: Tensor<f32>,
    /// The class with the largest logit, the first of equals; a cap that makes logits equal does not count.
    pub predicted: Tensor<i32>,
    /// A scalar: in how many rows the target (as for `target_log_prob`) is predicted. Ignored rows do not count.
    pub correct: Tensor<u32>,
    /// A scalar: the rows that are not ignored. `correct / counted` is the accuracy.
    pub counted: Tensor<u32>,
}

/// Words that a row's statistics have in the kernel's output.
pub(crate) const WORDS: u32 = 5;

/// Rows that a workgroup counts: their words fit the smallest binding.
const BLOCK: u32 = 512;

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
    /// Takes the rows' statistics, `WORDS` for each, apart. `check` is that of the targets.
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
        let partials: Tensor<u32> = self.output(op, [count.div_ceil(BLOCK) as usize, 2])?;
        Blocks::new(op, &KERNEL, count)
            .several("statistics", words, WORDS)
            .each("log_sum_exp", &log_sum_exp)
            .each("target_log_prob", &target_log_prob)
            .each("entropy", &entropy)
            .each("predicted", &predicted)
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
