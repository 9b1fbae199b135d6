//! Positions in a CSV file, for error messages.

/// Returns the line of a byte position, counted as editors count: from 1, with `\n`, `\r` or `\r\n`
/// as line ends. Scans everything before the position, so call it only when a message needs it.
pub(super) fn line_at(bytes: &[u8], at: usize) -> u64 {
    1 + line_ends(bytes, 0, at)
}

/// The number of lines that end between two positions.
pub(super) fn line_ends(bytes: &[u8], from: usize, to: usize) -> u64 {
    let next = bytes.iter().skip(from.saturating_add(1)).map(Some).chain([None]);
    let ends = bytes.iter().take(to).skip(from).zip(next);
    ends.filter(|(byte, next)| **byte == b'\n' || (**byte == b'\r' && *next != Some(&b'\n'))).count() as u64
}

/// Returns the position at which a field of a record begins, possibly some lines after the start of
/// the record.
pub(super) fn field_at(bytes: &[u8], record: usize, field: usize, delimiter: u8) -> usize {
    #[derive(Clone, Copy)]
    enum Inside {
        Start,
        Quotes,
        /// After a quote within quotes: the closing one, or the first of a doubled one.
        Quote,
        Text,
    }
    let (mut inside, mut left) = (Inside::Start, field);
    for (at, &byte) in bytes.iter().enumerate().skip(record) {
        if left == 0 {
            return at;
        }
        inside = match inside {
            Inside::Quotes if byte == b'"' => Inside::Quote,
            Inside::Quotes => Inside::Quotes,
            Inside::Start | Inside::Quote if byte == b'"' => Inside::Quotes,
            _ if byte == delimiter => {
                left -= 1;
                Inside::Start
            }
            _ => Inside::Text,
        };
    }
    bytes.len()
}
