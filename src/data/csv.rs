//! Tables from CSV files.

use std::path::Path;

use super::Table;
use crate::error::{Error, Result};

impl Table {
    /// Reads a CSV file of numbers. `skip` lines at its beginning, such as a header, are not looked at; blank lines are no rows.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read; [`Error::Csv`] with the line and the column of the first field that is no finite number,
    /// or the line that has another number of columns than the first, or if there are no rows.
    ///
    /// # Examples
    /// ```
    /// use xent::data::Table;
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("data.csv");
    /// std::fs::write(&path, "height,weight\n1.5,60\n1.8,eighty\n")?;
    /// let error = Table::read_csv(&path, 1).unwrap_err().to_string();
    /// assert!(error.ends_with("data.csv, line 3, column 2: expected a finite number, got \"eighty\""), "{error}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_csv(path: impl AsRef<Path>, skip: usize) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        // What lies before the data is not even read as text.
        let start = match skip {
            0 => 0,
            _ => bytes
                .iter()
                .enumerate()
                .filter(|(_, byte)| **byte == b'\n')
                .nth(skip - 1)
                .map_or(bytes.len(), |(at, _)| at + 1),
        };
        let data = bytes.get(start..).unwrap_or_default();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(data);
        let fail = |line: u64, column: usize, expected: String, got: String| Error::Csv {
            path: path.to_owned(),
            line,
            column,
            expected,
            got,
        };
        // The reader says where it began to look for a record, which may be before line ends.
        let line_of = |position: Option<&csv::Position>| {
            let from = start.saturating_add(position.and_then(|p| usize::try_from(p.byte()).ok()).unwrap_or(0));
            let (before, after) = bytes.split_at_checked(from).unwrap_or((&bytes, &[]));
            let between = after.iter().take_while(|byte| b"\r\n".contains(byte));
            1 + before.iter().chain(between).filter(|byte| **byte == b'\n').count() as u64
        };
        let mut table = Self::default();
        for record in reader.records() {
            let record = record.map_err(|error| match error.into_kind() {
                csv::ErrorKind::Io(source) => Error::File { path: path.to_owned(), source },
                csv::ErrorKind::Utf8 { pos, err } => {
                    fail(line_of(pos.as_ref()), err.field() + 1, "UTF-8 text".to_owned(), "other bytes".to_owned())
                }
                other => fail(0, 0, "a CSV file".to_owned(), format!("{other:?}")),
            })?;
            // To count lines takes its time: only where it has to be said.
            let line = || line_of(record.position());
            if table.columns == 0 {
                table.columns = record.len();
            }
            if record.len() != table.columns {
                let expected = format!("{} columns, as in the first row", table.columns);
                return Err(fail(line(), record.len().min(table.columns) + 1, expected, record.len().to_string()));
            }
            for (column, field) in record.iter().enumerate() {
                match field.trim().parse::<f32>() {
                    Ok(value) if value.is_finite() => table.values.push(value),
                    _ => return Err(fail(line(), column + 1, "a finite number".to_owned(), format!("{field:?}"))),
                }
            }
        }
        match table.columns {
            0 => Err(fail(1, 1, "at least one row of numbers".to_owned(), "none".to_owned())),
            _ => Ok(table),
        }
    }
}
