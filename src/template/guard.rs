//! What is looked at before and after minijinja's parser: how deep a template nests, and what a syntax error means.
//!
//! The parser and its tree recurse, so nesting is bounded on the tokens, before there is a tree.

use std::ops::Range;

use minijinja::machinery::{self, Span, Token};
use minijinja::syntax::SyntaxConfig;

use super::TemplateError;

/// Bytes of one string with templates in it.
const SOURCE_BYTES_MAX: usize = 64 << 10;
/// Tokens of one expression.
const TOKENS_MAX: usize = 2_000;
/// Brackets inside brackets.
const BRACKETS_MAX: usize = 32;
/// `not not not` or `- - -`, one after the other.
const PREFIXES_MAX: usize = 16;
/// `else` of one expression.
const ELSES_MAX: usize = 32;
/// Statements inside statements, each `elif` counted as one.
const BLOCKS_MAX: usize = 32;

/// What is still open where a template ends.
#[derive(Default)]
pub(super) struct Open {
    /// The start of an expression or statement: `{{` or `{%`.
    delimiter: Option<Range<usize>>,
    /// The innermost bracket.
    bracket: Option<(Range<usize>, &'static str)>,
    /// The innermost statement: where its keyword stands, and the keyword.
    block: Option<(Range<usize>, String)>,
}

/// Checks that `source` is not too long or too deep to be parsed, and returns what it leaves open.
pub(super) fn check(source: &str, in_expression: bool, syntax: &SyntaxConfig) -> Result<Open, TemplateError> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(too_much(format!("a template can have {SOURCE_BYTES_MAX} bytes at most"), 0..0));
    }
    let mut scan = Scan::default();
    // An error of the tokenizer ends the tokens; the parser meets it again and reports it.
    for token in machinery::tokenize(source, in_expression, syntax.clone()) {
        let Ok((token, span)) = token else { return Ok(Open::default()) };
        scan.token(&token, &span_range(span))?;
    }
    let bracket = scan.brackets.pop();
    let block = scan.blocks.pop().map(|(range, name, _)| (range, name));
    Ok(Open { delimiter: scan.delimiter, bracket, block })
}

/// Returns a span of minijinja as a range of bytes.
pub(super) fn span_range(span: Span) -> Range<usize> {
    span.start_offset as usize..span.end_offset as usize
}

fn too_much(message: String, range: Range<usize>) -> TemplateError {
    TemplateError {
        message,
        help: Some("Move the computation into a handler, or split it over several steps.".to_owned()),
        range: Some(range),
        limit: true,
    }
}

#[derive(Default)]
struct Scan {
    delimiter: Option<Range<usize>>,
    brackets: Vec<(Range<usize>, &'static str)>,
    blocks: Vec<(Range<usize>, String, usize)>,
    keyword_next: bool,
    set_pending: Option<Range<usize>>,
    tokens: usize,
    prefixes: usize,
    elses: usize,
}

impl Scan {
    fn token(&mut self, token: &Token<'_>, range: &Range<usize>) -> Result<(), TemplateError> {
        self.tokens += 1;
        if self.tokens > TOKENS_MAX {
            return Err(too_much(
                format!("an expression can have {TOKENS_MAX} words and signs at most"),
                range.clone(),
            ));
        }
        if !matches!(token, Token::Minus | Token::Ident("not")) {
            self.prefixes = 0;
        }
        let keyword = std::mem::take(&mut self.keyword_next);
        match token {
            Token::TemplateData(_) => self.tokens = 0,
            Token::VariableStart | Token::BlockStart => {
                *self = Self { blocks: std::mem::take(&mut self.blocks), ..Self::default() };
                self.delimiter = Some(range.clone());
                self.keyword_next = matches!(token, Token::BlockStart);
            }
            Token::VariableEnd | Token::BlockEnd => {
                self.delimiter = None;
                // `{% set x %}` without a value opens a block.
                if let Some(range) = self.set_pending.take() {
                    self.open(range, "set")?;
                }
            }
            Token::Assign => self.set_pending = None,
            Token::Ident(name) if keyword => match *name {
                "for" | "if" | "with" | "filter" | "autoescape" => self.open(range.clone(), name)?,
                "set" => self.set_pending = Some(range.clone()),
                "elif" => {
                    if let Some(block) = self.blocks.last_mut() {
                        block.2 += 1;
                    }
                    self.depth(range)?;
                }
                name if name.starts_with("end") => {
                    self.blocks.pop();
                }
                _ => {}
            },
            Token::Minus | Token::Ident("not") => {
                self.prefixes += 1;
                if self.prefixes > PREFIXES_MAX {
                    return Err(too_much(format!("more than {PREFIXES_MAX} negations in a row"), range.clone()));
                }
            }
            Token::Ident("else") => {
                self.elses += 1;
                if self.elses > ELSES_MAX {
                    return Err(too_much(format!("an expression can have {ELSES_MAX} `else` at most"), range.clone()));
                }
            }
            Token::ParenOpen => self.brackets.push((range.clone(), "(")),
            Token::BracketOpen => self.brackets.push((range.clone(), "[")),
            Token::BraceOpen => self.brackets.push((range.clone(), "{")),
            Token::ParenClose | Token::BracketClose | Token::BraceClose => {
                self.brackets.pop();
            }
            _ => {}
        }
        if self.brackets.len() > BRACKETS_MAX {
            return Err(too_much(format!("brackets can nest {BRACKETS_MAX} deep at most"), range.clone()));
        }
        Ok(())
    }

    fn open(&mut self, range: Range<usize>, name: &str) -> Result<(), TemplateError> {
        self.blocks.push((range.clone(), name.to_owned(), 1));
        self.depth(&range)
    }

    fn depth(&self, range: &Range<usize>) -> Result<(), TemplateError> {
        if self.blocks.iter().map(|(_, _, depth)| depth).sum::<usize>() > BLOCKS_MAX {
            return Err(too_much(format!("statements can nest {BLOCKS_MAX} deep at most"), range.clone()));
        }
        Ok(())
    }
}

/// Turns an error of minijinja's parser into one of ours: at what was meant, in the words of someone who made it.
pub(super) fn explain(source: &str, in_expression: bool, error: &minijinja::Error, open: Open) -> TemplateError {
    if let Some(error) = foreign_sign(source, in_expression) {
        return error;
    }
    let range = error.range().map_or(0..source.len(), |range| {
        let start = range.start.min(source.len());
        // An error of the tokenizer is one byte long, whatever the letter is.
        let end = (range.end.max(start)..source.len()).find(|end| source.is_char_boundary(*end));
        start..end.unwrap_or(source.len())
    });
    if let Some(delimiter) = open.delimiter
        && delimiter.start <= range.start
    {
        let sign = &source[delimiter.clone()];
        let close = if sign.starts_with("{%") { "%}" } else { "}}" };
        return TemplateError::new(format!("`{sign}` is never closed"), delimiter)
            .with_help(format!("Close it with `{close}`, or write `{{{{ '{sign}' }}}}` for the signs themselves."));
    }
    let detail = error.detail().unwrap_or("it is not an expression");
    let at_end = detail.contains("end of input") || range.start >= source.len();
    if in_expression && let Some((bracket, sign)) = open.bracket {
        return TemplateError::new(format!("`{sign}` is never closed"), bracket);
    }
    if at_end && let Some((block, name)) = open.block {
        return TemplateError::new(format!("`{{% {name} %}}` has no `{{% end{name} %}}`"), block);
    }
    if at_end && in_expression {
        let end = source.trim_end().len();
        let start = source[..end].char_indices().next_back().map_or(0, |(index, _)| index);
        return TemplateError::new("the expression ends too early", start..end);
    }
    if detail.contains("unexpected character")
        && let Some(letter) = source.get(range.start..).and_then(|rest| rest.chars().next())
    {
        let range = range.start..range.start + letter.len_utf8();
        let error = TemplateError::new(format!("`{letter}` has no meaning here"), range);
        let help = "A name with other signs than a to z goes into brackets and quotes: `input['name']`.".to_owned();
        return error.with_help(letter.is_alphabetic().then_some(help));
    }
    TemplateError::new(format!("template syntax: {detail}"), range)
}

/// Finds a sign of another language, which is wrong wherever it stands outside of quotes, or a quote left open.
fn foreign_sign(source: &str, in_expression: bool) -> Option<TemplateError> {
    const SIGNS: [(&str, &str); 5] =
        [("&&", "and"), ("||", "or"), ("===", "=="), ("?.", "| default(...)"), ("??", "| default(...)")];
    let bytes = source.as_bytes();
    let mut inside = in_expression;
    let mut quote: Option<(u8, usize)> = None;
    let mut brackets = 0_usize;
    let mut statement = false;
    let mut at = 0;
    while at < bytes.len() {
        let rest = &source[at..];
        if let Some((open, _)) = quote {
            match bytes[at] {
                b'\\' => at += 1,
                byte if byte == open => quote = None,
                _ => {}
            }
        } else if !inside {
            if rest.starts_with("{{") || rest.starts_with("{%") {
                inside = true;
                statement = rest.starts_with("{%");
                at += 1;
            }
        } else if !in_expression && brackets == 0 && (rest.starts_with("}}") || rest.starts_with("%}")) {
            inside = false;
        } else {
            if let Some((sign, ours)) = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)) {
                return Some(
                    TemplateError::new(format!("`{sign}` is not an operator here"), at..at + sign.len())
                        .with_help(format!("Write `{ours}`.")),
                );
            }
            match bytes[at] {
                byte @ (b'"' | b'\'') => quote = Some((byte, at)),
                b'(' | b'[' | b'{' => brackets += 1,
                b')' | b']' | b'}' => brackets = brackets.saturating_sub(1),
                b'!' if !rest.starts_with("!=") => {
                    return Some(
                        TemplateError::new("`!` is not an operator here", at..at + 1)
                            .with_help("Write `not`.".to_owned()),
                    );
                }
                b'=' if rest.starts_with("==") => at += 1,
                b'!' | b'<' | b'>' if rest[1..].starts_with('=') => at += 1,
                b'=' if brackets == 0 && !statement => {
                    return Some(
                        TemplateError::new("`=` does not compare", at..at + 1).with_help("Write `==`.".to_owned()),
                    );
                }
                b'?' => {
                    return Some(
                        TemplateError::new("`?` is not an operator here", at..at + 1)
                            .with_help("Write `a if condition else b`.".to_owned()),
                    );
                }
                _ => {}
            }
        }
        at += 1;
        while at < bytes.len() && !source.is_char_boundary(at) {
            at += 1;
        }
    }
    quote.map(|(sign, at)| TemplateError::new(format!("the quote {} is never closed", char::from(sign)), at..at + 1))
}
