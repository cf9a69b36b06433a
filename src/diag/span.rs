//! Places in a file: byte ranges, lines and columns.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A range of bytes in a file's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// How many bytes.
    pub len: usize,
}

impl Span {
    /// Makes a span of a start and a length.
    #[must_use]
    pub const fn new(start: usize, len: usize) -> Self {
        Self { start, len }
    }

    /// Returns the byte after the last.
    #[must_use]
    pub const fn end(self) -> usize {
        self.start + self.len
    }

    /// Returns the span as a range of bytes.
    #[must_use]
    pub const fn range(self) -> Range<usize> {
        self.start..self.end()
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start, len: range.end.saturating_sub(range.start) }
    }
}

/// A file that was read: its path as the user gave it, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// The path, as the user gave it.
    pub path: String,
    /// The text, without a byte order mark.
    pub text: Arc<str>,
    /// Where each line starts; a file may have many findings, and each asks for its line.
    lines: Arc<[usize]>,
}

/// A line and a column, both counted from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl SourceFile {
    /// Makes a file of a path and its text; a byte order mark is taken off.
    #[must_use]
    pub fn new(path: impl Into<String>, text: impl AsRef<str>) -> Self {
        let text = text.as_ref();
        let text = text.trim_start_matches('\u{FEFF}');
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        Self { path: path.into(), lines: std::iter::once(0).chain(breaks).collect(), text: text.into() }
    }

    /// Returns the line and column of a byte.
    #[must_use]
    pub fn place(&self, offset: usize) -> Place {
        let offset = self.floor(offset);
        let line = self.lines.partition_point(|start| *start <= offset);
        Place { line, column: self.text[self.lines[line - 1]..offset].chars().count() + 1 }
    }

    /// Returns the text of a span, as far as it lies inside the file.
    #[must_use]
    pub fn slice(&self, span: Span) -> &str {
        let start = self.floor(span.start);
        &self.text[start..self.floor(span.end()).max(start)]
    }

    /// Returns the span cut off at the end of its first line, because an underline over many lines hides what it shows.
    #[must_use]
    pub fn first_line(&self, span: Span) -> Span {
        let start = self.floor(span.start);
        let text = self.slice(span);
        let line = text.split('\n').next().unwrap_or_default();
        Span { start, len: line.trim_end().len() }
    }

    /// Returns the span of the lines that a span touches, with some lines before and after it, and how many lines come
    /// before them all.
    #[must_use]
    pub fn lines_around(&self, span: Span, before: usize, after: usize) -> (usize, Span) {
        let line = |offset: usize| self.lines.partition_point(|start| *start <= offset) - 1;
        let first = line(span.start).saturating_sub(before);
        let end = self.lines.get(line(span.end()) + after + 1).copied().unwrap_or(self.text.len());
        (first, Span::from(self.lines[first]..end))
    }

    /// Returns the nearest character boundary at or before a byte.
    fn floor(&self, offset: usize) -> usize {
        let mut at = offset.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let file = SourceFile::new("a.yaml", "ä: 1\nöß: 2\n");
        assert_eq!(file.place(0), Place { line: 1, column: 1 });
        assert_eq!(file.place(3), Place { line: 1, column: 3 });
        assert_eq!(file.place(8), Place { line: 2, column: 2 });
        assert_eq!(file.place(10), Place { line: 2, column: 3 });
        assert_eq!(file.place(1_000), Place { line: 3, column: 1 });
    }

    #[test]
    fn lines_around_a_span_are_whole_lines() {
        let file = SourceFile::new("a", "a\nbb\nccc\ndd\ne");
        assert_eq!(file.lines_around(Span::new(6, 1), 1, 1), (1, Span::from(2..12)));
        assert_eq!(file.lines_around(Span::new(0, 1), 1, 0), (0, Span::from(0..2)));
        assert_eq!(file.lines_around(Span::new(12, 1), 9, 9), (0, Span::from(0..13)));
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        assert_eq!(&*SourceFile::new("a", "\u{FEFF}a: 1").text, "a: 1");
        // A definition that was stored without its mark is the same when it is read again, whatever comes next.
        assert_eq!(&*SourceFile::new("a", "\u{FEFF}\u{FEFF}a: 1").text, "a: 1");
    }

    #[test]
    fn spans_are_cut_at_the_line() {
        let file = SourceFile::new("a", "a: b  \nc: d\n");
        assert_eq!(file.first_line(Span::new(0, 11)), Span::new(0, 4));
        assert_eq!(file.first_line(Span::new(8, 900)), Span::new(8, 3));
    }
}
