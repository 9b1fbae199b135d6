use super::{Classes, View};
use crate::error::{Result, expect_len};

/// A row's maximum, and the log of the sum of exp(x - maximum). Both are NaN if the row has NaN or
/// +infinity, or nothing but -infinity.
pub(super) fn row_log_sum(row: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let max = row.clone().fold(f64::NEG_INFINITY, f64::max);
    if row.clone().any(f64::is_nan) || max.is_infinite() {
        return (f64::NAN, f64::NAN);
    }
    // Each occurrence of the maximum contributes exactly 1.
    let ties = super::count(row.clone().filter(|&x| x == max).count());
    let rest: f64 = row.filter(|&x| x != max).map(|x| (x - max).exp()).sum();
    (max, (ties - 1.0 + rest).ln_1p())
}

/// Log-softmax over dimension `dim`; see [`Recorder::log_softmax`](crate::Recorder::log_softmax).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the slice does not have the shape's size or there is no
/// dimension `dim`.
#[expect(clippy::indexing_slicing, reason = "the slices were checked to have the shape's size, and rows lie within it")]
pub fn log_softmax<'a, T: Copy + Into<f64> + 'a>(logits: impl Into<View<'a, T>>, dim: usize) -> Result<Vec<f64>> {
    let View { data: logits, shape } = logits.into();
    let dims = Classes::along("cpu::log_softmax", &shape, dim, logits.len())?;
    let mut out = vec![0.0; logits.len()];
    for row in (0..dims.rows()).take_while(|_| !logits.is_empty()) {
        let (max, log_sum) = row_log_sum(dims.row(row).map(|i| logits[i].into()));
        for i in dims.row(row) {
            let x: f64 = logits[i].into();
            out[i] = (x - max) - log_sum;
        }
    }
    Ok(out)
}

/// The gradient of [`log_softmax`], computed from its output.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if a slice does not have the shape's size or there is no
/// dimension `dim`.
#[expect(clippy::indexing_slicing, reason = "the slices were checked to have the shape's size, and rows lie within it")]
pub fn log_softmax_backward<'a, T: Copy + Into<f64> + 'a>(
    log_probs: impl Into<View<'a, T>>,
    upstream: &[T],
    dim: usize,
) -> Result<Vec<f64>> {
    let View { data: log_probs, shape } = log_probs.into();
    let op = "cpu::log_softmax_backward";
    let dims = Classes::along(op, &shape, dim, log_probs.len())?;
    expect_len(op, "upstream", upstream.len(), log_probs.len())?;
    let mut grad = vec![0.0; log_probs.len()];
    for row in (0..dims.rows()).take_while(|_| !log_probs.is_empty()) {
        let sum: f64 = dims.row(row).map(|i| upstream[i].into()).sum();
        for i in dims.row(row) {
            let y: f64 = log_probs[i].into();
            let g: f64 = upstream[i].into();
            grad[i] = g - y.exp() * sum;
        }
    }
    Ok(grad)
}
