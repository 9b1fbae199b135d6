use super::{View, results};
use crate::error::Result;

/// The sum of each column of a matrix `[rows, columns]`; see
/// [`Recorder::column_sum`](crate::Recorder::column_sum).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the slice does not have the shape's size;
/// [`Error::Limit`](crate::Error::Limit) for more than 2^24 columns without rows.
pub fn column_sum<'a, T: Copy + Into<f64> + 'a>(input: impl Into<View<'a, T>>) -> Result<Vec<f64>> {
    let input = input.into();
    let [_, columns] = input.matrix("cpu::column_sum", "the input")?;
    let input = input.data;
    let mut sums = results("cpu::column_sum", columns, input.len())?;
    sums.resize(columns, 0.0);
    for row in input.chunks_exact(columns.max(1)) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum += x.into();
        }
    }
    Ok(sums)
}
