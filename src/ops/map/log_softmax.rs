//! Log-softmax over any dimension.

use crate::engine::kernel::{Kernel, kernel};
use crate::error::Result;
use crate::record::Recorder;
use crate::tensor::{Float, Tensor};

use crate::ops::map::rows::{BACKWARD_BINDINGS, FORWARD_BINDINGS};

pub(crate) static FORWARD: Kernel = kernel!("log_softmax", &[], FORWARD_BINDINGS);

pub(crate) static BACKWARD: Kernel = kernel!("log_softmax_backward", &[], BACKWARD_BINDINGS);

/// Log-softmax. For a loss of logits, [`cross_entropy`](Recorder::cross_entropy) stores no
/// probabilities.
impl Recorder<'_> {
    /// `y = (x - m) - log(sum of exp(x - m))` with the maximum `m` of a row.
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
    /// As [`softmax`](Self::softmax).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let x = Tensor::from_slice(&gpu, [1, 2], &[5.0, 5.0f32])?;
    /// let mut batch = gpu.batch();
    /// let y = batch.log_softmax(&x, 1)?;
    /// let mut y = batch.read(&y)?;
    /// batch.submit()?;
    /// assert_eq!(y.wait(Duration::from_secs(10))?, [-std::f32::consts::LN_2; 2]);
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is PyTorch's `torch.nn.functional.log_softmax`.
    pub fn log_softmax<T: Float>(&mut self, logits: &Tensor<T>, dim: usize) -> Result<Tensor<T>> {
        self.row_map("log_softmax", &FORWARD, logits, dim)
    }

    /// The gradient of [`log_softmax`](Self::log_softmax), from its output:
    /// `upstream - exp(y) * (sum of upstream over the row)`.
    ///
    /// # Errors
    /// If `upstream` and `output` differ in shape; else as [`log_softmax`](Self::log_softmax).
    ///
    /// # Cost
    /// Two reads of both inputs (on a GPU one for rows of up to 8192 elements), the second from a
    /// cache, and one write.
    pub fn log_softmax_backward<T: Float>(
        &mut self,
        output: &Tensor<T>,
        upstream: &Tensor<T>,
        dim: usize,
    ) -> Result<Tensor<T>> {
        self.row_map_backward("log_softmax_backward", &BACKWARD, output, upstream, dim)
    }
}
