//! Softmax over any dimension.

use crate::engine::kernel::{Kernel, kernel};
use crate::error::Result;
use crate::record::Recorder;
use crate::tensor::{Float, Tensor};

use crate::ops::map::rows::{BACKWARD_BINDINGS, FORWARD_BINDINGS};

pub(crate) static FORWARD: Kernel = kernel!("softmax", &[], FORWARD_BINDINGS);

pub(crate) static BACKWARD: Kernel = kernel!("softmax_backward", &[], BACKWARD_BINDINGS);

/// Softmax. For a loss of logits, [`cross_entropy`](Recorder::cross_entropy) stores no
/// probabilities.
impl Recorder<'_> {
    /// `y = exp(x - m) / (sum of exp(x - m))` with the maximum `m` of a row.
    ///
    /// # Shapes
    /// Any shape; a scalar has a dimension 0, as in PyTorch. The result has the same shape and
    /// type. A row consists of the elements along dimension `dim`.
    ///
    /// # Edge cases
    /// A row with NaN or +infinity, or of -infinity only, becomes NaN.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if there is no dimension `dim`,
    /// [`Error::ForeignTensor`](crate::Error::ForeignTensor), a row larger than a binding (for
    /// halves that lie an odd number of elements apart: all rows that share the indices before
    /// `dim`).
    ///
    /// # Cost
    /// Two reads of a row, the second from a cache, and one write. On a GPU, rows of up to 8192
    /// elements (on some up to 32768) are read once, and longer rows that are too few to keep it
    /// busy take one more dispatch.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let x = Tensor::from_slice(&gpu, [1, 2], &[5.0, 5.0f32])?;
    /// let mut batch = gpu.batch();
    /// let y = batch.softmax(&x, 1)?;
    /// let mut y = batch.read(&y)?;
    /// batch.submit()?;
    /// assert_eq!(y.wait(Duration::from_secs(10))?, [0.5; 2]);
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is PyTorch's `torch.nn.functional.softmax`.
    pub fn softmax<T: Float>(&mut self, logits: &Tensor<T>, dim: usize) -> Result<Tensor<T>> {
        self.row_map("softmax", &FORWARD, logits, dim)
    }

    /// The gradient of [`softmax`](Self::softmax), from its output `y`, whose rows sum to 1:
    /// `y * (upstream - (sum of y * upstream over the row))`. The sum is computed twice, the second
    /// time relative to the first result, which nearly removes its rounding error.
    ///
    /// # Edge cases
    /// If `output` is not a softmax, the result differs from this formula.
    ///
    /// # Errors
    /// If `upstream` and `output` differ in shape; else as [`softmax`](Self::softmax).
    ///
    /// # Cost
    /// Three reads of both inputs (on a GPU one for rows of up to 8192 elements), all but the first
    /// mostly from a cache, and one write: 12 bytes an element to and from memory.
    pub fn softmax_backward<T: Float>(
        &mut self,
        output: &Tensor<T>,
        upstream: &Tensor<T>,
        dim: usize,
    ) -> Result<Tensor<T>> {
        self.row_map_backward("softmax_backward", &BACKWARD, output, upstream, dim)
    }
}
