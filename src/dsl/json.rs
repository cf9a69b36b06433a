//! JSON input, read strictly: what could not be kept exactly, or could be read in two ways, is an error with its place.

use std::fmt;

use serde_json::{Map, Number, Value};

use super::resolve::{LOSES, is_kept};
use crate::limits::{Limits, raised_by};
use crate::teeth::{Bug, awake};

/// Levels of nesting that are never exceeded, whatever `--limit` says.
const NESTING_MAX: u64 = crate::payload::DEPTH_MAX as u64;

/// What is wrong with a JSON text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct JsonError {
    /// What is wrong.
    pub message: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
}

/// Reads one JSON document.
///
/// # Errors
/// When the text is no JSON, has something after it, gives a key twice, is nested too deeply, or has a number that
/// cannot be kept.
pub fn read_json(text: &str, limits: &Limits) -> Result<Value, JsonError> {
    let start = if text.starts_with('\u{FEFF}') { '\u{FEFF}'.len_utf8() } else { 0 };
    let mut reader = Reader { text, at: start, depth: 0, nesting: limits.nesting.min(NESTING_MAX) };
    let value = reader.document();
    value.map_err(|Fault { at, message }| {
        let before = &text[start..at.clamp(start, text.len())];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        JsonError { message, line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    })
}

struct Fault {
    at: usize,
    message: String,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: u64,
    nesting: u64,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<Value, Fault> {
        self.space();
        if self.peek().is_none() {
            return self.fail("there is no JSON here");
        }
        let value = self.value()?;
        self.space();
        match self.peek() {
            None => Ok(value),
            Some(_) => self.fail("the document has ended, but there is more text"),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn fail<T>(&self, message: impl fmt::Display) -> Result<T, Fault> {
        Err(Fault { at: self.at, message: message.to_string() })
    }

    fn unexpected<T>(&self, expected: &str) -> Result<T, Fault> {
        match self.text[self.at..].chars().next() {
            Some(c) => self.fail(format_args!("expected {expected}, found `{}`", c.escape_debug())),
            None => self.fail(format_args!("expected {expected}, but the text ends")),
        }
    }

    /// Recurses at most `nesting` deep.
    fn value(&mut self) -> Result<Value, Fault> {
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                for (word, value) in [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)]
                {
                    if self.text[self.at..].starts_with(word) {
                        self.at += word.len();
                        return Ok(value);
                    }
                }
                for word in ["NaN", "Infinity"] {
                    if self.text[self.at..].starts_with(word) {
                        return self.fail(format_args!("`{word}` is not a number that can be kept"));
                    }
                }
                self.unexpected("a value")
            }
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value, Fault>) -> Result<Value, Fault> {
        if self.depth >= self.nesting {
            let raise = if self.nesting < NESTING_MAX { raised_by("nesting") } else { String::new() };
            return self.fail(format_args!("the document is nested more than {} levels deep{raise}", self.nesting));
        }
        self.depth += 1;
        self.at += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<Value, Fault> {
        let mut map = Map::new();
        self.space();
        if self.eat(b'}') {
            return Ok(Value::Object(map));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return self.unexpected("a key in double quotes");
            }
            let start = self.at;
            let key = self.string()?;
            if map.contains_key(&key) && !awake(Bug::DuplicateKeysAccepted) {
                return Err(Fault { at: start, message: format!("the key `{key}` is given twice") });
            }
            self.space();
            if !self.eat(b':') {
                return self.unexpected("`:`");
            }
            self.space();
            let value = self.value()?;
            map.insert(key, value);
            self.space();
            if self.eat(b'}') {
                return Ok(Value::Object(map));
            }
            if !self.eat(b',') {
                return self.unexpected("`,` or `}`");
            }
        }
    }

    fn array(&mut self) -> Result<Value, Fault> {
        let mut items = Vec::new();
        self.space();
        if self.eat(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            self.space();
            items.push(self.value()?);
            self.space();
            if self.eat(b']') {
                // A list takes room for four items when it gets its first; a file may have very many short lists.
                items.shrink_to_fit();
                return Ok(Value::Array(items));
            }
            if !self.eat(b',') {
                return self.unexpected("`,` or `]`");
            }
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn string(&mut self) -> Result<String, Fault> {
        let opened = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c: char| matches!(c, '"' | '\\') || c < ' ').unwrap_or(rest.len());
            out.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                None => return Err(Fault { at: opened, message: "this quote is never closed".to_owned() }),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => return self.fail("a line break or control character inside a string must be escaped"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let start = self.at;
        let Some(kind) = self.text.as_bytes().get(self.at + 1).copied() else {
            return self.fail("an escape is cut off");
        };
        self.at += 2;
        Ok(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let half = || Fault { at: start, message: "this escape is half of a character".to_owned() };
                let high = self.hex(start)?;
                let code = if (0xD800..0xDC00).contains(&high) {
                    if !self.text[self.at..].starts_with("\\u") {
                        return Err(half());
                    }
                    self.at += 2;
                    let low = self.hex(start)?;
                    if !(0xDC00..0xE000).contains(&low) {
                        return Err(half());
                    }
                    0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)
                } else {
                    high
                };
                char::from_u32(code).ok_or_else(half)?
            }
            _ => return Err(Fault { at: start, message: "this escape does not exist in JSON".to_owned() }),
        })
    }

    fn hex(&mut self, start: usize) -> Result<u32, Fault> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(code) = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) else {
            return Err(Fault { at: start, message: "`\\u` needs four hexadecimal digits".to_owned() });
        };
        self.at += 4;
        Ok(code)
    }

    fn number(&mut self) -> Result<Value, Fault> {
        let start = self.at;
        self.eat(b'-');
        let whole = self.digits();
        if whole == 0 {
            return self.unexpected("a digit");
        }
        if whole > 1 && self.text.as_bytes()[self.at - whole] == b'0' {
            return Err(Fault {
                at: start,
                message: "a number cannot start with a zero; quote it to keep it".to_owned(),
            });
        }
        let mut integer = true;
        if self.eat(b'.') {
            integer = false;
            if self.digits() == 0 {
                return self.unexpected("a digit");
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            integer = false;
            self.at += 1;
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            if self.digits() == 0 {
                return self.unexpected("a digit");
            }
        }
        let text = &self.text[start..self.at];
        let number = if integer && awake(Bug::NumbersThroughF64) {
            text.parse::<f64>().ok().map(|float| Number::from(float as i64)).ok_or_else(String::new)
        } else if integer {
            text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from)).map_err(|_| {
                "a whole number that does not fit into 64 bits cannot be kept; quote it to send it as text".to_owned()
            })
        } else {
            match text.parse::<f64>().ok().filter(|float| float.is_finite()) {
                None => Err("this number is too large to be kept".to_owned()),
                Some(float) if !is_kept(text, float) => Err(format!("this number {LOSES}; quote it to keep them")),
                Some(float) => Number::from_f64(float).ok_or_else(String::new),
            }
        };
        number.map(Value::Number).map_err(|message| Fault { at: start, message })
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Value, JsonError> {
        read_json(text, &Limits::default())
    }

    #[test]
    fn f06_documents_are_read_exactly() {
        for text in [
            "null",
            " true ",
            "0",
            "-1",
            "18446744073709551615",
            "-9223372036854775808",
            "9007199254740993",
            "29.99",
            "1e3",
            "1.5E-7",
            "0.1000000000000000000000",
            "123456789012345.67",
            "1.7976931348623157e308",
            "0.0e5",
            "\"\"",
            r#""a\"\\\/\b\f\n\r\t\u00e4\ud83d\ude00ö""#,
            "[]",
            "{}",
            "[1, [2], {\"a\": []}]",
            "{\"b\": 1, \"a\": {\"b\": null}}",
        ] {
            let expected: Value = serde_json::from_str(text).expect(text);
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        assert_eq!(read("\u{FEFF}{}"), Ok(json!({})));
        assert_eq!(read("-0"), Ok(json!(0)));
    }

    #[test]
    fn f02_f04_f07_faults_have_a_place() {
        for (text, line, column, part) in [
            ("", 1, 1, "no JSON"),
            ("{\n  \"ä\": 1, \"ä\": 2 }", 2, 11, "twice"),
            ("[1,]", 1, 4, "expected a value"),
            ("{\"a\" 1}", 1, 6, "expected `:`"),
            ("{a: 1}", 1, 2, "double quotes"),
            ("[1 2]", 1, 4, "`,` or `]`"),
            ("{} {}", 1, 4, "more text"),
            ("\"abc", 1, 1, "never closed"),
            ("[\"a\nb\"]", 1, 4, "escaped"),
            ("18446744073709551616", 1, 1, "64 bits"),
            ("[1e999]", 1, 2, "too large"),
            ("[0.12345678901234567890]", 1, 2, "more digits"),
            ("[1e-400]", 1, 2, "more digits"),
            ("9007199254740993.0", 1, 1, "more digits"),
            ("NaN", 1, 1, "NaN"),
            ("-Infinity", 1, 2, "a digit"),
            ("[007]", 1, 2, "zero"),
            ("1.", 1, 3, "a digit"),
            (r#""\ud800""#, 1, 2, "half of a character"),
            (r#""\udc00""#, 1, 2, "half of a character"),
            (r#""\x""#, 1, 2, "does not exist"),
            (r#""\u+123""#, 1, 2, "four hexadecimal"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.message.contains(part), "{text}: {error}");
            assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
        }
    }

    #[test]
    fn f02_nesting_is_limited_before_anything_is_built() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(read(&nested(31)).is_ok());
        assert!(read(&nested(32)).is_ok());
        assert_eq!(read(&nested(33)).map_err(|e| e.column), Err(33));
        assert!(read(&"[".repeat(100_000)).is_err());
        let limits = Limits { nesting: u64::MAX, ..Limits::default() };
        assert!(read_json(&"[".repeat(1_000_000), &limits).is_err());
    }
}
