//! Findings as text for people (through miette) and as JSON for tools.

use std::fmt;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode,
    SourceSpan, SpanContents,
};
use serde_json::{Value, json};

use super::{Finding, Severity, SourceFile, Span};

/// How findings are drawn.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// The width of the terminal in columns.
    pub width: usize,
    /// Whether colours are used.
    pub colour: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self { width: 100, colour: false }
    }
}

/// Returns a finding as text: message, the lines at fault with an underline, help.
#[must_use]
pub fn text(finding: &Finding, file: &SourceFile, style: Style) -> String {
    if shows_a_long_line(finding, file) {
        return around(finding, file);
    }
    let theme = if style.colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(style.width.max(40))
        .with_links(false)
        .with_context_lines(1)
        .tab_width(4);
    let report = Report { finding, file, source: Source(file) };
    let mut out = String::new();
    match handler.render_report(&mut out, &report) {
        Ok(()) => out,
        Err(fmt::Error) => {
            let place = file.place(finding.span.start);
            format!("{}:{}:{}: {}\n", file.path, place.line, place.column, finding.message)
        }
    }
}

/// Bytes of a line that is drawn as it is.
const LINE_MAX: usize = 2_000;
/// Characters shown on either side of a place in a longer line.
const AROUND: usize = 30;

/// Tells whether one of the lines to be shown is too long to be drawn: nobody reads it, there may be a thousand
/// findings in it, and miette ends in a panic where an underline would begin behind column 65,535.
fn shows_a_long_line(finding: &Finding, file: &SourceFile) -> bool {
    let related = finding.related.iter().map(|(span, _)| span);
    std::iter::once(&finding.span).chain(related).any(|span| {
        let (_, window) = file.lines_around(*span, 1, 1);
        window.len > LINE_MAX && file.slice(window).lines().any(|line| line.len() > LINE_MAX)
    })
}

/// Returns a finding as text with what stands around its place, as part of a line that is too long to be drawn.
fn around(finding: &Finding, file: &SourceFile) -> String {
    let span = file.first_line(finding.span);
    let place = file.place(span.start);
    let before: Vec<char> = file.text[..span.start].chars().rev().take_while(|c| *c != '\n').take(AROUND).collect();
    let before: String = before.into_iter().rev().collect();
    let inside: String = file.slice(span).chars().take(AROUND).collect();
    let after: String =
        file.text[span.end().min(file.text.len())..].chars().take_while(|c| *c != '\n').take(AROUND).collect();
    let help = finding.help.as_ref().map_or_else(String::new, |help| format!("  help: {help}\n"));
    let printable = |text: &str| text.replace(|c: char| c.is_control(), " ");
    format!(
        "{}\n\n  \u{d7} {}\n   \u{256d}\u{2500}[{}:{}:{}]\n   \u{b7} {}{}{}\n   \u{b7} {}{}\n   \u{2570}\u{2500}\u{2500}\u{2500}\u{2500}\n{help}",
        finding.code,
        finding.message,
        file.path,
        place.line,
        place.column,
        printable(&before),
        printable(&inside),
        printable(&after),
        " ".repeat(before.chars().count()),
        "\u{2500}".repeat(inside.chars().count().max(1)),
    )
}

/// Returns a finding as JSON: code, severity, message, help, and its line, column and length in characters.
#[must_use]
pub fn json(finding: &Finding, file: &SourceFile) -> Value {
    let place = file.place(finding.span.start);
    json!({
        "code": finding.code.as_str(),
        "severity": finding.severity.as_str(),
        "message": finding.message,
        "help": finding.help,
        "line": place.line,
        "column": place.column,
        "length": file.slice(finding.span).chars().count(),
    })
}

/// How far apart two places may be to be shown as one piece; miette goes by the number of lines that it is told.
const TOGETHER: usize = 8;

struct Report<'a> {
    finding: &'a Finding,
    file: &'a SourceFile,
    source: Source<'a>,
}

/// The file as miette reads it, except that columns count characters and not bytes.
struct Source<'a>(&'a SourceFile);

impl SourceCode for Source<'_> {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        // Only the lines that are shown are handed over: miette walks through all it is given, for every finding.
        let (first, window) = self.0.lines_around(Span::new(span.offset(), span.len()), before, after);
        let inside = SourceSpan::from((span.offset() - window.start, span.len()));
        let inner = self.0.text[window.range()].read_span(&inside, before, after)?;
        let column = if before == 0 { self.0.place(span.offset()).column - 1 } else { inner.column() };
        Ok(Box::new(MietteSpanContents::new_named(
            self.0.path.clone(),
            inner.data(),
            SourceSpan::from((inner.span().offset() + window.start, inner.span().len())),
            inner.line() + first,
            column,
            inner.line_count() + TOGETHER,
        )))
    }
}

impl Report<'_> {
    fn labelled(&self, span: Span, label: Option<String>, primary: bool) -> LabeledSpan {
        let span = self.file.first_line(span);
        if primary {
            LabeledSpan::new_primary_with_span(label, (span.start, span.len))
        } else {
            LabeledSpan::new_with_span(label, (span.start, span.len))
        }
    }
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.finding.fmt(f)
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.finding.message)
    }
}

impl std::error::Error for Report<'_> {}

impl Diagnostic for Report<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.finding.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.finding.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.finding.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let primary = self.labelled(self.finding.span, self.finding.label.clone(), true);
        let related = self.finding.related.iter().map(|(span, label)| self.labelled(*span, Some(label.clone()), false));
        Some(Box::new(std::iter::once(primary).chain(related)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::FindingCode;

    fn sample() -> (Finding, SourceFile) {
        let file = SourceFile::new("a.yaml", "steps:\n  ä: { uess: core.pass }\n");
        let start = file.text.find("uess").expect("it stands there");
        let finding = Finding::error(FindingCode::UnknownKey, Span::new(start, 4), "unknown key `uess`")
            .help("Did you mean `uses`?");
        (finding, file)
    }

    #[test]
    fn text_shows_the_place() {
        let (finding, file) = sample();
        let shown = text(&finding, &file, Style::default());
        assert!(shown.contains("FR0201"), "{shown}");
        assert!(shown.contains("a.yaml:2:8"), "{shown}");
        assert!(shown.contains("ä: { uess"), "{shown}");
        assert!(shown.contains("help: Did you mean `uses`?"), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }

    #[test]
    fn json_counts_characters() {
        let (finding, file) = sample();
        let value = json(&finding, &file);
        assert_eq!(value["line"], 2);
        assert_eq!(value["column"], 8);
        assert_eq!(value["length"], 4);
        assert_eq!(value["severity"], "error");
    }

    #[test]
    fn f03_a_place_in_a_line_without_end_is_shown_with_what_stands_around_it() {
        let text_of_file = format!("a: {{ {}wrong: 1, {} }}\n", "key: 1, ".repeat(20_000), "key: 1, ".repeat(20_000));
        let start = text_of_file.find("wrong").expect("it stands there");
        let file = SourceFile::new("a.yaml", text_of_file);
        let finding =
            Finding::error(FindingCode::UnknownKey, Span::new(start, 5), "unknown key `wrong`").help("Write it.");
        let shown = text(&finding, &file, Style::default());
        assert!(shown.len() < 500, "{}", shown.len());
        for part in ["FR0201", "unknown key `wrong`", "[a.yaml:1:160006]", "key: 1, wrong: 1, key", "help: Write it."] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let under = |line: usize, mark: char| shown.lines().nth(line).and_then(|l| l.chars().position(|c| c == mark));
        assert_eq!(under(4, 'w'), under(5, '\u{2500}'), "{shown}");
    }
}
