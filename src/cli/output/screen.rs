//! The two streams, and what each can show.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::paint::{Paint, Tone};
use crate::cli::args::{Colour, Format, Global, STORE};
use crate::cli::exit_code::ExitCode;
use crate::cli::problem::Problem;
use crate::diag::{self, Finding, SourceFile};

/// How wide a page is that nobody sees at once.
const WIDTH_OF_PIPES: usize = 100;

/// What the two streams can show, decided once.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Screen {
    /// How answers are written.
    pub(in crate::cli) format: Format,
    /// Colours on stdout.
    pub(in crate::cli) out: Paint,
    /// Colours on stderr.
    pub(in crate::cli) err: Paint,
    /// Whether stderr is a terminal on which lines can be redrawn.
    pub(in crate::cli) live: bool,
    quiet: bool,
    out_is_terminal: bool,
    width: usize,
    /// How this program is called again for the same store.
    command: Arc<str>,
    /// How it was called this time.
    called: Arc<str>,
}

impl Screen {
    pub(in crate::cli) fn new(global: &Global, program: &str) -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colour = |terminal: bool| match global.color {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => terminal && !no_colour && !dumb,
        };
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let size = rustix::termios::tcgetwinsize(io::stderr()).or_else(|_| rustix::termios::tcgetwinsize(io::stdout()));
        let width = size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
        Self {
            format: global.format,
            out: Paint::new(colour(out) && global.format == Format::Text),
            err: Paint::new(colour(err)),
            live: err && !dumb && !global.quiet && global.verbose == 0,
            quiet: global.quiet,
            out_is_terminal: out,
            width: width.unwrap_or(WIDTH_OF_PIPES),
            command: command(global, program).into(),
            called: called(program).into(),
        }
    }

    /// Returns how wide stderr is.
    pub(in crate::cli) fn width(&self) -> usize {
        self.width.max(30)
    }

    /// Returns how wide a line on stdout may be; pipes get whole lines.
    pub(in crate::cli) fn out_width(&self) -> Option<usize> {
        self.out_is_terminal.then(|| self.width())
    }

    pub(in crate::cli) fn is_quiet(&self) -> bool {
        self.quiet
    }

    pub(in crate::cli) fn is_text(&self) -> bool {
        self.format == Format::Text
    }

    /// Writes to stdout.
    ///
    /// # Errors
    /// When stdout is gone; a reader that has seen enough is none.
    pub(in crate::cli) fn answer(&self, text: &str) -> Result<(), Problem> {
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Problem::new(ExitCode::Store, format!("stdout: {error}")))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Writes one JSON document to stdout: indented with `-o json`, in one line otherwise.
    pub(in crate::cli) fn json(&self, value: &impl Serialize) -> Result<(), Problem> {
        let text = match self.format {
            Format::Jsonl => serde_json::to_string(value),
            Format::Json | Format::Text => serde_json::to_string_pretty(value),
        };
        let text = text.map_err(|e| Problem::bug(format!("the answer cannot be written as JSON: {e}")))?;
        self.answer(&format!("{text}\n"))
    }

    /// Writes a list to stdout: one object that holds it with `-o json`, one line for each item with `-o jsonl`. Each
    /// document says its version.
    pub(in crate::cli) fn json_list(&self, name: &str, items: &[Value]) -> Result<(), Problem> {
        if self.format == Format::Jsonl {
            let lines: String = items.iter().map(|item| format!("{}\n", versioned(item))).collect();
            return self.answer(&lines);
        }
        let mut whole = serde_json::Map::new();
        whole.insert("v".into(), 1.into());
        whole.insert(name.into(), items.into());
        self.json(&whole)
    }

    /// Writes a line to stderr, unless there is to be silence.
    pub(in crate::cli) fn say(&self, text: &str) {
        if !self.quiet {
            tell(text);
        }
    }

    /// Returns a command line of this program for the same store.
    pub(in crate::cli) fn command(&self, rest: &str) -> String {
        format!("{} {rest}", self.command)
    }

    /// Returns the command line that this process was called with.
    pub(in crate::cli) fn called(&self) -> &str {
        &self.called
    }

    /// Says what to type next.
    pub(in crate::cli) fn next(&self, word: &str, line: &str) {
        self.say(&format!("{}     {}", self.err.text(Tone::Quiet, word), self.err.text(Tone::Strong, line)));
    }

    /// Writes why something could not be done.
    pub(in crate::cli) fn problem(&self, problem: &Problem) {
        if !self.is_text() {
            tell(&problem.to_json().to_string());
            return;
        }
        tell(&format!("{} {}", self.err.text(Tone::Bad, "error:"), problem.message));
        for detail in &problem.details {
            tell(&format!("  {detail}"));
        }
        if let Some(help) = &problem.help {
            let help = help.replace("`flowrun ", &format!("`{} ", self.command));
            tell(&format!("{} {help}", self.err.text(Tone::Care, "help:")));
        }
    }

    /// Writes what is wrong in a file, for people.
    pub(in crate::cli) fn findings(&self, findings: &[Finding], file: &SourceFile) {
        let style = diag::Style { width: self.width().min(120), colour: self.err.is_on() };
        for finding in findings {
            tell(diag::text(finding, file, style).trim_end_matches('\n'));
        }
    }
}

/// Returns a document that says its version.
fn versioned(item: &Value) -> Value {
    let mut item = item.clone();
    if let Some(map) = item.as_object_mut()
        && !map.contains_key("v")
    {
        map.shift_insert(0, "v".into(), 1.into());
    }
    item
}

/// Writes a line to stderr; who closed it does not want to know.
pub(in crate::cli) fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Returns how this program is called again for the same store.
fn command(global: &Global, program: &str) -> String {
    let by_environment = std::env::var_os("FLOWRUN_STORE").is_some_and(|store| global.store.as_os_str() == store);
    if by_environment || global.store.as_os_str() == STORE {
        return program.to_owned();
    }
    format!("{program} --store {}", shell_word(&global.store.to_string_lossy()))
}

/// Returns how this program was called.
fn called(program: &str) -> String {
    let words = std::env::args_os().skip(1).map(|word| shell_word(&word.to_string_lossy()));
    std::iter::once(program.to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// Quotes a word for a shell if it needs quotes.
pub(in crate::cli) fn shell_word(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./@:+=,%".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
