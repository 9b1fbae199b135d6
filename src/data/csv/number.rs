//! Parses the numbers in CSV fields.

use std::borrow::Cow;

use super::CsvOptions;

/// Parses a field without blanks around it. The error names the expected kind of number.
pub(super) fn number(field: &str, options: &CsvOptions) -> Result<f32, &'static str> {
    let Some(plain) = ungrouped(field, options.thousands) else { return Err(instead(field, options.thousands)) };
    match plain.parse::<f32>() {
        Ok(value) if value.is_finite() => {
            if options.allow_rounding || holds(value, &plain) {
                Ok(value)
            } else {
                Err("an integer that f32 holds (CsvOptions::allow_rounding takes the nearest)")
            }
        }
        Ok(_) if plain.bytes().any(|byte| byte.is_ascii_digit()) => Err("a finite number in the range of f32"),
        _ => Err(instead(field, options.thousands)),
    }
}

/// Returns the text of an error: what was expected in place of a field that is not a number.
fn instead(field: &str, thousands: Option<char>) -> &'static str {
    let Some((whole, fraction)) = field.split_once(',') else { return "a finite number" };
    if thousands.is_none() && ungrouped(field, Some(',')).is_some_and(|plain| plain.parse::<f32>().is_ok()) {
        return "a finite number without a decimal comma or thousands separators (CsvOptions::thousands takes those)";
    }
    // With a decimal point instead of the comma, the field would be a number.
    let digit = fraction.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
    if digit && format!("{whole}.{fraction}").parse::<f32>().is_ok() {
        "a finite number with a decimal point, not a decimal comma"
    } else {
        "a finite number"
    }
}

/// Removes the thousands separators. `None` if they are anywhere but between groups of three digits
/// of the integer part.
fn ungrouped(field: &str, thousands: Option<char>) -> Option<Cow<'_, str>> {
    let Some(separator) = thousands.filter(|&separator| field.contains(separator)) else { return Some(field.into()) };
    let (integer, rest) = field.split_at_checked(field.find(['.', 'e', 'E']).unwrap_or(field.len()))?;
    let digits = integer.trim_start_matches(['+', '-']);
    let grouped = digits.split(separator).enumerate().all(|(i, group)| {
        let fits = if i == 0 { (1..=3).contains(&group.len()) } else { group.len() == 3 };
        fits && group.bytes().all(|byte| byte.is_ascii_digit())
    });
    (grouped && !rest.contains(separator)).then(|| integer.replace(separator, "") + rest).map(Cow::Owned)
}

/// Whether a number is not an integer, or is an integer equal to `value`, its nearest `f32`.
fn holds(value: f32, plain: &str) -> bool {
    /// `f32` represents all integers up to this one.
    const EXACT: f32 = (1 << f32::MANTISSA_DIGITS) as f32;
    if value.abs() < EXACT {
        return true;
    }
    let digits = plain.trim_start_matches(['+', '-']);
    let (integer, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if !fraction.bytes().all(|byte| byte == b'0') {
        return true;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an integer from 2^24 to 2^128")]
    let rounded = value.abs() as u128;
    // Only a number with an exponent fails to parse here; it may be rounded.
    integer.parse::<u128>().map_or(true, |exact| exact == rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(field: &str, thousands: Option<char>) -> Result<f32, &'static str> {
        number(field, &CsvOptions { thousands, ..CsvOptions::default() })
    }

    #[test]
    fn numbers_in_their_spellings() {
        for (field, want) in [
            ("1", 1.0),
            ("+1", 1.0),
            ("-0", -0.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e5", 1e5),
            ("1E-45", 1e-45),
            ("1e-60", 0.0),
            ("0.1", 0.1),
            ("007", 7.0),
        ] {
            assert_eq!(read(field, None).map(f32::to_bits), Ok(f32::to_bits(want)), "{field}");
        }
        for field in
            ["", "x", "inf", "-Infinity", "nan", "0x1F", "1_000", "1 000", "--1", "1e", "1,2,3", ",", "1,", ",e5", "١"]
        {
            assert_eq!(read(field, None), Err("a finite number"), "{field}");
        }
        assert_eq!(read("-1e39", None), Err("a finite number in the range of f32"));
        for field in ["1,5", "-1,25", "+0,5e-3", ",5", "1234,567", "12345,678"] {
            assert!(read(field, None).is_err_and(|expected| expected.contains("decimal point, not")), "{field}");
        }
        for field in ["1,234", "-12,345,678.9", "1,000e3"] {
            assert!(read(field, None).is_err_and(|expected| expected.contains("CsvOptions::thousands")), "{field}");
        }
    }

    #[test]
    fn separators_between_groups_of_three() {
        for (field, want) in [
            ("1,234", 1234.0),
            ("-12,345", -12345.0),
            ("1,234,567.5", 1_234_567.5),
            ("+123,456e-3", 123.456),
            ("12", 12.0),
            ("1234", 1234.0),
            ("0.5", 0.5),
        ] {
            assert_eq!(read(field, Some(',')), Ok(want), "{field}");
        }
        assert_eq!((read("1'000'000", Some('\'')), read("1\u{202f}000", Some('\u{202f}'))), (Ok(1e6), Ok(1e3)));
        for field in
            ["1,5", "1234,567", "1,23,456", ",123", "1,", "1,2345", "1,234.5,678", "1.5,678", "1,23x", "1e1,000", ","]
        {
            assert!(read(field, Some(',')).is_err(), "{field}");
        }
        assert!(read("12,5", Some(',')).is_err_and(|expected| expected.contains("not a decimal comma")));
    }

    /// By definition: an integer is exact if it survives the conversion to `f32` and back to
    /// `i128`.
    #[test]
    fn integers_survive_or_are_refused() {
        let mut rng = fastrand::Rng::with_seed(1);
        let edges = [
            1i128 << 24,
            (1 << 24) + 1,
            (1 << 24) + 2,
            33_554_433,
            33_554_434,
            i128::from(u64::MAX),
            1 << 100,
            10i128.pow(38),
        ];
        let random = std::iter::repeat_with(|| rng.i128(-(1 << 100)..1 << 100) >> rng.u32(0..96)).take(2000);
        for integer in edges.into_iter().chain(edges.map(|edge| -edge)).chain(random) {
            let field = integer.to_string();
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                reason = "the test is whether the conversion is exact"
            )]
            let exact = integer as f32 as i128 == integer;
            for field in [field.clone(), format!("{field}.0"), format!("{field}.")] {
                assert_eq!(read(&field, None).is_ok(), exact, "{field}");
                let rounded = number(&field, &CsvOptions { allow_rounding: true, ..CsvOptions::default() });
                #[expect(clippy::cast_precision_loss, reason = "rounding is allowed")]
                let nearest = integer as f32;
                assert_eq!(rounded, Ok(nearest), "{field}");
            }
        }
        for field in ["16777217.5", "1.6777217e7", "16777217e0", "1e30", "-16777216.25"] {
            assert!(read(field, None).is_ok(), "{field}");
        }
        assert!(read("16,777,217", Some(',')).is_err_and(|expected| expected.contains("allow_rounding")));
    }
}
