//! Tables from CSV files.

mod number;
mod options;
mod place;
mod records;

use std::collections::HashMap;
use std::path::Path;

use super::Table;
use crate::error::{Error, Result, ensure, few};
use number::number;
pub use options::{Column, CsvOptions, Missing};
use place::line_at;
use records::{File, Record, Records};

impl Table {
    /// Reads a CSV file of numbers with the [default options](CsvOptions), but skips `skip` lines
    /// at its beginning, such as a header.
    ///
    /// # Errors
    /// As [`Table::read_csv_with`].
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
        Self::read_csv_with(path, &CsvOptions { skip, ..CsvOptions::default() })
    }

    /// Reads a CSV file of numbers.
    ///
    /// A line ends with `\n`, `\r` or `\r\n`. A field may be quoted if the quotes touch the
    /// delimiters; it may then contain delimiters, line breaks, and quotes, which are doubled.
    /// Blank lines, blanks around numbers, and a byte order mark at the beginning are ignored. If
    /// the last field of every line is empty, each line ends with a delimiter that starts no
    /// column; a header may have that field or not.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read. [`Error::Csv`] with the line and the column of
    /// the first field that is not a finite number, is missing, or is an integer that `f32` cannot
    /// represent, unless the options allow it; for a line with another number of columns than the
    /// first; for a requested column that does not exist or whose name occurs twice; if there are
    /// no rows. [`Error::Value`] for options that no file can satisfy; [`Error::HostMemory`].
    ///
    /// # Examples
    /// ```
    /// use xent::data::{CsvOptions, Missing, Table};
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("data.csv");
    /// std::fs::write(&path, "name;height;weight\nAda;1.5;?\nBea;1.8;\"1,080\"\n")?;
    /// let options = CsvOptions {
    ///     header: true,
    ///     delimiter: b';',
    ///     columns: Some(vec!["weight".into(), "height".into()]),
    ///     missing: Missing::Value(0.0),
    ///     thousands: Some(','),
    ///     ..CsvOptions::default()
    /// };
    /// assert_eq!(Table::read_csv_with(&path, &options)?.values(), [0.0, 1.5, 1080.0, 1.8]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_csv_with(path: impl AsRef<Path>, options: &CsvOptions) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        read(path, &bytes, options)
    }

    /// Reads the bytes of a CSV file of numbers.
    ///
    /// # Errors
    /// As [`Table::read_csv_with`].
    ///
    /// # Examples
    /// ```
    /// use xent::data::{CsvOptions, Missing, Table};
    /// let dropping = CsvOptions { missing: Missing::DropRow, ..CsvOptions::default() };
    /// assert_eq!(Table::from_csv(b"1,2\nNA,3\n4,5\n", &dropping)?.values(), [1.0, 2.0, 4.0, 5.0]);
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn from_csv(bytes: &[u8], options: &CsvOptions) -> Result<Self> {
        read(Path::new("(in memory)"), bytes, options)
    }
}

fn read(path: &Path, bytes: &[u8], options: &CsvOptions) -> Result<Table> {
    options.validate()?;
    let file = File { path, bytes, options };
    let mut records = Records::new(file)?;
    let header = if options.header && records.next()? { Some(records.record.clone()) } else { None };
    ensure!(records.next()?, file.fail(1, 1, "at least one row of numbers", "none"));
    let layout = Layout::new(file, header.as_ref(), &records.record)?;
    let mut values = Vec::new();
    loop {
        layout.read(file, &records.record, &mut values)?;
        if !records.next()? {
            break;
        }
    }
    ensure!(!values.is_empty(), file.fail(1, 1, "at least one row without missing values", "none"));
    Ok(Table { columns: layout.chosen.len(), values })
}

/// The layout that all rows of a file must have.
struct Layout {
    /// The number of columns, and the line that determines it: the header or the first row.
    width: usize,
    said_by: &'static str,
    /// Whether lines end with a delimiter that starts no column.
    closed: bool,
    /// The columns to read, in the order of the table.
    chosen: Vec<usize>,
}

impl Layout {
    fn new(file: File<'_>, header: Option<&Record>, first: &Record) -> Result<Self> {
        let closed = closed(file, header, first)?;
        let (width, said_by) = match header {
            Some(header) => (header.len() - usize::from(closed && header.ends_with_delimiter()), "the header"),
            None => (first.len() - usize::from(closed), "the first row"),
        };
        let chosen = match &file.options.columns {
            Some(columns) => choose(file, columns, header, first, width)?,
            None => (0..width).collect(),
        };
        Ok(Self { width, said_by, closed, chosen })
    }

    /// Appends the numbers of a record to `values`.
    fn read(&self, file: File<'_>, record: &Record, values: &mut Vec<f32>) -> Result<()> {
        let Self { width, said_by, closed, chosen } = self;
        let (len, width) = (record.len() - usize::from(*closed), *width);
        if len != width {
            let expected = format!("{width} columns, as in {said_by}");
            return Err(file.fail(line_at(file.bytes, record.start), len.min(width) + 1, expected, len.to_string()));
        }
        let before = values.len();
        let memory = |_| Error::HostMemory { op: "Table::read_csv", elements: (before + chosen.len()) as u64 };
        values.try_reserve(chosen.len()).map_err(memory)?;
        let mut dropped = false;
        for &column in chosen {
            let Ok(text) = std::str::from_utf8(record.field(column)) else {
                return Err(file.fail_at(record, column, "UTF-8 text", "other bytes"));
            };
            let field = text.trim();
            let number = number(field, file.options);
            let value = match (file.options.is_missing(field), file.options.missing) {
                (false, _) => number,
                (true, Missing::Value(value)) => Ok(value),
                (true, Missing::Error) => number.and(Err("a finite number that does not count as missing")),
                (true, Missing::DropRow) => {
                    dropped = true;
                    continue;
                }
            };
            values.push(value.map_err(|expected| file.fail_at(record, column, expected, format!("{text:?}")))?);
        }
        if dropped {
            values.truncate(before);
        }
        Ok(())
    }
}

/// Whether all lines end with a delimiter that starts no column. Reads the file once more, but only
/// if the first row ends with a delimiter.
fn closed(file: File<'_>, header: Option<&Record>, first: &Record) -> Result<bool> {
    let fits = |header: &Record| header.ends_with_delimiter() || header.len() + 1 == first.len();
    if !first.ends_with_delimiter() || !header.is_none_or(fits) {
        return Ok(false);
    }
    let mut records = Records::new(file)?;
    if header.is_some() {
        records.next()?;
    }
    while records.next()? {
        if !records.record.ends_with_delimiter() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The indices of the requested columns.
fn choose(
    file: File<'_>,
    columns: &[Column],
    header: Option<&Record>,
    first: &Record,
    width: usize,
) -> Result<Vec<usize>> {
    let mut places: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (header, place) in header.iter().flat_map(|header| (0..width).map(move |place| (header, place))) {
        places.entry(header.field(place).trim_ascii()).or_default().push(place);
    }
    let nothing = Record::default();
    let header = header.unwrap_or(&nothing);
    let place = |column: &Column| match column {
        Column::Index(index) if *index < width => Ok(*index),
        Column::Index(index) => {
            let expected = format!("a column of index {index}, counted from 0, as the options ask for");
            Err(file.fail(line_at(file.bytes, first.start), width, expected, format!("{width} columns")))
        }
        Column::Name(name) => match places.get(name.as_bytes()).map(Vec::as_slice) {
            Some([place]) => Ok(*place),
            Some([place, again, ..]) => {
                let got = format!("the name of column {} again", place + 1);
                Err(file.fail_at(header, *again, format!("{name:?} as the name of one column"), got))
            }
            _ => {
                let names = (0..width).map(|place| String::from_utf8_lossy(header.field(place).trim_ascii()));
                let names: Vec<_> = names.collect();
                let got = few(names.iter().map(|name| &**name));
                Err(file.fail_at(header, 0, format!("a column {name:?}, as the options ask for"), got))
            }
        },
    };
    columns.iter().map(place).collect()
}
