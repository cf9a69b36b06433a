//! What a plain scalar stands for (YAML 1.2, core schema), and where the characters of a scalar stand in the file.

use std::ops::Range;

use granit_parser::ScalarStyle;
use serde_json::Value;

use crate::diag::Span;

/// What a plain scalar stands for.
#[derive(Debug, PartialEq)]
pub(super) enum Scalar {
    Value(Value),
    /// It is a number that JSON cannot hold; the reason.
    Refused(String),
}

/// Resolves a plain scalar by the core schema of YAML 1.2.
///
/// Only `true` and `false` are booleans; `yes`, `no`, `on`, `12:30:45` and `1_000` are strings. So is `007`: a number
/// with leading zeros is an identifier, and its zeros matter.
pub(super) fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Value(Value::Null),
        "true" | "True" | "TRUE" => return Scalar::Value(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Scalar::Value(Value::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Refused(format!("`{text}` is not a number that can be kept")),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(digits, ".inf" | ".Inf" | ".INF") {
        return Scalar::Refused(format!("`{text}` is not a number that can be kept"));
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(rest) = text.strip_prefix(prefix)
            && !rest.is_empty()
            && rest.chars().all(|c| c.is_digit(radix))
        {
            return u64::from_str_radix(rest, radix)
                .map_or_else(|_| too_large(text), |number| Scalar::Value(number.into()));
        }
    }
    if is_integer(digits) {
        if digits.len() > 1 && digits.starts_with('0') {
            return Scalar::Value(Value::String(text.to_owned()));
        }
        let plain = text.strip_prefix('+').unwrap_or(text);
        return if let Ok(number) = plain.parse::<u64>() {
            Scalar::Value(number.into())
        } else if let Ok(number) = plain.parse::<i64>() {
            Scalar::Value(number.into())
        } else {
            too_large(text)
        };
    }
    if is_float(digits) {
        if digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit() {
            return Scalar::Value(Value::String(text.to_owned()));
        }
        return match text.parse::<f64>().ok().filter(|float| float.is_finite()) {
            Some(float) if !is_kept(text, float) => Scalar::Refused(format!("the number `{}` {LOSES}", brief(text))),
            Some(float) => Scalar::Value(float.into()),
            None => Scalar::Refused(format!("the number `{text}` is too large to be kept")),
        };
    }
    Scalar::Value(Value::String(text.to_owned()))
}

fn too_large(text: &str) -> Scalar {
    Scalar::Refused(format!("the whole number `{}` does not fit into 64 bits", brief(text)))
}

fn brief(text: &str) -> &str {
    text.get(..40).unwrap_or(text)
}

/// What is said of a decimal number with too many digits.
pub(super) const LOSES: &str = "has more digits than can be kept";

/// Tells whether a decimal number is still the same when it has been made a float and written down again.
pub(super) fn is_kept(text: &str, float: f64) -> bool {
    decimal(text) == decimal(&format!("{float:e}"))
}

/// Takes a decimal number apart: its digits without the zeros around them, and the power of ten of the first.
fn decimal(text: &str) -> (String, i64) {
    let text = text.trim_start_matches(['-', '+']);
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return (String::new(), 0);
    }
    let zeros = digits.len() - significant.len();
    let length = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let exponent = exponent.trim_start_matches('+').parse::<i64>().unwrap_or(i64::MAX);
    let first = exponent.saturating_add(length(whole.len())).saturating_sub(length(zeros));
    (significant.trim_end_matches('0').to_owned(), first)
}

fn is_integer(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let whole = match mantissa.split_once('.') {
        Some(("", fraction)) => is_integer(fraction),
        Some((whole, fraction)) => is_integer(whole) && (fraction.is_empty() || is_integer(fraction)),
        None => is_integer(mantissa),
    };
    whole && exponent.is_none_or(|e| is_integer(e.strip_prefix(['-', '+']).unwrap_or(e)))
}

/// Finds the bytes in the file that a byte range of a decoded scalar comes from.
///
/// Decoding only ever drops white space, doubles of quotes and escapes; so the two texts are walked side by side.
/// White space is placed roughly, everything else exactly.
pub(super) fn inside(text: &str, span: Span, style: ScalarStyle, decoded: &str, range: Range<usize>) -> Option<Span> {
    let source = text.get(span.range())?;
    let mut at = match style {
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => 1,
        ScalarStyle::Literal | ScalarStyle::Folded if source.starts_with(['|', '>']) => source.find('\n')? + 1,
        ScalarStyle::Plain | ScalarStyle::Literal | ScalarStyle::Folded => 0,
    };
    let mut start = None;
    let mut end = span.start + at;
    for (offset, c) in decoded.char_indices() {
        if offset >= range.end && start.is_some() {
            break;
        }
        let (from, to) = find(source, at, c, style)?;
        at = to;
        if offset >= range.start && start.is_none() {
            start = Some(span.start + from);
        }
        end = span.start + to;
    }
    let start = start.unwrap_or(end);
    if range.is_empty() { Some(Span::new(start, 0)) } else { Some((start..end.max(start)).into()) }
}

/// Finds the next place where the source means the character `c`.
fn find(source: &str, mut at: usize, c: char, style: ScalarStyle) -> Option<(usize, usize)> {
    loop {
        let rest = source.get(at..)?;
        let Some(next) = rest.chars().next() else {
            // A line break that YAML adds at the end of a block is nowhere in the file.
            return c.is_whitespace().then_some((at, at));
        };
        let (means, len) = match (style, next) {
            (ScalarStyle::DoubleQuoted, '\\') => escape(rest)?,
            (ScalarStyle::SingleQuoted, '\'') if rest.starts_with("''") => (Some('\''), 2),
            _ => (Some(next), next.len_utf8()),
        };
        if means == Some(c) {
            return Some((at, at + len));
        }
        let white = means.is_none_or(char::is_whitespace);
        if c.is_whitespace() {
            // A folded line break: one blank stands for all the white space here.
            return Some(if white { (at, at + len) } else { (at, at) });
        }
        if !white {
            return None;
        }
        at += len;
    }
}

/// Returns what an escape means (an escaped line break means nothing) and how long it is.
fn escape(rest: &str) -> Option<(Option<char>, usize)> {
    let kind = rest[1..].chars().next()?;
    let hex = |digits: usize| {
        let code = u32::from_str_radix(rest.get(2..2 + digits)?, 16).ok()?;
        Some((code, 2 + digits))
    };
    let simple = |c: char| Some((Some(c), 1 + kind.len_utf8()));
    match kind {
        '0' => simple('\0'),
        'a' => simple('\u{7}'),
        'b' => simple('\u{8}'),
        't' | '\t' => simple('\t'),
        'n' => simple('\n'),
        'v' => simple('\u{b}'),
        'f' => simple('\u{c}'),
        'r' => simple('\r'),
        'e' => simple('\u{1b}'),
        'N' => simple('\u{85}'),
        '_' => simple('\u{a0}'),
        'L' => simple('\u{2028}'),
        'P' => simple('\u{2029}'),
        'x' => hex(2).map(|(code, len)| (char::from_u32(code), len)),
        'U' => hex(8).map(|(code, len)| (char::from_u32(code), len)),
        'u' => {
            let (code, len) = hex(4)?;
            if (0xD800..0xDC00).contains(&code) && rest.get(6..8) == Some("\\u") {
                let low = u32::from_str_radix(rest.get(8..12)?, 16).ok()?;
                let both = 0x10000 + ((code - 0xD800) << 10) + low.checked_sub(0xDC00)?;
                return Some((char::from_u32(both), 12));
            }
            Some((char::from_u32(code), len))
        }
        '\n' => Some((None, 2)),
        '\r' => Some((None, if rest[2..].starts_with('\n') { 3 } else { 2 })),
        other => simple(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn f05_plain_scalars_follow_yaml_1_2() {
        for (text, value) in [
            ("no", json!("no")),
            ("on", json!("on")),
            ("y", json!("y")),
            ("0o17", json!(15)),
            ("0x10", json!(16)),
            ("1_000", json!("1_000")),
            ("12:30:45", json!("12:30:45")),
            ("~", json!(null)),
            ("", json!(null)),
            ("null", json!(null)),
            ("True", json!(true)),
            ("tRUE", json!("tRUE")),
            ("007", json!("007")),
            ("00.5", json!("00.5")),
            ("0", json!(0)),
            ("-0", json!(0)),
            ("0.5", json!(0.5)),
            (".5", json!(0.5)),
            ("1.", json!(1.0)),
            ("1e3", json!(1000.0)),
            ("+12", json!(12)),
            ("-12", json!(-12)),
            ("9007199254740993", json!(9_007_199_254_740_993_u64)),
            ("18446744073709551615", json!(u64::MAX)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("2001-12-14", json!("2001-12-14")),
            ("-", json!("-")),
            ("+", json!("+")),
            (".", json!(".")),
            ("e3", json!("e3")),
            ("1e", json!("1e")),
            ("30s", json!("30s")),
            ("0x", json!("0x")),
            ("0b1", json!("0b1")),
        ] {
            assert_eq!(resolve(text), Scalar::Value(value), "{text}");
        }
    }

    #[test]
    fn f05_f06_numbers_that_json_cannot_hold_are_refused() {
        for text in [
            ".inf",
            "-.inf",
            "+.INF",
            ".nan",
            "1e400",
            "18446744073709551616",
            "-9223372036854775809",
            "0xfffffffffffffffff",
        ] {
            assert!(matches!(resolve(text), Scalar::Refused(_)), "{text}");
        }
    }

    fn shown<'a>(source: &'a str, style: ScalarStyle, decoded: &str, name: &str) -> &'a str {
        let start = decoded.find(name).expect("the decoded text has it");
        let span = inside(source, Span::new(0, source.len()), style, decoded, start..start + name.len());
        &source[span.expect("the source has it").range()]
    }

    #[test]
    fn names_are_found_through_quotes_escapes_and_folds() {
        let double = r#""a \"b\" \n\u00e4\x41 {{ steps.x }}""#;
        assert_eq!(shown(double, ScalarStyle::DoubleQuoted, "a \"b\" \näA {{ steps.x }}", "steps.x"), "steps.x");
        assert_eq!(shown(double, ScalarStyle::DoubleQuoted, "a \"b\" \näA {{ steps.x }}", "äA"), r"\u00e4\x41");
        assert_eq!(shown("'it''s {{ x }}'", ScalarStyle::SingleQuoted, "it's {{ x }}", "x"), "x");
        assert_eq!(shown("'it''s {{ x }}'", ScalarStyle::SingleQuoted, "it's {{ x }}", "'s"), "''s");
        let folded = "\"one\n    two \\\n    three\"";
        assert_eq!(shown(folded, ScalarStyle::DoubleQuoted, "one two three", "three"), "three");
        let literal = "|-\r\n    one\r\n      two\r\n\r\n    three";
        assert_eq!(shown(literal, ScalarStyle::Literal, "one\n  two\n\nthree", "three"), "three");
        assert_eq!(shown(literal, ScalarStyle::Literal, "one\n  two\n\nthree", "two"), "two");
        assert_eq!(shown("a\n  b", ScalarStyle::Plain, "a b", "b"), "b");
        assert_eq!(shown(r#""\uD83D\uDE00x""#, ScalarStyle::DoubleQuoted, "😀x", "x"), "x");
    }
}
