//! Colours, and the width of text in a terminal.

/// Writes text in colours, if they are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Paint {
    on: bool,
}

/// What a text is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Tone {
    /// Nothing special.
    Plain,
    /// It went well.
    Good,
    /// It may still go well.
    Care,
    /// It went wrong.
    Bad,
    /// Less important than what stands beside it.
    Quiet,
    /// More important.
    Strong,
}

impl Paint {
    pub(in crate::cli) fn new(on: bool) -> Self {
        Self { on }
    }

    pub(in crate::cli) fn is_on(self) -> bool {
        self.on
    }

    /// Returns `text` in the colour of `tone`.
    pub(in crate::cli) fn text(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Care => "33",
            Tone::Bad => "31",
            Tone::Quiet => "2",
            Tone::Strong => "1",
        };
        if self.on && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Returns the tone of a status of a run or a step.
pub(in crate::cli) fn tone_of(status: &str) -> Tone {
    match status {
        "completed" | "succeeded" | "complete" => Tone::Good,
        "failed" | "incomplete" | "compensation_failed" | "unknown" => Tone::Bad,
        "waiting" | "parked" | "backing_off" | "compensating" | "cancelled" | "running" | "compensated" => Tone::Care,
        "pending" | "skipped" | "none_needed" => Tone::Quiet,
        _ => Tone::Plain,
    }
}

/// Returns `text` without line breaks and control characters, cut to `width` columns with an ellipsis.
///
/// What handlers and people wrote must neither break a line nor move the cursor.
pub(in crate::cli) fn one_line(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c }).peekable();
    while let Some(c) = chars.next() {
        let columns = columns_of(c);
        let room = width - used.min(width);
        let is_last = chars.peek().is_none();
        if columns > room || (columns == room && !is_last) {
            out.push('…');
            return out;
        }
        used += columns;
        out.push(c);
    }
    out
}

/// Returns `text` in lines of at most `width` columns, broken between words; a longer word has a line of its own.
pub(in crate::cli) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if columns(line) + 1 + columns(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Returns how many columns `text` takes.
pub(in crate::cli) fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

fn columns_of(c: char) -> usize {
    // Wide characters of the commonest scripts; one that is missed makes a line a column too long.
    match u32::from(c) {
        0x0300..=0x036F | 0x200B..=0x200F | 0xFE00..=0xFE0F => 0,
        0x1100..=0x115F | 0x2E80..=0xA4CF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF | 0xFE30..=0xFE6F => 2,
        0xFF00..=0xFF60 | 0xFFE0..=0xFFE6 | 0x1F300..=0x1FAFF | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_to_its_width() {
        assert_eq!(one_line("short", 10), "short");
        assert_eq!(one_line("exactly ten", 11), "exactly ten");
        assert_eq!(one_line("a longer text", 8), "a longe…");
        assert_eq!(one_line("two\nlines\u{1b}[2J", 40), "two lines [2J");
        assert_eq!(one_line("日本語", 4), "日…");
        assert_eq!(columns(&one_line("日本語日本語", 7)), 7);
    }

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrapped("to be or not", 5), ["to be", "or", "not"]);
        assert_eq!(wrapped("incomprehensibility is long", 6), ["incomprehensibility", "is", "long"]);
        assert_eq!(wrapped("日本 語", 5), ["日本", "語"]);
        assert_eq!(wrapped("", 5), [""]);
    }

    #[test]
    fn no_colour_is_no_colour() {
        assert_eq!(Paint::new(false).text(Tone::Bad, "x"), "x");
        assert_eq!(Paint::new(true).text(Tone::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
