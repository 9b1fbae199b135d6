//! Specialises a shader for the values of its constants: decides branches that depend only on
//! constants, and unrolls marked loops.
//!
//! Drivers would do this too, but their early passes take time in proportion to the code they are
//! given. A loop is unrolled if it has one of these forms, where the bounds are made of constants
//! and numbers:
//!
//! ```wgsl
//! for (var r = 0u; r < ROWS; r++) { // unrolled
//! for (var stage = TEAM / 2u; stage > 0u; stage /= 2u) { // unrolled
//! ```
//!
//! Such loops are unrolled here because arrays with constant indices stay in registers, and few of
//! the compilers between WGSL and a GPU unroll by themselves. (With one loop over its sums not
//! unrolled, the product of two 4096 x 4096 matrices took 8.5 times as long on an H200.) A loop
//! marked `// unrolled if NAME` is unrolled if that constant is not 0.
//!
//! Shaders must write an `if` and its condition on one line, and start a line with every brace that
//! closes a block.

use std::collections::HashMap;
use std::fmt::Write as _;

/// What is known about the value of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Unknown,
    Bool(bool),
    Number(u32),
}

pub(super) type Constants = HashMap<String, Value>;

/// Adds the constants that the source declares, if their values follow from known ones.
pub(super) fn with_declared(mut known: Constants, source: &str) -> Constants {
    let declared: Vec<_> = source.lines().filter_map(declaration).collect();
    loop {
        let before = known.len();
        for &(name, expression) in &declared {
            let value = evaluate(expression, &known);
            if value != Value::Unknown {
                known.insert(name.to_owned(), value);
            }
        }
        if known.len() == before {
            return known;
        }
    }
}

/// The name and value of a line `const NAME: u32 = value;` or `const NAME: bool = value;`.
fn declaration(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.strip_prefix("const ")?.split_once(": ")?;
    let value = rest.strip_prefix("u32 = ").or_else(|| rest.strip_prefix("bool = "))?;
    Some((name, value.strip_suffix(';')?))
}

fn indent_of(line: &str) -> &str {
    line.strip_suffix(line.trim_start()).unwrap_or_default()
}

/// The lines before the brace that closes a block, and the lines from that brace on.
fn split_block<'l, 't>(lines: &'l [&'t str], indent: &str) -> (&'l [&'t str], &'l [&'t str]) {
    let closes = |line: &&str| line.strip_prefix(indent).is_some_and(|rest| rest.starts_with('}'));
    let end = lines.iter().position(closes).unwrap_or(lines.len());
    lines.split_at_checked(end).unwrap_or((lines, &[]))
}

/// Writes the lines of a block, specialised for the known constants, without the lines after an
/// `if` whose remaining branches all leave the block. Returns whether the block ends in a jump.
pub(super) fn write(text: &mut String, lines: &[&str], known: &Constants) -> bool {
    let own_indent = lines.first().map_or("", |line| indent_of(line));
    let mut rest = lines;
    let mut leaves = false;
    while let Some((&line, after)) = rest.split_first() {
        let indent = indent_of(line);
        rest = if let Some((name, values)) = marked_loop(line, known) {
            let (body, closing) = split_block(after, indent);
            for k in values {
                let mut known = known.clone();
                known.insert(name.to_owned(), Value::Number(k));
                let _ = writeln!(text, "{indent}{{\n{indent}const {name}: u32 = {k}u;");
                write(text, body, &known);
                let _ = writeln!(text, "{indent}}}");
            }
            closing.get(1..).unwrap_or_default()
        } else if let Some(condition) = condition(line) {
            let (later, unreachable) = write_branches(text, condition, after, indent, known);
            if unreachable {
                leaves |= indent == own_indent;
                let closes = |l: &&str| !l.trim().is_empty() && indent_of(l).len() < indent.len();
                later.iter().position(closes).and_then(|end| later.get(end..)).unwrap_or_default()
            } else {
                later
            }
        } else {
            let _ = writeln!(text, "{line}");
            leaves |= indent == own_indent && is_jump(line);
            after
        };
    }
    leaves
}

fn condition(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("if (")?.strip_suffix(") {")
}

fn is_jump(line: &str) -> bool {
    let word = line.trim().split([' ', ';']).next();
    word.is_some_and(|word| ["return", "break", "continue"].contains(&word))
}

/// Writes the branches of an `if` that can be taken. Returns the lines after it, and whether they
/// are unreachable.
fn write_branches<'l, 't>(
    text: &mut String,
    first: &str,
    lines: &'l [&'t str],
    indent: &str,
    known: &Constants,
) -> (&'l [&'t str], bool) {
    let mut rest = lines;
    let mut condition = Some(first.to_owned());
    let mut written = false;
    let mut decided = false;
    let mut all_leave = true;
    loop {
        let (body, closing) = split_block(rest, indent);
        let value = condition.as_deref().map_or(Value::Bool(true), |condition| evaluate(condition, known));
        let taken = !decided && value != Value::Bool(false);
        if taken {
            decided = value == Value::Bool(true);
            let head = match (written, decided, &condition) {
                (false, true, _) => "{".to_owned(),
                (true, true, _) => "} else {".to_owned(),
                (false, false, condition) => format!("if ({}) {{", condition.as_deref().unwrap_or_default()),
                (true, false, condition) => format!("}} else if ({}) {{", condition.as_deref().unwrap_or_default()),
            };
            let _ = writeln!(text, "{indent}{head}");
            all_leave &= write(text, body, known);
            written = true;
        }
        let unreachable = decided && all_leave;
        let Some((&close, after)) = closing.split_first() else { return (closing, unreachable) };
        rest = after;
        let close = close.trim();
        condition = match close.strip_prefix("} else if (").and_then(|condition| condition.strip_suffix(") {")) {
            Some(next) => Some(next.to_owned()),
            None if close == "} else {" => None,
            None => {
                if written {
                    let _ = writeln!(text, "{indent}}}");
                }
                return (rest, unreachable);
            }
        };
    }
}

/// The variable of a loop that must be unrolled, and its values.
fn marked_loop<'a>(line: &'a str, known: &Constants) -> Option<(&'a str, Vec<u32>)> {
    let number = |expression: &str| match evaluate(expression, known) {
        Value::Number(number) => Some(number),
        _ => None,
    };
    let (header, condition) = line.trim().split_once(") { // unrolled")?;
    if let Some(name) = condition.strip_prefix(" if ") {
        number(name).filter(|&value| value != 0)?;
    }
    let (name, rest) = header.strip_prefix("for (var ")?.split_once(" = ")?;
    let (first, rest) = rest.split_once("; ")?;
    let (condition, update) = rest.strip_prefix(name)?.split_once("; ")?;
    let values = match update.strip_prefix(name)? {
        "++" => (number(first)?..number(condition.strip_prefix(" < ")?)?).collect(),
        " /= 2u" if condition == " > 0u" => std::iter::successors(Some(number(first)?), |value| Some(value / 2))
            .take_while(|&value| value > 0)
            .collect(),
        _ => return None,
    };
    Some((name, values))
}

/// The value of an expression, if it follows from the known constants.
pub(super) fn evaluate(expression: &str, known: &Constants) -> Value {
    let mut parser = Parser { rest: expression, known };
    let value = parser.binary(0).unwrap_or(Value::Unknown);
    if parser.rest.trim().is_empty() { value } else { Value::Unknown }
}

/// Operators by precedence, the lowest first.
const OPERATORS: [&[&str]; 5] = [&["||"], &["&&"], &["==", "!=", "<=", ">=", "<", ">"], &["+", "-"], &["*", "/", "%"]];

struct Parser<'a> {
    rest: &'a str,
    known: &'a Constants,
}

impl<'a> Parser<'a> {
    fn takes(&mut self, token: &str) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Returns `None` if the text is not a supported expression.
    fn binary(&mut self, level: usize) -> Option<Value> {
        let Some(operators) = OPERATORS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some(operator) = operators.iter().find(|operator| self.takes(operator)) {
            let right = self.binary(level + 1)?;
            left = apply(operator, left, right);
        }
        Some(left)
    }

    fn unary(&mut self) -> Option<Value> {
        if self.takes("!") {
            return Some(match self.unary()? {
                Value::Bool(value) => Value::Bool(!value),
                Value::Number(_) | Value::Unknown => Value::Unknown,
            });
        }
        let mut value = self.primary()?;
        // Members and elements are unknown.
        loop {
            if self.rest.starts_with('.') {
                self.takes(".");
                self.word();
            } else if self.rest.starts_with('[') {
                self.arguments("[", "]")?;
            } else {
                return Some(value);
            }
            value = Value::Unknown;
        }
    }

    fn primary(&mut self) -> Option<Value> {
        if self.takes("(") {
            let value = self.binary(0)?;
            return self.takes(")").then_some(value);
        }
        self.rest = self.rest.trim_start();
        let word = self.word();
        if word.is_empty() {
            return None;
        }
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return Some(number(word));
        }
        if self.rest.starts_with('(') {
            let arguments = self.arguments("(", ")")?;
            return Some(match (word, &arguments[..]) {
                ("min", &[Value::Number(a), Value::Number(b)]) => Value::Number(a.min(b)),
                ("max", &[Value::Number(a), Value::Number(b)]) => Value::Number(a.max(b)),
                _ => Value::Unknown,
            });
        }
        Some(match word {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            name => self.known.get(name).copied().unwrap_or(Value::Unknown),
        })
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn arguments(&mut self, open: &str, close: &str) -> Option<Vec<Value>> {
        self.takes(open);
        let mut values = Vec::new();
        while !self.takes(close) {
            values.push(self.binary(0)?);
            self.takes(",");
        }
        Some(values)
    }
}

fn number(word: &str) -> Value {
    let digits = word.strip_suffix('u').unwrap_or(word);
    let number = match digits.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    number.map_or(Value::Unknown, Value::Number)
}

fn apply(operator: &str, left: Value, right: Value) -> Value {
    use Value::{Bool, Number, Unknown};
    match (operator, left, right) {
        ("||", Bool(true), _) | ("||", _, Bool(true)) => Bool(true),
        ("||", Bool(false), other) | ("||", other, Bool(false)) => other,
        ("&&", Bool(false), _) | ("&&", _, Bool(false)) => Bool(false),
        ("&&", Bool(true), other) | ("&&", other, Bool(true)) => other,
        ("==", Bool(a), Bool(b)) => Bool(a == b),
        ("!=", Bool(a), Bool(b)) => Bool(a != b),
        (_, Number(a), Number(b)) => match operator {
            "==" => Bool(a == b),
            "!=" => Bool(a != b),
            "<=" => Bool(a <= b),
            ">=" => Bool(a >= b),
            "<" => Bool(a < b),
            ">" => Bool(a > b),
            "+" => a.checked_add(b).map_or(Unknown, Number),
            "-" => a.checked_sub(b).map_or(Unknown, Number),
            "*" => a.checked_mul(b).map_or(Unknown, Number),
            "/" => a.checked_div(b).map_or(Unknown, Number),
            "%" => a.checked_rem(b).map_or(Unknown, Number),
            _ => Unknown,
        },
        _ => Unknown,
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/specialise.rs"]
mod tests;
