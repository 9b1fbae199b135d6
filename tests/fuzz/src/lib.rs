//! Properties that hold for a file of any bytes. The fuzz targets search for violations;
//! `tests/it/fuzz_corpus.rs` runs the kept inputs.

use std::path::PathBuf;

use xent::data::{Column, CsvOptions, Missing, Table};
use xent::state::State;
use xent::{Error, f16};

/// Loads bytes as safetensors, and once more with the header's length corrected. Returns whether
/// the unchanged bytes were accepted.
///
/// # Panics
/// If the loader accepts an incomplete file, if a state changes when it is saved and loaded, or if
/// the loader returns an undocumented error.
pub fn state(bytes: &[u8]) -> bool {
    if let Some(end) = bytes.iter().rposition(|&byte| byte == b'}').filter(|&end| end >= 8) {
        let length = (end as u64 - 7).to_le_bytes();
        state_as_it_is(&[&length, &bytes[8..]].concat());
    }
    state_as_it_is(bytes)
}

fn state_as_it_is(bytes: &[u8]) -> bool {
    let (path, _directory) = file(bytes);
    let (state, loaded) = match (State::from_bytes(bytes), State::load(&path)) {
        (Ok(state), Ok(loaded)) => (state, loaded),
        (Err(Error::Format { .. }), Err(Error::Format { path: named, .. })) => {
            assert_eq!(named, path);
            return false;
        }
        (from_bytes, from_file) => panic!("{from_bytes:?} from memory, {from_file:?} from a file"),
    };
    let again = State::from_bytes(&state.to_bytes().expect("what was read can be written")).expect("and read again");
    for other in [&loaded, &again] {
        assert!(state.names().eq(other.names()));
        for name in state.names() {
            assert_eq!(state.dtype(name), other.dtype(name));
            let (Some((shape, values)), Some((other_shape, others))) = (state.get(name), other.get(name)) else {
                assert!(state.get(name).is_none() && other.get(name).is_none(), "{name} is of real numbers for one");
                continue;
            };
            assert_eq!(shape.iter().fold(1, |len: usize, &dim| len.wrapping_mul(dim)), values.len(), "{name} is whole");
            assert_eq!(shape, other_shape);
            assert!(values.iter().map(|v| v.to_bits()).eq(others.iter().map(|v| v.to_bits())), "{name} is the same");
            let halves = state.require_as::<f16>(name, shape).expect("real numbers");
            for (value, half) in values.iter().zip(&*halves) {
                // Rounding twice, through `f32`, differs by at most one unit in the last place.
                let near = f16::from_f32(*value);
                let steps = near.to_bits().abs_diff(half.to_bits());
                assert!(steps <= 1 || (near.is_nan() && half.is_nan()), "{value} is {half}");
            }
        }
    }
    let names: Vec<String> = state.names().map(str::to_owned).collect();
    let mut renamed = state.clone();
    renamed.rename(|name| format!("model.{name}")).expect("names that differ");
    assert!(renamed.split_off("model.").names().eq(names.iter().map(String::as_str)));
    true
}

/// Reads bytes as a table of numbers; the first byte is the number of lines to skip. Returns
/// whether the rest is such a table.
///
/// # Panics
/// If the table is not rectangular or not finite, an error points outside the file, or, for a file
/// without quotes, the result differs from splitting at lines and commas. Tries other options, too.
pub fn csv(bytes: &[u8]) -> bool {
    let (skip, text) = bytes.split_first().map_or((0, bytes), |(&skip, text)| (usize::from(skip), text));
    let (path, _directory) = file(text);
    let options = CsvOptions { skip, ..CsvOptions::default() };
    let result = table(text, &options);
    match (Table::read_csv(&path, skip), &result) {
        (Ok(table), Ok((columns, values))) => {
            assert!(table.columns() == *columns && table.values() == values);
            assert!(table.values().iter().all(|value| value.is_finite()));
        }
        (Err(Error::Csv { path: named, line, column, .. }), Err(place)) => {
            assert_eq!((&path, place), (&named, &(line, column)));
        }
        (from_file, from_bytes) => panic!("{from_file:?} from a file, {from_bytes:?} from memory"),
    }
    if let Some(plain) = plain(skip, text) {
        match (&result, plain) {
            (Ok((columns, values)), Ok((plain_columns, plain_values))) => {
                assert_eq!(*columns, plain_columns);
                assert!(values.iter().map(|v| v.to_bits()).eq(plain_values.iter().map(|v| v.to_bits())));
            }
            (Err(place), Err(plain_place)) => assert_eq!(*place, plain_place),
            (result, plain) => panic!("{result:?}, plainly {plain:?}"),
        }
    }
    if !text.contains(&b'\r') {
        for end in [&b"\r"[..], b"\r\n"] {
            let same = table(&text.split(|&byte| byte == b'\n').collect::<Vec<_>>().join(end), &options);
            assert_eq!(same, result, "with {end:?} at the ends of lines");
        }
    }
    let zero = CsvOptions { missing: Missing::Value(0.0), allow_rounding: true, ..options.clone() };
    let filled = table(text, &zero);
    let dropping = CsvOptions { missing: Missing::DropRow, allow_rounding: true, ..options.clone() };
    match (&result, table(text, &dropping), filled) {
        // A table that is valid without these options reads the same with them.
        (Ok(strict), dropped, filled) => assert!(dropped.as_ref() == Ok(strict) && filled.as_ref() == Ok(strict)),
        (Err(_), Ok(dropped), filled) => {
            let (columns, values) = filled.expect("it has the same rows and more");
            assert!(columns == dropped.0 && values.len() >= dropped.1.len());
        }
        (Err(_), Err(_), _) => {}
    }
    for delimiter in [b' ', b';', b'\t'] {
        let columns = Some(vec![Column::Index(skip), Column::Index(0)]);
        let _ = table(text, &CsvOptions { delimiter, columns, thousands: Some(','), ..zero.clone() });
        let columns = Some(vec!["a".into()]);
        let _ = table(text, &CsvOptions { delimiter, header: true, columns, ..dropping.clone() });
    }
    result.is_ok()
}

/// Returns a table's number of columns and its values, or the line and column that an error names.
fn table(text: &[u8], options: &CsvOptions) -> Plain {
    match Table::from_csv(text, options) {
        Ok(table) => {
            assert!(table.columns() > 0 && table.rows() > 0);
            assert_eq!(table.values().len(), table.rows() * table.columns());
            Ok((table.columns(), table.values().to_vec()))
        }
        Err(Error::Csv { line, column, .. }) => {
            let lines = 1 + text.iter().filter(|byte| b"\r\n".contains(byte)).count() as u64;
            assert!((1..=lines).contains(&line) && column > 0, "line {line} of {lines}, column {column}");
            Err((line, column))
        }
        Err(other) => panic!("{other}"),
    }
}

/// The number of columns and the values, or the line and column of the first error.
type Plain = Result<(usize, Vec<f32>), (u64, usize)>;

/// Splits a file at lines and commas. `None` if it has quotes, carriage returns or anything but
/// ASCII.
fn plain(skip: usize, text: &[u8]) -> Option<Plain> {
    if !text.is_ascii() || text.contains(&b'"') || text.contains(&b'\r') {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let rows = (1..).zip(text.split('\n')).skip(skip);
    // A line of ASCII white space is blank.
    let rows = rows.filter(|(_, row)| row.contains(',') || !row.as_bytes().trim_ascii().is_empty());
    let mut rows: Vec<(u64, Vec<&str>)> = rows.map(|(line, row)| (line, row.split(',').collect())).collect();
    let closed =
        |fields: &[&str]| fields.len() > 1 && fields.last().is_some_and(|last| last.as_bytes().trim_ascii().is_empty());
    if rows.iter().all(|(_, fields)| closed(fields)) {
        rows.iter_mut().for_each(|(_, fields)| fields.truncate(fields.len() - 1));
    }
    let columns = rows.first().map_or(0, |(_, fields)| fields.len());
    let mut values = Vec::new();
    for (line, fields) in rows {
        if fields.len() != columns {
            return Some(Err((line, fields.len().min(columns) + 1)));
        }
        for (column, field) in (1..).zip(fields) {
            match field.trim().parse::<f32>() {
                Ok(value) if value.is_finite() && held(value, field.trim()) => values.push(value),
                _ => return Some(Err((line, column))),
            }
        }
    }
    Some(if columns > 0 { Ok((columns, values)) } else { Err((1, 1)) })
}

/// Whether `field` is not an integer, or `value` equals it exactly.
fn held(value: f32, field: &str) -> bool {
    let digits = field.trim_start_matches(['+', '-']);
    let digits = digits.split_once('.').map_or(digits, |(integer, fraction)| match fraction.trim_matches('0') {
        "" => integer,
        _ => "no integer",
    });
    let said = digits.trim_start_matches('0');
    !said.bytes().all(|byte| byte.is_ascii_digit()) || said.is_empty() || format!("{:.0}", value.abs()) == said
}

/// Writes bytes to a file, which exists until the returned directory is dropped.
fn file(bytes: &[u8]) -> (PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let path = directory.path().join("file");
    std::fs::write(&path, bytes).expect("room for a small file");
    (path, directory)
}
