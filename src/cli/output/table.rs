//! Columns of text.

use super::paint::{Paint, Tone, columns, one_line};

/// A cell: its text, and what it is about.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(in crate::cli) fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(Tone::Plain, text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(Tone::Plain, text)
    }
}

/// Rows of the same number of cells, printed under each other. The last column takes what is left of the line.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// No column but the last is wider.
const COLUMN_MAX: usize = 48;

impl Table {
    pub(in crate::cli) fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    pub(in crate::cli) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Returns the table for lines of at most `width` columns; without a width nothing is cut.
    pub(in crate::cli) fn text(&self, paint: Paint, width: Option<usize>) -> String {
        let count = self.rows.iter().map(Vec::len).chain([self.head.len()]).max().unwrap_or(0);
        let widths: Vec<usize> = (0..count)
            .map(|n| {
                let head = self.head.get(n).map_or(0, |h| columns(h));
                let cells = self.rows.iter().filter_map(|r| r.get(n)).map(|c| columns(&c.text));
                let widest = cells.chain([head]).max().unwrap_or(0);
                if width.is_some() { widest.min(COLUMN_MAX) } else { widest }
            })
            .collect();
        let mut out = String::new();
        if !self.head.is_empty() {
            let head = self.head.iter().map(|h| Cell::new(Tone::Quiet, *h)).collect::<Vec<_>>();
            line(&mut out, &head, &widths, paint, width);
        }
        for row in &self.rows {
            line(&mut out, row, &widths, paint, width);
        }
        out
    }
}

fn line(out: &mut String, cells: &[Cell], widths: &[usize], paint: Paint, width: Option<usize>) {
    let mut used = 0;
    let last = cells.iter().rposition(|c| !c.text.is_empty()).unwrap_or(0);
    for (n, cell) in cells.iter().enumerate().take(last + 1) {
        let own = widths.get(n).copied().unwrap_or(0);
        let room = match width {
            Some(width) if n + 1 == widths.len() => width.saturating_sub(used).max(8),
            Some(width) => own.min(width.saturating_sub(used).max(8)),
            None => usize::MAX,
        };
        let text = one_line(&cell.text, room);
        out.push_str(&paint.text(cell.tone, &text));
        if n < last {
            let gap = own.saturating_sub(columns(&text)) + 2;
            out.extend(std::iter::repeat_n(' ', gap));
            used += own + 2;
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other_and_lines_fit() {
        let mut table = Table::new(&["ID", "WHAT"]);
        table.row(vec!["a".into(), "short".into()]);
        table.row(vec!["bcd".into(), "a text that does not fit".into()]);
        let shown = table.text(Paint::new(false), Some(16));
        assert_eq!(shown, "ID   WHAT\na    short\nbcd  a text tha…\n");
        assert!(table.text(Paint::new(false), None).contains("does not fit"));
    }
}
