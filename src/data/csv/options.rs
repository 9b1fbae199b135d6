//! What tables in CSV files may look like.

use crate::error::{Error, Result};

/// How a CSV file is read ([`Table::read_csv_with`](super::super::Table::read_csv_with)). The default is a file of numbers alone, with commas
/// between them.
#[derive(Clone, Debug, PartialEq)]
pub struct CsvOptions {
    /// How many lines at the beginning are not looked at. Blank lines count; a line break within quotes ends no line.
    pub skip: usize,
    /// Whether the next line has the columns' names.
    pub header: bool,
    /// What separates the fields of a line: `b','`, `b';'`, `b'\t'`, `b'|'`. With `b' '` several in a row are one, and those at either end
    /// of a line none, so that a table may be aligned with spaces.
    pub delimiter: u8,
    /// The columns to read, in the order of the table; `None` is all. What is in the others does not matter.
    pub columns: Option<Vec<Column>>,
    /// What becomes of missing values.
    pub missing: Missing,
    /// The fields that are missing values, without the blanks around them; upper and lower case are the same. By default `""`, `"NA"`,
    /// `"NaN"` and `"?"`.
    pub missing_spellings: Vec<String>,
    /// What groups the digits of large numbers by three, such as `','` in `"1,234,567.8"`; `None` refuses such numbers.
    pub thousands: Option<char>,
    /// Whether integers that `f32` does not hold, such as 16777217, become the nearest that it does. Otherwise they are errors, because two
    /// identifiers could become one. (16777217.0 counts as an integer, too. Fractions and numbers with an exponent are rounded anyway.)
    pub allow_rounding: bool,
}

/// A column of a CSV file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Column {
    /// By its place, from 0.
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

/// What becomes of missing values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Missing {
    /// They are errors.
    #[default]
    Error,
    /// They become this number; NaN and infinity are fine.
    Value(f32),
    /// The rows that have one are left out.
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
    /// Checks what no file could fit.
    pub(super) fn validate(&self) -> Result<()> {
        let fail = |what, expected: &str, got: String| {
            Err(Error::Value { op: "Table::read_csv", what, expected: expected.to_owned(), got })
        };
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
