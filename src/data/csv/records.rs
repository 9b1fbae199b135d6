//! The non-blank records of a CSV file.

use std::path::Path;

use csv::ByteRecord;

use super::CsvOptions;
use super::place::{field_at, line_at, line_ends};
use crate::error::{Error, Result};

/// A file and the options for reading it.
#[derive(Clone, Copy)]
pub(super) struct File<'a> {
    pub(super) path: &'a Path,
    pub(super) bytes: &'a [u8],
    pub(super) options: &'a CsvOptions,
}

impl File<'_> {
    pub(super) fn fail(&self, line: u64, column: usize, expected: impl Into<String>, got: impl Into<String>) -> Error {
        let (expected, got) = (expected.into(), got.into());
        Error::Csv { path: self.path.to_owned(), line, column, expected, got }
    }

    /// As `fail`, for a field of a record, counted from 0.
    pub(super) fn fail_at(
        &self,
        record: &Record,
        field: usize,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Error {
        let among_all = record.fields.get(field).copied().unwrap_or(0);
        let at = field_at(self.bytes, record.start, among_all, self.options.delimiter);
        self.fail(line_at(self.bytes, at), field.saturating_add(1), expected, got)
    }
}

/// A record and the position at which it begins.
#[derive(Clone, Default)]
pub(super) struct Record {
    bytes: ByteRecord,
    /// The indices of the fields that count. With spaces as delimiters, empty fields between spaces
    /// do not count unless they are quoted.
    fields: Vec<usize>,
    pub(super) start: usize,
}

impl Record {
    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn field(&self, field: usize) -> &[u8] {
        self.fields.get(field).and_then(|&field| self.bytes.get(field)).unwrap_or_default()
    }

    /// Whether only blanks follow the last delimiter.
    pub(super) fn ends_with_delimiter(&self) -> bool {
        self.len() > 1 && self.field(self.len() - 1).trim_ascii().is_empty()
    }
}

/// The non-blank records of a file, in order.
pub(super) struct Records<'a> {
    file: File<'a>,
    reader: csv::Reader<&'a [u8]>,
    /// The record read last.
    pub(super) record: Record,
    /// Whether the record was read while skipping lines, but lies after the skipped lines.
    waiting: bool,
}

impl<'a> Records<'a> {
    /// The records after the skipped lines.
    pub(super) fn new(file: File<'a>) -> Result<Self> {
        let mut builder = csv::ReaderBuilder::new();
        builder.has_headers(false).flexible(true).delimiter(file.options.delimiter);
        let reader = builder.from_reader(file.bytes);
        let mut records = Self { file, reader, record: Record::default(), waiting: false };
        let mut left = file.options.skip;
        while left > 0 {
            let end = records.position();
            if !records.read()? {
                break;
            }
            // The reader passes over empty lines, but they count as skipped lines.
            let empty = line_ends(file.bytes, end, records.record.start);
            left = left.saturating_sub(usize::try_from(empty).unwrap_or(usize::MAX));
            records.waiting = left == 0;
            left = left.saturating_sub(1);
        }
        Ok(records)
    }

    /// Advances to the next record. Returns whether there is one.
    pub(super) fn next(&mut self) -> Result<bool> {
        loop {
            if !std::mem::take(&mut self.waiting) && !self.read()? {
                return Ok(false);
            }
            // A quoted field is a field even if it is empty.
            let quoted = self.file.bytes.get(self.record.start) == Some(&b'"');
            let blank = match self.record.len() {
                0 => true,
                1 => !quoted && self.record.field(0).trim_ascii().is_empty(),
                _ => false,
            };
            if !blank {
                return Ok(true);
            }
        }
    }

    fn read(&mut self) -> Result<bool> {
        let end = self.position();
        let Record { bytes, fields, start } = &mut self.record;
        let there = self.reader.read_byte_record(bytes);
        let there = there.map_err(|error| Error::File { path: self.file.path.to_owned(), source: error.into() })?;
        let gap = self.file.bytes.get(end..).unwrap_or_default();
        *start = end + gap.iter().take_while(|byte| b"\r\n".contains(byte)).count();
        fields.clear();
        // An empty field between two spaces counts only if it is quoted.
        let quoted = |field| {
            let at = field_at(self.file.bytes, *start, field, b' ');
            self.file.bytes.get(at) == Some(&b'"')
        };
        let counts = |&(i, field): &(usize, &[u8])| !field.is_empty() || quoted(i);
        match self.file.options.delimiter {
            b' ' => fields.extend(bytes.iter().enumerate().filter(counts).map(|(i, _)| i)),
            _ => fields.extend(0..bytes.len()),
        }
        Ok(there)
    }

    /// The position after the line read last.
    fn position(&self) -> usize {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        let bytes = self.file.bytes;
        let at = usize::try_from(self.reader.position().byte()).unwrap_or(usize::MAX);
        match at.checked_sub(1) {
            None if bytes.starts_with(MARK) => MARK.len(),
            // The reader stops between `\r` and `\n`, and counts the `\n` to the next line.
            Some(last) if bytes.get(last) == Some(&b'\r') && bytes.get(at) == Some(&b'\n') => at + 1,
            _ => at,
        }
    }
}
