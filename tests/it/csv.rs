//! Tables from CSV files as programs and people write them.

use xent::Error;
use xent::data::{Column, CsvOptions, Missing, Table};

fn rows(text: &str, options: &CsvOptions) -> Vec<Vec<f32>> {
    let table = Table::from_csv(text.as_bytes(), options).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    table.values().chunks(table.columns()).map(<[f32]>::to_vec).collect()
}

/// Returns the message of an error after the file's name.
fn error(text: &str, options: &CsvOptions) -> String {
    let error = Table::from_csv(text.as_bytes(), options).expect_err(text);
    assert!(matches!(error, Error::Csv { .. }), "{text:?}: {error:?}");
    error.to_string().strip_prefix("(in memory), ").expect("a place").to_owned()
}

fn named(columns: &[&str]) -> CsvOptions {
    let columns = Some(columns.iter().map(|&name| name.into()).collect());
    CsvOptions { header: true, columns, ..CsvOptions::default() }
}

const NUMBERS: [[f32; 2]; 2] = [[1.0, 2.0], [3.0, 4.0]];

#[test]
fn every_line_end_and_blank_lines() {
    let plain = CsvOptions::default();
    let header = CsvOptions { skip: 1, ..plain.clone() };
    for end in ["\n", "\r", "\r\n"] {
        let text = ["a,b", "1,2", "3,4", ""].join(end);
        assert_eq!(rows(&text, &header), NUMBERS, "{text:?}");
        assert_eq!(rows(text.trim_end(), &CsvOptions { header: true, ..plain.clone() }), NUMBERS, "{text:?}");
        let spaced = ["", " \t ", "1,2", "", "  ", "3,4", "", "   "].join(end);
        assert_eq!(rows(&spaced, &plain), NUMBERS, "{spaced:?}");
        // Blank lines count, among the skipped lines and in line numbers.
        let before = ["", "a,b", "1,2", "3,4"].join(end);
        assert_eq!(rows(&before, &CsvOptions { skip: 2, ..plain.clone() }), NUMBERS, "{before:?}");
        assert_eq!(rows(&before, &CsvOptions { skip: 3, ..plain.clone() }), [[3.0, 4.0]], "{before:?}");
        let three = ["a", "", "", "", "1"].join(end);
        assert_eq!(rows(&three, &CsvOptions { skip: 4, ..plain.clone() }), [[1.0]], "{three:?}");
        assert_eq!(rows(&three, &CsvOptions { skip: 2, ..plain.clone() }), [[1.0]], "{three:?}");
        let bad = ["", "1,2", " ", "", "3,x"].join(end);
        assert_eq!(error(&bad, &plain), "line 5, column 2: expected a finite number, got \"x\"", "{bad:?}");
    }
    let mixed = "\u{feff}1,2\r3,4\n5,6\r\n\r\r\n\n7,x";
    assert_eq!(error(mixed, &plain), "line 7, column 2: expected a finite number, got \"x\"");
    assert_eq!(rows("\u{feff}\r\n1,2\r\n3,4", &plain), NUMBERS);
    assert_eq!(rows("\u{feff}\n1,2\n3,4", &header), NUMBERS, "the mark is no line");
    assert!(error("1\n\u{feff}2\n", &plain).starts_with("line 2, column 1"), "nor anything elsewhere");
}

#[test]
fn line_breaks_in_quotes_end_no_line() {
    let text = "\"height\n(in \"\"m\"\")\",\"name,\r\nor not\"\n1,2\n3,4\n";
    let plain = CsvOptions::default();
    assert_eq!(rows(text, &CsvOptions { skip: 1, ..plain.clone() }), NUMBERS);
    assert_eq!(rows(text, &named(&["name,\r\nor not", "height\n(in \"m\")"])), [[2.0, 1.0], [4.0, 3.0]]);
    // The error names the line of the field, as an editor counts it.
    let text = "note,x\n\"two\nlines\",1\n\"and \"\"again\"\"\n\n\",y\n";
    let second = CsvOptions { skip: 1, columns: Some(vec![1.into()]), ..plain.clone() };
    assert_eq!(error(text, &second), "line 6, column 2: expected a finite number, got \"y\"");
    let text = "1,\"2\"\n\"3\",\"4\"";
    assert_eq!(rows(text, &plain), NUMBERS);
    assert_eq!(error("\"a\"b\"c,1\n2", &plain), "line 1, column 1: expected a finite number, got \"ab\\\"c\"");
}

/// An empty field in quotes counts, even between spaces.
#[test]
fn empty_fields_in_quotes_between_spaces() {
    let filled = CsvOptions { delimiter: b' ', missing: Missing::Value(-9.0), ..CsvOptions::default() };
    assert_eq!(rows("\"\" 1 2\n3  \"\" 4\n", &filled), [[-9.0, 1.0, 2.0], [3.0, -9.0, 4.0]]);
    assert_eq!(rows("  1 \"\"  3 \n4 \"\" 6", &filled), [[1.0, -9.0, 3.0], [4.0, -9.0, 6.0]]);
    let header = CsvOptions { header: true, ..filled };
    assert!(error("a b c\n1 \"\" 3 4\n", &header).starts_with("line 2"));
}

#[test]
fn any_delimiter() {
    let of = |delimiter: u8| CsvOptions { delimiter, ..CsvOptions::default() };
    for delimiter in [b';', b'\t', b'|', b' ', b':', b','] {
        let c = char::from(delimiter);
        assert_eq!(rows(&format!("1{c}2\n3{c}4\n"), &of(delimiter)), NUMBERS, "{c:?}");
        let bad = format!("1{c}2\n3{c}four\n");
        assert_eq!(error(&bad, &of(delimiter)), "line 2, column 2: expected a finite number, got \"four\"");
    }
    // Several spaces are one delimiter; several tabs are several.
    assert_eq!(rows("  1    2\n   \n 3 4  \n", &of(b' ')), NUMBERS);
    assert_eq!(error("  1    2\n   3  x\n", &of(b' ')), "line 2, column 2: expected a finite number, got \"x\"");
    assert_eq!(error("1\t\t2\n", &of(b'\t')), "line 1, column 2: expected a finite number, got \"\"");
    let dropping = CsvOptions { missing: Missing::DropRow, ..of(b'\t') };
    assert_eq!(rows("1\t2\n\t\n  \n3\t4\n", &dropping), NUMBERS);
    assert!(error("1;2\n", &of(b',')).contains("got \"1;2\""));
    for delimiter in [b'"', b'\n', b'\r', 0x80, 0xff] {
        let refused = Table::from_csv(b"1", &of(delimiter)).unwrap_err();
        assert!(matches!(refused, Error::Value { what: "the delimiter", .. }), "{delimiter}: {refused}");
    }
}

#[test]
fn missing_values() {
    let text = "1,2\n,NA\n3, nan\n?,5\n6,7\n";
    let of = |missing| CsvOptions { missing, ..CsvOptions::default() };
    assert_eq!(error(text, &of(Missing::Error)), "line 2, column 1: expected a finite number, got \"\"");
    assert_eq!(rows(text, &of(Missing::DropRow)), [[1.0, 2.0], [6.0, 7.0]]);
    let filled = [[1.0, 2.0], [-1.0, -1.0], [3.0, -1.0], [-1.0, 5.0], [6.0, 7.0]];
    assert_eq!(rows(text, &of(Missing::Value(-1.0))), filled);
    assert!(rows(text, &of(Missing::Value(f32::NAN)))[1].iter().all(|value| value.is_nan()));
    assert_eq!(error("?\n", &of(Missing::Error)), "line 1, column 1: expected a finite number, got \"?\"");
    assert_eq!(
        error("NA\nna\n", &of(Missing::DropRow)),
        "line 1, column 1: expected at least one row without missing values, got none"
    );

    // In a dropped row, a field that is not a number is still an error.
    for text in ["NA,x\n1,2\n", "x,NA\n1,2\n"] {
        assert!(error(text, &of(Missing::DropRow)).ends_with("expected a finite number, got \"x\""), "{text}");
    }
    // Quotes turn a line that would be blank into a missing value.
    assert_eq!(rows("1\n\"\"\n\n2\n", &of(Missing::Value(0.0))), [[1.0], [0.0], [2.0]]);

    // Only the given spellings are missing values, in either case, even if they are numbers.
    let spelt = CsvOptions { missing_spellings: vec!["-999".into(), "None".into()], ..of(Missing::Value(0.0)) };
    assert_eq!(rows("-999,NONE\n1,2\n", &spelt), [[0.0, 0.0], [1.0, 2.0]]);
    assert_eq!(error("1,NA\n", &spelt), "line 1, column 2: expected a finite number, got \"NA\"");
    let strict = CsvOptions { missing: Missing::Error, ..spelt };
    let message = "line 1, column 2: expected a finite number that does not count as missing, got \"-999\"";
    assert_eq!(error("1,-999\n", &strict), message);
}

#[test]
fn chosen_columns() {
    let text = "id, height ,name,weight\n1,1.5,Ada,60\n2,1.8,\"B, e\",70\n";
    assert_eq!(rows(text, &named(&["weight", "height"])), [[60.0, 1.5], [70.0, 1.8]]);
    let by_index = |columns: &[usize], header| {
        let columns = Some(columns.iter().map(|&index| index.into()).collect());
        CsvOptions { header, skip: usize::from(!header), columns, ..CsvOptions::default() }
    };
    for header in [true, false] {
        assert_eq!(rows(text, &by_index(&[3, 0, 3], header)), [[60.0, 1.0, 60.0], [70.0, 2.0, 70.0]]);
    }
    let mixed = CsvOptions { columns: Some(vec![Column::Index(3), Column::Name("id".into())]), ..named(&[]) };
    assert_eq!(rows(text, &mixed), [[60.0, 1.0], [70.0, 2.0]]);
    // Errors name the column in the file, not in the table.
    assert_eq!(error(text, &named(&["weight", "name"])), "line 2, column 3: expected a finite number, got \"Ada\"");
    // A field that is not chosen may be empty, not text, or too large, but it has to exist.
    let bytes = b"a,b,c\n1,\xff,99999999\n2,,\n";
    assert_eq!(Table::from_csv(bytes, &named(&["a"])).unwrap().values(), [1.0, 2.0]);
    let missing = Table::from_csv(bytes, &named(&["b"])).unwrap_err().to_string();
    assert!(missing.ends_with("line 2, column 2: expected UTF-8 text, got other bytes"), "{missing}");
    assert_eq!(error("a,b\n1\n", &named(&["a"])), "line 2, column 2: expected 2 columns, as in the header, got 1");

    let text = "\n a,b,a\n1,2,3\n";
    let message = "line 2, column 1: expected a column \"d\", as the options ask for, got [\"a\", \"b\", \"a\"]";
    assert_eq!(error(text, &named(&["d"])), message);
    let message = "line 2, column 3: expected \"a\" as the name of one column, got the name of column 1 again";
    assert_eq!(error(text, &named(&["b", "a"])), message);
    assert_eq!(rows(text, &named(&["b"])), [[2.0]]);
    let message =
        "line 3, column 3: expected a column of index 3, counted from 0, as the options ask for, got 3 columns";
    assert_eq!(error(text, &by_index(&[3], true)), message);
    let many: Vec<String> = (0..3000).map(|i| format!("c{i}")).collect();
    let text = format!("{}\n{}\n", many.join(","), vec!["1"; 3000].join(","));
    assert!(error(&text, &named(&["c"])).ends_with("\"c7\"] and 2992 more"));

    for (options, what) in [
        (CsvOptions { columns: Some(vec![]), ..CsvOptions::default() }, "the number of columns"),
        (CsvOptions { header: false, ..named(&["a"]) }, "the columns"),
        (CsvOptions { thousands: Some('.'), ..CsvOptions::default() }, "the thousands separator"),
        (CsvOptions { thousands: Some('e'), ..CsvOptions::default() }, "the thousands separator"),
    ] {
        let refused = Table::from_csv(b"1\n2\n", &options).unwrap_err();
        assert!(matches!(refused, Error::Value { what: named, .. } if named == what), "{refused}");
    }
}

/// A last field that is empty in all lines is not a column; a last field that is empty in some
/// lines is a missing value there.
#[test]
fn delimiters_at_the_ends_of_lines() {
    let (plain, header) = (CsvOptions::default(), CsvOptions { header: true, ..CsvOptions::default() });
    assert_eq!(rows("1,2,\n3,4,\n", &plain), NUMBERS);
    assert_eq!(rows("1;2;  \r\n\r\n3;4;", &CsvOptions { delimiter: b';', ..plain.clone() }), NUMBERS);
    assert_eq!(rows("a,b,\n1,2,\n3,4,\n", &header), NUMBERS);
    assert_eq!(rows("a,b\n1,2,\n3,4,\n", &header), NUMBERS);
    assert_eq!(rows("a,b,\n1,2,\n3,4,\n", &CsvOptions { skip: 1, ..plain.clone() }), NUMBERS);
    assert_eq!(rows("a,b,\n1,2,\n3,4,\n", &named(&["b"])), [[2.0], [4.0]]);
    for (text, options, at) in [
        ("1,2,\n3,4,5\n", &plain, "line 1, column 3: expected a finite number, got \"\""),
        ("1,2,\n3,4\n", &plain, "line 1, column 3: expected a finite number, got \"\""),
        ("1,2\n3,4,\n", &plain, "line 2, column 3: expected 2 columns, as in the first row, got 3"),
        ("1,2,\n3,4,,\n", &plain, "line 2, column 3: expected 2 columns, as in the first row, got 3"),
        ("1,,\n", &plain, "line 1, column 2: expected a finite number, got \"\""),
        ("a,b,c\n1,2,\n3,4,\n", &header, "line 2, column 3: expected a finite number, got \"\""),
        ("a\n1,2,\n3,4,\n", &header, "line 2, column 2: expected 1 columns, as in the header, got 3"),
    ] {
        assert_eq!(error(text, options), at, "{text:?}");
    }
    let filled = CsvOptions { missing: Missing::Value(0.0), ..plain };
    assert_eq!(rows("1,2,\n3,4,5\n", &filled), [[1.0, 2.0, 0.0], [3.0, 4.0, 5.0]]);
    assert_eq!(rows("a,b,c\n1,2,\n3,4,\n", &CsvOptions { header: true, ..filled }), [[1.0, 2.0, 0.0], [3.0, 4.0, 0.0]]);
}

#[test]
fn numbers_that_are_no_plain_f32() {
    let plain = CsvOptions::default();
    let integer = "expected an integer that f32 holds (CsvOptions::allow_rounding takes the nearest)";
    assert_eq!(
        error("id,x\n1,2\n3,16777217\n", &CsvOptions { skip: 1, ..plain.clone() }),
        format!("line 3, column 2: {integer}, got \"16777217\"")
    );
    let rounding = CsvOptions { allow_rounding: true, ..plain.clone() };
    assert_eq!(rows("16777217,-123456789.0\n", &rounding), [[16_777_216.0, -123_456_792.0]]);
    assert_eq!(rows("16777218,0.1,123456.789\n", &plain), [[16_777_218.0, 0.1, 123_456.79]]);

    let grouped = CsvOptions { thousands: Some(','), ..plain.clone() };
    assert_eq!(rows("\"1,234\",\"-12,345.5\",7\n", &grouped), [[1234.0, -12345.5, 7.0]]);
    assert!(error("\"1,234\"\n", &plain).contains("CsvOptions::thousands"));
    assert!(error("\"33,554,433\"\n", &grouped).contains(integer));
    let semicolons = CsvOptions { delimiter: b';', ..plain.clone() };
    let message = "line 1, column 2: expected a finite number with a decimal point, not a decimal comma, got \"2,5\"";
    assert_eq!(error("1;2,5\n", &semicolons), message);
    for field in ["inf", "-Infinity", "1e39", "0x10", "1_000", "true", "1-2", "12:30"] {
        assert!(
            error(&format!("1,{field}\n"), &plain).starts_with("line 1, column 2: expected a finite number"),
            "{field}"
        );
    }
}

#[test]
fn files_without_rows() {
    let header = CsvOptions { header: true, ..CsvOptions::default() };
    for text in ["", "\n", "\u{feff}", "\r\n \r\n", "a,b\n", "a,b"] {
        assert_eq!(
            error(text, &header),
            "line 1, column 1: expected at least one row of numbers, got none",
            "{text:?}"
        );
        assert!(error(text, &CsvOptions { skip: 7, ..header.clone() }).ends_with("got none"));
    }
    assert!(error("", &named(&["a"])).ends_with("got none"));
    assert!(
        error("1,2\n3\n", &CsvOptions::default())
            .starts_with("line 2, column 2: expected 2 columns, as in the first row")
    );
}

/// Lines are counted only once, for the message, so an error in the last of many lines takes no
/// longer to report than to find.
#[test]
fn a_long_file_names_its_last_line() {
    let mut text = "0.5,\"1\"\r\n".repeat(200_000);
    assert_eq!(Table::from_csv(text.as_bytes(), &CsvOptions::default()).unwrap().rows(), 200_000);
    text.push_str("1,x\r\n");
    assert!(error(&text, &CsvOptions::default()).starts_with("line 200001, column 2"));
    let closed = "1,2,\n".repeat(100_000) + "1,2,3";
    assert_eq!(error(&closed, &CsvOptions::default()), "line 1, column 3: expected a finite number, got \"\"");
}
