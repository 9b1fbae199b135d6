use super::{View, product, results};
use crate::error::{Error, Result, ensure, expect_len};
use crate::plan::product::Layout;

/// `op(a) op(b) + bias` for matrices that are stored transposed if `layout` says so; see
/// [`Recorder::matmul`](crate::Recorder::matmul).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) naming the matrix that does not fit;
/// [`Error::Limit`](crate::Error::Limit) for a result of 2^32 elements or more, or of more than
/// 2^24 if there are no summands; [`Error::HostMemory`](crate::Error::HostMemory) if there is no
/// memory for the result.
#[expect(clippy::indexing_slicing, reason = "each slice has the size of its shape, and the shapes fit each other")]
pub fn matmul<'a, T: Copy + Into<f64> + 'a>(
    layout: Layout,
    a: impl Into<View<'a, T>>,
    b: impl Into<View<'a, T>>,
    bias: Option<&[T]>,
) -> Result<Vec<f64>> {
    let op = "cpu::matmul";
    let (a, b) = (a.into(), b.into());
    let (a_shape, b_shape) = (a.matrix(op, "a")?, b.matrix(op, "b")?);
    let (a, b) = (a.data, b.data);
    let [m, k] = if layout == Layout::Tn { [a_shape[1], a_shape[0]] } else { a_shape };
    let [b_k, n] = if layout == Layout::Nt { [b_shape[1], b_shape[0]] } else { b_shape };
    ensure!(b_k == k, Error::shape(op, "b", format!("{k} summands"), b_k));
    if let Some(bias) = bias {
        expect_len(op, "bias", bias.len(), n)?;
    }
    let mut c = results(op, product(&[m, n]), k)?;
    // Loops over elements, not rows: without columns there may be any number of rows.
    for element in 0..product(&[m, n]) {
        let (row, column) = (element / n, element % n);
        let mut sum = 0.0;
        for i in 0..k {
            let a: f64 = a[if layout == Layout::Tn { i * m + row } else { row * k + i }].into();
            let b: f64 = b[if layout == Layout::Nt { column * k + i } else { i * n + column }].into();
            sum += a * b;
        }
        c.push(sum + bias.map_or(0.0, |bias| bias[column].into()));
    }
    Ok(c)
}
