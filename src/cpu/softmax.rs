use super::log_softmax::row_log_sum;
use super::{Classes, View};
use crate::error::{Result, expect_len};

/// Softmax over dimension `dim`; see [`Recorder::softmax`](crate::Recorder::softmax).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the slice does not have the shape's size or there is no
/// dimension `dim`.
#[expect(clippy::indexing_slicing, reason = "the slices were checked to have the shape's size, and rows lie within it")]
pub fn softmax<'a, T: Copy + Into<f64> + 'a>(logits: impl Into<View<'a, T>>, dim: usize) -> Result<Vec<f64>> {
    let View { data: logits, shape } = logits.into();
    let dims = Classes::along("cpu::softmax", &shape, dim, logits.len())?;
    let mut out = vec![0.0; logits.len()];
    for row in (0..dims.rows()).take_while(|_| !logits.is_empty()) {
        let (max, log_sum) = row_log_sum(dims.row(row).map(|i| logits[i].into()));
        for i in dims.row(row) {
            let x: f64 = logits[i].into();
            out[i] = ((x - max) - log_sum).exp();
        }
    }
    Ok(out)
}

/// The gradient of [`softmax`], computed from its output.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if a slice does not have the shape's size or there is no
/// dimension `dim`.
#[expect(clippy::indexing_slicing, reason = "the slices were checked to have the shape's size, and rows lie within it")]
pub fn softmax_backward<'a, T: Copy + Into<f64> + 'a>(
    output: impl Into<View<'a, T>>,
    upstream: &[T],
    dim: usize,
) -> Result<Vec<f64>> {
    let View { data: output, shape } = output.into();
    let op = "cpu::softmax_backward";
    let dims = Classes::along(op, &shape, dim, output.len())?;
    expect_len(op, "upstream", upstream.len(), output.len())?;
    let mut grad = vec![0.0; output.len()];
    for row in (0..dims.rows()).take_while(|_| !output.is_empty()) {
        let product = |i: usize| -> f64 { output[i].into() * upstream[i].into() };
        let sum: f64 = dims.row(row).map(product).sum();
        for i in dims.row(row) {
            let (y, g): (f64, f64) = (output[i].into(), upstream[i].into());
            grad[i] = y * (g - sum);
        }
    }
    Ok(grad)
}
