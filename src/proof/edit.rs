//! Small changes of a workflow's text that keep its style: a key more in a map, a template made safe.

use std::ops::Range;

use crate::dsl::Tree;

/// A part of a text that is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    /// The bytes that go.
    pub range: Range<usize>,
    /// What comes in their place.
    pub with: String,
}

impl Edit {
    /// Returns the text after the edit.
    pub fn apply(&self, text: &str) -> String {
        let mut edited = String::with_capacity(text.len() + self.with.len());
        edited.push_str(&text[..self.range.start]);
        edited.push_str(&self.with);
        edited.push_str(&text[self.range.end..]);
        edited
    }

    /// Returns the number of the first line that changes, counted from 1, the lines that go, and those that come.
    pub fn lines(&self, text: &str) -> (usize, Vec<String>, Vec<String>) {
        let start = text[..self.range.start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[self.range.end..].find('\n').map_or(text.len(), |at| self.range.end + at);
        let new = format!("{}{}{}", &text[start..self.range.start], self.with, &text[self.range.end..end]);
        let lines = |text: &str| text.split('\n').map(str::to_owned).collect::<Vec<_>>();
        let (mut old, mut new) = (lines(&text[start..end]), lines(&new));
        let mut first = text[..start].matches('\n').count() + 1;
        // A line that stays as it is belongs to neither.
        while old.len() > 1 && !new.is_empty() && old.first() == new.first()
            || old.len() == 1 && new.len() > 1 && old[0] == new[0]
        {
            old.remove(0);
            new.remove(0);
            first += 1;
        }
        (first, old, new)
    }
}

/// Adds an entry at the end of the map that `pointer` leads to, in the style in which the map is written.
pub(super) fn add_entry(text: &str, tree: &Tree, pointer: &str, entry: &str) -> Option<Edit> {
    let map = tree.value().pointer(pointer)?.as_object()?;
    let extent = tree.extent(pointer);
    let written = text.get(extent.range())?.trim_end();
    let end = extent.start + written.len();
    if written.starts_with('{') {
        let inside = written.strip_suffix('}')?.trim_end();
        let at = extent.start + inside.len();
        let before = if map.is_empty() { " " } else { ", " };
        let after = if text[at..].starts_with('}') { " " } else { "" };
        return Some(Edit { range: at..at, with: format!("{before}{entry}{after}") });
    }
    let line = text[..extent.start].rfind('\n').map_or(0, |at| at + 1);
    // In a list the first key of a map stands behind a dash, and the others under it.
    let indent = " ".repeat(text[line..extent.start].chars().count());
    // A comment after the last value stays on its line.
    let at = text[end..].find('\n').map_or(text.len(), |line_end| end + line_end);
    Some(Edit { range: at..at, with: format!("\n{indent}{entry}") })
}

/// Puts `| default(value)` behind the path in a template that has a name at `name`, which are bytes of the file.
pub(super) fn with_default(text: &str, name: Range<usize>, value: &str) -> Option<Edit> {
    let in_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '[' | ']' | '\'');
    let rest = text.get(name.start..)?;
    let length = rest.find(|c| !in_path(c)).unwrap_or(rest.len());
    let at = name.start + length.max(name.len());
    let quote = if value.contains('"') { return None } else { value };
    Some(Edit { range: at..at, with: format!(" | default({quote})") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::SourceFile;
    use crate::limits::Limits;

    fn added(text: &str, pointer: &str) -> String {
        let (tree, findings) = Tree::read(&SourceFile::new("w.yaml", text), &Limits::default());
        assert_eq!(findings, []);
        add_entry(text, &tree.expect("it can be read"), pointer, "x: 1").expect("it is a map").apply(text)
    }

    #[test]
    fn an_entry_is_added_in_the_style_of_its_map() {
        assert_eq!(added("a: { b: 2 }\nc: 3\n", "/a"), "a: { b: 2, x: 1 }\nc: 3\n");
        assert_eq!(added("a: {b: 2}\n", "/a"), "a: {b: 2, x: 1 }\n");
        assert_eq!(added("a: {}\n", "/a"), "a: { x: 1 }\n");
        assert_eq!(added("a:\n  b: 2 # two\nc: 3\n", "/a"), "a:\n  b: 2 # two\n  x: 1\nc: 3\n");
        assert_eq!(added("l:\n  - a: 1\n    b: 2\n  - c: 3", "/l/0"), "l:\n  - a: 1\n    b: 2\n    x: 1\n  - c: 3");
        assert_eq!(added("l:\n  - a: 1\n  - c: 3", "/l/1"), "l:\n  - a: 1\n  - c: 3\n    x: 1");
        assert_eq!(added("a:\n  b:\n    c: 1\n\nd: 2\n", "/a"), "a:\n  b:\n    c: 1\n  x: 1\n\nd: 2\n");
    }

    #[test]
    fn a_default_stands_behind_the_whole_path() {
        let text = "x: \"{{ steps.a.output.by + 1 }}\"\n";
        let name = text.find("output").expect("it is there");
        let edit = with_default(text, name..name + 6, "0").expect("it fits");
        assert_eq!(edit.apply(text), "x: \"{{ steps.a.output.by | default(0) + 1 }}\"\n");
        assert_eq!(edit.lines(text).0, 1);
        let quoted = with_default(text, name..name + 6, "\"\"");
        assert_eq!(quoted, None);
    }

    #[test]
    fn an_edit_names_the_lines_that_change() {
        let text = "a:\n  b: 2\nc: 3\n";
        let edit = Edit { range: 9..9, with: "\n  x: 1".to_owned() };
        assert_eq!(edit.lines(text), (3, vec![], vec!["  x: 1".to_owned()]));
    }
}
