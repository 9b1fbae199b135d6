//! Branches are decided and loops written out as the module promises.

use super::*;

fn known() -> Constants {
    let values = [("A", Value::Number(2)), ("B", Value::Number(0)), ("YES", Value::Bool(true))];
    values.map(|(name, value)| (name.to_owned(), value)).into()
}

#[test]
fn conditions_are_decided_as_far_as_they_can_be() {
    for (expression, value) in [
        ("A == 2u", Value::Bool(true)),
        ("A == 1u || B > 0u", Value::Bool(false)),
        ("row.begin > 0u || !YES", Value::Unknown),
        ("B == 1u && row.begin[f(x, 1u)] > 0u", Value::Bool(false)),
        ("t < classes() || YES", Value::Bool(true)),
        ("(A + 3u) * 0x10u % 7u == 3u", Value::Bool(true)),
        ("A - 3u == 0u", Value::Unknown),
        ("is_nan(x) && (A != 2u || B != 0u)", Value::Bool(false)),
        ("-x < 1.0", Value::Unknown),
        ("max(A, 5u) / min(A, 3u)", Value::Number(2)),
        ("max(x, 5u) > 0u", Value::Unknown),
    ] {
        assert_eq!(evaluate(expression, &known()), value, "{expression}");
    }
}

#[test]
fn branches_are_decided_and_loops_written_out() {
    let source = "\
fn f() -> u32 {
    if (A == 1u) {
        a();
    } else if (x > 1u) {
        b();
    } else if (YES) {
        c();
    } else {
        d();
    }
    for (var k = 0u; k < A; k++) { // unrolled
        if (k % 2u == 1u) {
            e(k);
        }
    }
    for (var half = 3u * A / 2u; half > 0u; half /= 2u) { // unrolled
        i(half);
    }
    if (x > 2u) {
        return f(
            x,
        );
    } else if (B == 0u) {
        if (YES) {
            return 1u;
        }
        h();
    }

    return 2u;
}
fn g() {}";
    let mut text = String::new();
    write(&mut text, &source.lines().collect::<Vec<_>>(), &known());
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let want = [
        "fn f() -> u32 {",
        "if (x > 1u) {",
        "b();",
        "} else {",
        "c();",
        "}",
        "{",
        "const k: u32 = 0u;",
        "}",
        "{",
        "const k: u32 = 1u;",
        "{",
        "e(k);",
        "}",
        "}",
        "{",
        "const half: u32 = 3u;",
        "i(half);",
        "}",
        "{",
        "const half: u32 = 1u;",
        "i(half);",
        "}",
        "if (x > 2u) {",
        "return f(",
        "x,",
        ");",
        "} else {",
        "{",
        "return 1u;",
        "}",
        "}",
        "}",
        "fn g() {}",
    ];
    assert_eq!(lines, want);
}
