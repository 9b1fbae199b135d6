//! Tables of numbers in memory, from CSV files or slices, and their preparation for training.
//!
//! # Examples
//! ```
//! use xent::data::{Table, batches, shuffled};
//! // Two measurements and a class in each row.
//! let table = Table::new(3, vec![5.1, 0.2, 0.0, 6.3, 1.8, 1.0, 4.9, 0.1, 0.0, 5.8, 2.2, 1.0])?;
//! let (mut x, y) = table.split_columns(2)?;
//! x.standardisation().apply(&mut x)?;
//! let order = shuffled(x.rows(), 0)?;
//! let (train, test) = order.split_at(3);
//! assert_eq!(y.select(test)?.rows(), 1);
//! // Mini-batches of two of the three rows, in an order determined by seed 7 and epoch 0.
//! assert_eq!(batches(train, 2, 7, 0)?.map(|rows| rows.len()).collect::<Vec<_>>(), [2, 1]);
//! # Ok::<(), xent::Error>(())
//! ```

mod csv;

pub use csv::{Column, CsvOptions, Missing};

use crate::engine::Gpu;
use crate::error::{Error, Result, ensure, expect_len, try_with_capacity};
use crate::record::Recorder;
use crate::tensor::Tensor;

/// A table of numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    columns: usize,
    values: Vec<f32>,
}

impl Table {
    /// Creates a table from row-major values.
    ///
    /// # Errors
    /// [`Error::Shape`] unless the values fill complete rows: at least one row of at least one
    /// column.
    pub fn new(columns: usize, values: Vec<f32>) -> Result<Self> {
        if columns == 0 || values.is_empty() || !values.len().is_multiple_of(columns) {
            let expected = format!("whole rows of {columns} columns, at least 1 of both");
            return Err(Error::shape("Table::new", "the values", expected, values.len()));
        }
        Ok(Self { columns, values })
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.columns).unwrap_or(0)
    }

    /// The number of columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All values, in row-major order.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Returns the rows with these indices, in the order given.
    ///
    /// # Errors
    /// [`Error::Value`] with the first index that is out of range; [`Error::HostMemory`] if the
    /// host has no memory for the rows.
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        let op = "Table::select";
        let mut values = try_with_capacity(op, rows.len().saturating_mul(self.columns))?;
        for &row in rows {
            let Some(of_row) = self.values.chunks_exact(self.columns.max(1)).nth(row) else {
                return Err(Error::value(op, "a row", format!("in 0..{}", self.rows()), row));
            };
            values.extend_from_slice(of_row);
        }
        Ok(Self { columns: self.columns, values })
    }

    /// Splits the table into the columns before `at` and the columns from `at` on.
    ///
    /// # Errors
    /// [`Error::Shape`] unless both parts have a column.
    pub fn split_columns(&self, at: usize) -> Result<(Self, Self)> {
        if at == 0 || at >= self.columns {
            let expected = format!("between 1 and {} columns before the split", self.columns.saturating_sub(1));
            return Err(Error::shape("split_columns", "the table", expected, at));
        }
        let (left, right): (Vec<_>, Vec<_>) = self.values.chunks(self.columns).map(|row| row.split_at(at)).unzip();
        Ok((Self { columns: at, values: left.concat() }, Self { columns: self.columns - at, values: right.concat() }))
    }

    /// Returns the values of a table of one column as class indices.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of columns; [`Error::Value`] with the first value that
    /// is not a class in `0..classes`.
    pub fn classes(&self, classes: usize) -> Result<Vec<i32>> {
        let op = "Table::classes";
        ensure!(self.columns == 1, Error::shape(op, "the table", "1 column", self.columns));
        let class = |(row, &value): (usize, &f32)| {
            #[expect(clippy::cast_possible_truncation, reason = "a value that the conversion changes is refused")]
            let class = value as i32;
            match usize::try_from(class) {
                Ok(number) if number < classes && f64::from(class) == f64::from(value) => Ok(class),
                _ => Err(Error::value(
                    op,
                    "a class",
                    format!("a whole number in 0..{classes}"),
                    format!("{value} in row {row}"),
                )),
            }
        };
        self.values.iter().enumerate().map(class).collect()
    }

    /// Computes the mean and the standard deviation of each column, in the table's own units.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
    pub fn standardisation(&self) -> Standardisation {
        let rows = self.rows().max(1) as f64;
        let column = |j: usize| self.values.iter().skip(j).step_by(self.columns.max(1)).copied().map(f64::from);
        let moments = |j: usize| {
            let mean = column(j).sum::<f64>() / rows;
            (mean, (column(j).map(|v| (v - mean) * (v - mean)).sum::<f64>() / rows).sqrt())
        };
        let (mean, deviation) = (0..self.columns).map(moments).unzip();
        Standardisation { mean, deviation }
    }

    fn expect_columns(&self, op: &'static str, columns: usize) -> Result<()> {
        ensure!(self.columns == columns, Error::shape(op, "the table", format!("{columns} columns"), self.columns));
        Ok(())
    }
}

/// Standardises columns to mean 0 and standard deviation 1. Compute it from the training data, and
/// apply it to all data.
#[derive(Clone, Debug, PartialEq)]
pub struct Standardisation {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Standardisation {
    /// Creates a standardisation from the mean and the standard deviation of each column, such as
    /// numbers saved with a model.
    ///
    /// # Errors
    /// [`Error::Shape`] if the lengths differ.
    pub fn new(mean: Vec<f64>, deviation: Vec<f64>) -> Result<Self> {
        expect_len("Standardisation::new", "the deviation", deviation.len(), mean.len())?;
        Ok(Self { mean, deviation })
    }

    /// The mean of each column.
    #[must_use]
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The standard deviation of each column.
    #[must_use]
    pub fn deviation(&self) -> &[f64] {
        &self.deviation
    }

    /// Standardises a table. A column whose standard deviation is 0 is only shifted.
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of columns differs.
    #[expect(clippy::cast_possible_truncation, reason = "tables store f32")]
    pub fn apply(&self, table: &mut Table) -> Result<()> {
        table.expect_columns("Standardisation::apply", self.mean.len())?;
        for row in table.values.chunks_mut(table.columns.max(1)) {
            for ((value, mean), &deviation) in row.iter_mut().zip(&self.mean).zip(&self.deviation) {
                *value = ((f64::from(*value) - mean) / if deviation == 0.0 { 1.0 } else { deviation }) as f32;
            }
        }
        Ok(())
    }
}

/// Returns the numbers `0..rows` in a random order determined by the seed.
///
/// # Errors
/// [`Error::HostMemory`] if the host has no memory for them.
pub fn shuffled(rows: usize, seed: u64) -> Result<Vec<usize>> {
    let mut order = try_with_capacity("shuffled", rows)?;
    order.extend(0..rows);
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    Ok(order)
}

/// Returns mini-batches of `size` rows (the last may have fewer), in a random order determined by
/// the seed and the epoch: training that resumes at epoch `n` sees the batches it would have seen
/// without the interruption.
///
/// # Errors
/// [`Error::Value`] for a size of 0.
pub fn batches(rows: &[usize], size: usize, seed: u64, epoch: u64) -> Result<impl Iterator<Item = Vec<usize>> + use<>> {
    ensure!(size > 0, Error::value("batches", "size", "at least 1", "0"));
    let mut rows = rows.to_vec();
    // Different seeds and epochs produce different streams.
    let mut rng = fastrand::Rng::with_seed(fastrand::Rng::with_seed(seed).u64(..).wrapping_add(epoch));
    rng.shuffle(&mut rows);
    let mut rest = rows.into_iter();
    Ok(std::iter::from_fn(move || {
        let batch: Vec<usize> = rest.by_ref().take(size).collect();
        (!batch.is_empty()).then_some(batch)
    }))
}

/// GPU memory that is reused for one mini-batch of a table after another.
///
/// # Examples
/// ```
/// use xent::Gpu;
/// use xent::data::{Feed, Table};
/// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
/// let table = Table::new(2, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// let mut feed = Feed::new(&gpu, 2, 2)?;
/// let mut batch = gpu.batch();
/// let x = feed.load(&mut batch, &table, &[2, 0])?;
/// let mut values = batch.read(&x)?;
/// batch.submit()?;
/// assert_eq!(values.wait(std::time::Duration::from_secs(10))?, [5.0, 6.0, 1.0, 2.0]);
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Debug)]
pub struct Feed {
    tensor: Tensor<f32>,
}

impl Feed {
    /// Allocates memory for up to `rows` rows of `columns` columns.
    ///
    /// # Errors
    /// The errors of [`Tensor::zeros`].
    pub fn new(gpu: &Gpu, rows: usize, columns: usize) -> Result<Self> {
        Ok(Self { tensor: Tensor::zeros(gpu, [rows, columns])? })
    }

    /// Uploads rows of a table at this point of the recording. Returns them as `[rows, columns]`,
    /// valid until the next load.
    ///
    /// # Errors
    /// [`Error::Shape`] for more rows than there is memory for, or another number of columns;
    /// [`Error::Value`] for a row that the table does not have; the errors of [`Recorder::upload`].
    pub fn load(&mut self, rec: &mut Recorder<'_>, table: &Table, rows: &[usize]) -> Result<Tensor<f32>> {
        let columns = self.tensor.shape().get(1).copied().unwrap_or(0);
        table.expect_columns("Feed::load", columns)?;
        let part = self.tensor.rows(0..rows.len())?;
        rec.upload(&part, table.select(rows)?.values())?;
        Ok(part)
    }
}
