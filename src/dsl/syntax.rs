//! What is wrong with a text that is not YAML, in words that name the place where it was caused.
//!
//! A scanner notices a mistake where it can go no further, often lines after the bracket or quote that was left open.

use std::ops::Range;

use granit_parser::{ErrorKind, ScanError};

use crate::diag::{Finding, FindingCode, SourceFile, Span};
use crate::limits::Limits;

/// Returns what makes a text unfit to be read at all: its size, or characters that no text has.
pub(super) fn unfit_text(file: &SourceFile, limits: &Limits) -> Option<Finding> {
    if file.text.len() as u64 > limits.definition_bytes {
        return Some(
            Finding::error(
                FindingCode::Limit,
                Span::new(0, 0),
                format!("the file has {} bytes; the limit is {}", file.text.len(), limits.definition_bytes),
            )
            .help("Raise the limit with `--limit definition_bytes=N`."),
        );
    }
    let (at, c) = file.text.char_indices().find(|(_, c)| match c {
        '\n' | '\r' | '\t' | '\u{85}' => false,
        // Characters that turn the direction of text let a file show something else than what it says.
        '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => true,
        '\u{FFFE}' | '\u{FFFF}' => true,
        c => c.is_control(),
    })?;
    let what = if c.is_control() { "a control character" } else { "a character that changes the direction of text" };
    Some(
        Finding::error(FindingCode::Encoding, Span::new(at, c.len_utf8()), format!("{what} (U+{:04X})", c as u32))
            .help(format!("Remove it, or write it as `\\u{:04x}` in double quotes.", c as u32)),
    )
}

/// Returns what in a name cannot be seen.
pub(super) fn unfit_name(name: &str) -> Option<String> {
    let c = name.chars().find(|c| {
        c.is_control()
            || matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}' | '\u{AD}')
    })?;
    Some(format!("the character U+{:04X}", c as u32))
}

/// Explains a template that stands without quotes: which bytes belong to it (none if it is never closed), and what to
/// say about it.
pub(super) fn unquoted_template(text: &str, at: usize) -> (Option<Range<usize>>, Finding) {
    let Some(end) = template_end(text, at) else {
        let finding = Finding::error(FindingCode::Unclosed, Span::new(at, 2), "these braces are never closed")
            .label("opened here")
            .help("A template ends with `}}` on the same line and must be quoted: \"{{ ... }}\".");
        return (None, finding);
    };
    let mut end = end;
    let rest = text[end..].split('\n').next().unwrap_or_default();
    let after = rest.trim_start();
    if !(after.is_empty() || after.starts_with(['#', ',', '}', ']', ':'])) {
        let stop = rest.find(" #").unwrap_or(rest.len());
        end += rest[..stop].trim_end().len();
    }
    let written = &text[at..end];
    let fixed =
        if written.contains('"') { format!("'{}'", written.replace('\'', "''")) } else { format!("\"{written}\"") };
    let finding = Finding::error(
        FindingCode::UnquotedTemplate,
        Span::new(at, end - at),
        "a value that starts with a template must be quoted, or YAML reads it as a map",
    )
    .label("quote it")
    .help(format!("Write {fixed}."));
    (Some(at..end), finding)
}

/// Finds the end of the template that starts at `at`, on the same line, quotes inside it respected.
fn template_end(text: &str, at: usize) -> Option<usize> {
    let line = text[at..].split('\n').next().unwrap_or_default();
    let mut quote = None;
    let mut depth = 0_usize;
    let bytes = line.as_bytes();
    let mut i = 2;
    while i < bytes.len() {
        match (quote, bytes[i]) {
            (Some(_), b'\\') => i += 1,
            (Some(open), b) if b == open => quote = None,
            (Some(_), _) => {}
            (None, b @ (b'"' | b'\'')) => quote = Some(b),
            (None, b'{') => depth += 1,
            (None, b'}') if depth > 0 => depth -= 1,
            (None, b'}') if bytes.get(i + 1) == Some(&b'}') => return Some(at + i + 2),
            (None, _) => {}
        }
        i += 1;
    }
    // An apostrophe in the text after a template is no quote.
    line.find("}}").map(|end| at + end + 2)
}

/// What a scanner's error comes from.
pub(super) enum Explained {
    /// An unquoted template starts at this byte.
    Unquoted(usize),
    Finding(Finding),
}

/// Explains why the scanner stopped.
///
/// `reached` is the start of the last thing it understood, `open` the brackets that were open there, innermost first.
pub(super) fn explain(text: &str, reached: usize, open: Vec<usize>, error: &ScanError) -> Explained {
    let at = floor(text, error.marker().byte_offset().unwrap_or(text.len()));
    if let Some(template) = unquoted_near(text, reached, at) {
        return Explained::Unquoted(template);
    }
    Explained::Finding(
        unclosed_bracket(text, reached, &open, at, error).unwrap_or_else(|| plain(text, at, error.kind())),
    )
}

/// Finds a template without quotes on the lines between what was understood and where the scanner stopped.
fn unquoted_near(text: &str, reached: usize, at: usize) -> Option<usize> {
    let first = line_start(text, reached.min(at));
    let last = text[at..].find('\n').map_or(text.len(), |end| at + end);
    let mut start = first;
    for line in text[first..last].split_inclusive('\n') {
        let mut quote = None;
        let bytes = line.as_bytes();
        let mut before = b':';
        for (i, b) in bytes.iter().copied().enumerate() {
            match quote {
                Some(open) if b == open => quote = None,
                Some(_) => {}
                None if matches!(b, b'"' | b'\'') && is_opener(before) => quote = Some(b),
                None if b == b'#' && (i == 0 || bytes[i - 1] == b' ') => break,
                None if b == b'{' && bytes.get(i + 1) == Some(&b'{') && is_opener(before) => return Some(start + i),
                None => {}
            }
            if b != b' ' {
                before = b;
            }
        }
        start += line.len();
    }
    None
}

fn is_opener(before: u8) -> bool {
    matches!(before, b':' | b'-' | b'[' | b'{' | b',')
}

fn unclosed_bracket(text: &str, reached: usize, open: &[usize], at: usize, error: &ScanError) -> Option<Finding> {
    let kind = error.kind();
    match kind {
        ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => {
            return Some(unclosed(at, 1, "this quote is never closed", "opened here"));
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => {
            let quote = if *kind == ErrorKind::InvalidTrailingSingleQuotedScalar { '\'' } else { '"' };
            let closed = text[..at].rfind(quote)?;
            let opened = opening_quote(text, closed, quote)?;
            if text[opened..closed].contains('\n') {
                return Some(
                    unclosed(opened, 1, "this quote is not closed on its line", "opened here")
                        .related(Span::new(closed, 1), "so the text ends only here"),
                );
            }
            return None;
        }
        ErrorKind::UnclosedFlowCollection { open } => {
            return Some(unclosed(at, 1, format!("this `{open}` is never closed"), "opened here"));
        }
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => {
            return Some(unclosed(at, 1, format!("this `{open}` is not closed before a `{close}`"), "opened here"));
        }
        ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::InvalidSimpleKey
        | ErrorKind::SimpleKeyExpected
        | ErrorKind::InvalidFlowScalarIndent
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofImplicitFlowMapping
        | ErrorKind::UnexpectedEof
        | ErrorKind::BlockEntryInFlowCollection
        | ErrorKind::MappingValueNotAllowed
        | ErrorKind::MappingKeyNotAllowed
        | ErrorKind::ExpectedNodeContent
        | ErrorKind::InvalidColonPlacement
        | ErrorKind::FlowMappingValueAdjacentCollection
        | ErrorKind::InvalidIndentation => {}
        _ => return None,
    }
    let opened = innermost(text, reached, open.first().copied(), at)?;
    let bracket = &text[opened..=opened];
    text[opened..at]
        .contains('\n')
        .then(|| unclosed(opened, 1, format!("this `{bracket}` is not closed"), "opened here"))
}

fn unclosed(at: usize, len: usize, message: impl Into<String>, label: &str) -> Finding {
    Finding::error(FindingCode::Unclosed, Span::new(at, len), message).label(label)
}

/// Follows brackets from what was understood to where the scanner stopped; returns the innermost one left open.
fn innermost(text: &str, reached: usize, known: Option<usize>, at: usize) -> Option<usize> {
    let mut open: Vec<usize> = known.into_iter().collect();
    let from = known.map_or(reached, |known| known + 1).min(at);
    let mut quote = None;
    let mut before = b':';
    for (i, b) in text.bytes().enumerate().take(at).skip(from) {
        match (quote, b) {
            (Some(q), b) if b == q => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') if is_opener(before) => quote = Some(b),
            (None, b'[' | b'{') if !open.is_empty() || is_opener(before) => open.push(i),
            (None, b']' | b'}') => {
                open.pop();
            }
            (None, _) => {}
        }
        if !b.is_ascii_whitespace() {
            before = b;
        }
    }
    open.pop().or(known)
}

fn opening_quote(text: &str, closed: usize, quote: char) -> Option<usize> {
    let mut at = closed;
    loop {
        at = text[..at].rfind(quote)?;
        let escaped = if quote == '"' {
            text[..at].bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
        } else {
            text[..at].ends_with('\'')
        };
        if !escaped {
            return Some(at);
        }
        if quote == '\'' {
            at -= 1;
        }
    }
}

fn plain(text: &str, at: usize, kind: &ErrorKind) -> Finding {
    let len = text[at..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
    let span = Span::new(at, len);
    let (message, help) = match kind {
        ErrorKind::TabInIndentation
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabNotAllowed
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => {
            let tab = text[line_start(text, at)..].find('\t').map_or(at, |tab| line_start(text, at) + tab);
            return Finding::error(FindingCode::Syntax, Span::new(tab, 1), "a tab cannot be used to indent")
                .help("Indent with spaces.");
        }
        ErrorKind::DirectiveDisallowed => {
            let line = text[at..].lines().next().unwrap_or_default();
            let span = Span::new(at, line.trim_end().len());
            return Finding::error(FindingCode::UnsupportedYaml, span, "directives (`%`) are not supported")
                .help("Remove this line.");
        }
        ErrorKind::UnexpectedCharacter { character } => (
            format!("a value cannot start with `{character}`"),
            Some("Quote the value.".to_owned()),
        ),
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => (
            "a `:` is not expected here".to_owned(),
            Some("A text that contains `: ` must be quoted; a key must start its line at the same column as its neighbours.".to_owned()),
        ),
        ErrorKind::InvalidTrailingDoubleQuotedScalar | ErrorKind::InvalidTrailingSingleQuotedScalar => (
            "text follows the closing quote".to_owned(),
            Some("Put the quotes around the whole value; inside double quotes write `\\\"`.".to_owned()),
        ),
        ErrorKind::UnknownQuotedScalarEscape => {
            return Finding::error(FindingCode::Syntax, bad_escape(text, at), "this escape does not exist")
                .help("Write `\\\\` for a backslash, or use single quotes.");
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey | ErrorKind::ExpectedBlockMappingKey => (
            "a key followed by `:` is expected here".to_owned(),
            Some("Check the indentation of this line and the one above it.".to_owned()),
        ),
        ErrorKind::InvalidIndentation | ErrorKind::BlockSequenceEntryNotAllowed | ErrorKind::MappingKeyNotAllowed => (
            "the indentation does not fit the lines above".to_owned(),
            None,
        ),
        ErrorKind::MisplacedFlowCollectionEnd => ("this bracket was never opened".to_owned(), None),
        ErrorKind::UnpairedLowSurrogate | ErrorKind::MissingLowSurrogate | ErrorKind::InvalidLowSurrogate => {
            ("this escape is half of a character".to_owned(), Some("Write both halves, or the character itself.".to_owned()))
        }
        other => (format!("this is not valid YAML: {other}"), None),
    };
    Finding::error(FindingCode::Syntax, span, message).help_if(help)
}

/// Finds the escape that a scanner, which shows the quote, could not read.
fn bad_escape(text: &str, quote: usize) -> Span {
    let mut at = quote;
    while let Some(next) = text[at..].find('\\') {
        at += next;
        let Some(c) = text[at + 1..].chars().next() else { break };
        if !"0abt\tnvfre \"/\\N_LPxuU\n\r".contains(c) {
            return Span::new(at, 1 + c.len_utf8());
        }
        at += 1 + c.len_utf8();
    }
    Span::new(quote, 1)
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |end| end + 1)
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
