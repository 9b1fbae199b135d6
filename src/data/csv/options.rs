//! Options for reading tables from CSV files.

use crate::error::{Error, Result};

/// How a CSV file is read ([`Table::read_csv_with`](super::super::Table::read_csv_with)). The
/// default is a file of numbers only, separated by commas.
#[derive(Clone, Debug, PartialEq)]
pub struct CsvOptions {
    /// The number of lines to skip at the beginning. Blank lines count; a line break within quotes
    /// does not end a line.
    pub skip: usize,
    /// Whether the next line contains the names of the columns.
    pub header: bool,
    /// The delimiter between the fields of a line: `b','`, `b';'`, `b'\t'`, `b'|'`. With `b' '`,
    /// consecutive spaces are one delimiter, and spaces at either end of a line are ignored, so
    /// that a table may be aligned with spaces.
    pub delimiter: u8,
    /// The columns to read, in the order of the table; `None` reads all. The contents of other
    /// columns do not matter.
    pub columns: Option<Vec<Column>>,
    /// How missing values are handled.
    pub missing: Missing,
    /// The fields that count as missing values, without the blanks around them; case does not
    /// matter. By default `""`, `"NA"`, `"NaN"` and `"?"`.
    pub missing_spellings: Vec<String>,
    /// The separator between groups of three digits, such as `','` in `"1,234,567.8"`; with `None`
    /// such numbers are errors.
    pub thousands: Option<char>,
    /// Whether integers that `f32` cannot represent, such as 16777217, are rounded to the nearest
    /// `f32`. Otherwise they are errors, because two identifiers could become one. (16777217.0
    /// counts as an integer, too. Fractions and numbers with an exponent are always rounded.)
    pub allow_rounding: bool,
}

/// A column of a CSV file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Column {
    /// By its index, from 0.
    Index(usize),
    /// By its name in the header, without the blanks around it.
    Name(String),
}

impl From<usize> for Column {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl From<&str> for Column {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

/// How missing values are handled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Missing {
    /// They are errors.
    #[default]
    Error,
    /// They are replaced by this number; NaN and infinity are allowed.
    Value(f32),
    /// Rows that contain one are dropped.
    DropRow,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            skip: 0,
            header: false,
            delimiter: b',',
            columns: None,
            missing: Missing::Error,
            missing_spellings: ["", "NA", "NaN", "?"].map(str::to_owned).to_vec(),
            thousands: None,
            allow_rounding: false,
        }
    }
}

impl CsvOptions {
    /// Rejects options that no file can satisfy.
    pub(super) fn validate(&self) -> Result<()> {
        let fail = |what, expected: &str, got: String| Err(Error::value("Table::read_csv", what, expected, got));
        if !self.delimiter.is_ascii() || b"\"\r\n".contains(&self.delimiter) {
            let got = format!("{:?}", char::from(self.delimiter));
            return fail("the delimiter", "an ASCII character other than a quote or a line end", got);
        }
        if let Some(c) = self.thousands.filter(|&c| c.is_alphanumeric() || "+-.".contains(c)) {
            return fail("the thousands separator", "no letter, digit, sign or point", format!("{c:?}"));
        }
        match &self.columns {
            Some(columns) if columns.is_empty() => fail("the number of columns", "at least 1", "0".to_owned()),
            Some(columns) if !self.header => match columns.iter().find(|c| matches!(c, Column::Name(_))) {
                Some(Column::Name(name)) => fail("the columns", "indices without a header", format!("{name:?}")),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Whether a field, without the blanks around it, is a missing value.
    pub(super) fn is_missing(&self, field: &str) -> bool {
        self.missing_spellings.iter().any(|spelling| spelling.eq_ignore_ascii_case(field))
    }
}
