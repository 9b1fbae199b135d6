use super::{expect_len, product};
use crate::error::Result;

/// The sum of each column of a matrix `[rows, columns]`; see [`Recorder::column_sum`](crate::Recorder::column_sum).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the slice is not of the shape's size.
pub fn column_sum<T: Copy + Into<f64>>(input: &[T], shape: [usize; 2]) -> Result<Vec<f64>> {
    expect_len("cpu::column_sum", "the input", input.len(), product(&shape))?;
    let [rows, columns] = shape;
    let mut sums = vec![0.0; columns];
    for row in 0..rows {
        for (column, sum) in sums.iter_mut().enumerate() {
            *sum += input[row * columns + column].into();
        }
    }
    Ok(sums)
}
