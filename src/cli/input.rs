//! The input of `exec`: one JSON document, or JSON Lines read one after the other.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;

use super::app::{App, read_at_most, shown, too_large, unreadable};
use super::problem::Problem;
use crate::dsl::json::read_json;
use crate::limits::{Limits, raised_by};
use crate::names::is_run_id;
use crate::template::{Scope, Template};

/// How many lines are read ahead.
const AHEAD: usize = 64;

/// How many bytes of a line that is too long are passed over before what reads as one is taken for endless.
const SKIPPED_MAX: u64 = 256 << 20;

/// What `exec` is to run.
pub(super) enum Input {
    /// One document.
    One(Value),
    /// Lines, read one after the other; blank ones are left out.
    Lines {
        /// The lines, as they are read.
        lines: mpsc::Receiver<Line>,
        /// How many bytes all of them have, if that is known.
        bytes: Option<u64>,
    },
}

/// A line of an input.
pub(super) struct Line {
    /// Its number in the file, from 1.
    pub(super) number: u64,
    /// How many bytes of the file it takes.
    pub(super) bytes: u64,
    /// What it says.
    pub(super) text: Result<String, Problem>,
}

type Reader = Box<dyn BufRead + Send>;

impl Input {
    /// Opens an input. JSON Lines are known by the file's name (`.jsonl`, `.ndjson`), or by a first line that is a
    /// whole document with another one after it.
    pub(super) fn open(app: &App, path: Option<&Path>) -> Result<Self, Problem> {
        let Some(path) = path else { return Ok(Self::One(Value::Object(serde_json::Map::new()))) };
        let mut bytes = None;
        let mut reader: Reader = if path.as_os_str() == "-" {
            Box::new(BufReader::new(std::io::stdin()))
        } else {
            let file = File::open(path).map_err(|error| unreadable(path, &error))?;
            let meta = file.metadata().ok();
            if meta.as_ref().is_some_and(|meta| meta.is_dir()) {
                return Err(Problem::invalid(format!("{} is a folder", shown(path))));
            }
            // A pipe with a name has no length.
            bytes = meta.filter(|meta| meta.is_file()).map(|meta| meta.len());
            Box::new(BufReader::new(file))
        };
        let limit = app.limits.input_bytes;
        let by_name = path.extension().is_some_and(|ext| ext == "jsonl" || ext == "ndjson");
        if by_name {
            return Ok(Self::Lines { lines: read_lines(reader, path, String::new(), limit), bytes });
        }
        // The beginning: up to the first line that is not blank, and the next one if the first is a whole document.
        let mut begun = String::new();
        let mut whole = None;
        loop {
            let from = begun.len();
            if read_line(reader.as_mut(), &mut begun, limit).map_err(|stop| stop.problem(path, limit))? == 0 {
                break;
            }
            let line = &begun[from..];
            match whole {
                _ if line.trim().is_empty() => {}
                None => {
                    whole = Some(serde_json::from_str::<serde::de::IgnoredAny>(line).is_ok());
                    if whole == Some(false) {
                        break;
                    }
                }
                Some(_) => return Ok(Self::Lines { lines: read_lines(reader, path, begun, limit), bytes }),
            }
            if begun.len() as u64 > limit {
                return Err(too_large(path, "input_bytes", limit));
            }
        }
        let room = limit.saturating_sub(begun.len() as u64);
        let rest = read_at_most(reader, room).map_err(|error| unreadable(path, &error))?;
        let rest = rest.ok_or_else(|| too_large(path, "input_bytes", limit))?;
        begun.push_str(&String::from_utf8(rest).map_err(|_| Stop::NotText(0).problem(path, limit))?);
        let value =
            read_json(&begun, &app.limits).map_err(|error| Problem::invalid(format!("{}: {error}", shown(path))))?;
        Ok(Self::One(value))
    }
}

/// Reads lines ahead, `begun` first. One that is no text, or too long, is told and passed over.
fn read_lines(mut reader: Reader, path: &Path, begun: String, limit: u64) -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let path = path.to_owned();
    // Reading blocks, and stdin may block for ever; the process does not wait for this thread.
    std::thread::spawn(move || {
        let mut number = 0;
        let mut goes_on = |bytes: u64, text: Result<String, Problem>| {
            number += 1;
            let is_blank = text.as_ref().is_ok_and(|text| text.trim().is_empty());
            is_blank || sender.blocking_send(Line { number, bytes, text }).is_ok()
        };
        for line in begun.lines() {
            if !goes_on(line.len() as u64 + 1, Ok(line.to_owned())) {
                return;
            }
        }
        loop {
            let mut line = String::new();
            let goes_on = match read_line(reader.as_mut(), &mut line, limit) {
                Ok(0) => false,
                Ok(bytes) => goes_on(bytes as u64, Ok(line)),
                Err(stop) => {
                    let rest = match &stop {
                        Stop::Unreadable(_) => None,
                        Stop::NotText(bytes) => Some(*bytes),
                        Stop::TooLong { bytes, ended: true } => Some(*bytes),
                        Stop::TooLong { bytes, ended: false } => {
                            skip_line(reader.as_mut()).ok().flatten().map(|rest| bytes + rest)
                        }
                    };
                    goes_on(rest.unwrap_or(0), Err(stop.of_line(&path, limit))) && rest.is_some()
                }
            };
            if !goes_on {
                return;
            }
        }
    });
    receiver
}

/// Why a line cannot be read.
enum Stop {
    Unreadable(std::io::Error),
    /// It is longer than the limit. So many bytes of it were read, and perhaps its end.
    TooLong {
        bytes: u64,
        ended: bool,
    },
    /// It has so many bytes.
    NotText(u64),
}

impl Stop {
    /// Says it of a line whose number is told beside it.
    fn of_line(self, path: &Path, limit: u64) -> Problem {
        match self {
            Self::Unreadable(error) => unreadable(path, &error),
            Self::TooLong { .. } => {
                let raise = raised_by("input_bytes");
                Problem::invalid(format!("it has more than {limit} bytes, the limit `input_bytes`{raise}"))
            }
            Self::NotText(_) => Problem::invalid("it is not UTF-8"),
        }
    }

    fn problem(self, path: &Path, limit: u64) -> Problem {
        match self {
            Self::Unreadable(error) => unreadable(path, &error),
            Self::TooLong { .. } => too_large(path, "input_bytes", limit),
            Self::NotText(_) => Problem::invalid(format!("{} cannot be read: it is not UTF-8", shown(path))),
        }
    }
}

/// Reads a line; one without an end in sight is an error, not a way to fill the memory.
fn read_line(reader: &mut (dyn BufRead + Send), text: &mut String, limit: u64) -> Result<usize, Stop> {
    let mut bytes = Vec::new();
    // The end of the line is no part of it.
    let most = limit.saturating_add(2);
    let count = reader.take(most).read_until(b'\n', &mut bytes).map_err(Stop::Unreadable)?;
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() as u64 > limit {
        return Err(Stop::TooLong { bytes: count as u64, ended: bytes.ends_with(b"\n") });
    }
    text.push_str(&String::from_utf8(bytes).map_err(|_| Stop::NotText(count as u64))?);
    Ok(count)
}

/// Passes over the rest of a line, without keeping it. Returns how many bytes that were; nothing if no end is in sight.
fn skip_line(reader: &mut (dyn BufRead + Send)) -> std::io::Result<Option<u64>> {
    let mut skipped = 0;
    loop {
        if skipped > SKIPPED_MAX {
            return Ok(None);
        }
        let ahead = reader.fill_buf()?;
        let end = ahead.iter().position(|byte| *byte == b'\n');
        let (count, ended) = end.map_or((ahead.len(), ahead.is_empty()), |at| (at + 1, true));
        reader.consume(count);
        skipped += count as u64;
        if ended {
            return Ok(Some(skipped));
        }
    }
}

/// How the ids of runs are made.
#[derive(Clone)]
pub(super) enum Ids {
    /// By flowrun.
    Own,
    /// It is given.
    Literal(String),
    /// From the input.
    Template(Arc<Template>),
}

impl Ids {
    /// Reads `--id`.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, Problem> {
        let Some(text) = text else { return Ok(Self::Own) };
        if !text.contains("{{") {
            return if is_run_id(text) { Ok(Self::Literal(text.to_owned())) } else { Err(bad_id(text)) };
        }
        let (template, errors) = Template::parse(&Value::String(text.to_owned()));
        match errors.first() {
            None => Ok(Self::Template(Arc::new(template))),
            Some((_, error)) => Err(Problem::usage(format!("--id {text}: {error}"))),
        }
    }

    /// Returns the id for a run with this input; nothing if flowrun makes one.
    pub(super) fn of(&self, input: &Value, limits: &Limits) -> Result<Option<String>, Problem> {
        let template = match self {
            Self::Own => return Ok(None),
            Self::Literal(id) => return Ok(Some(id.clone())),
            Self::Template(template) => template,
        };
        let mut scope = Scope::default();
        scope.vars.insert("input".into(), Arc::new(input.clone()));
        let value = template.render(&scope, limits).map_err(|e| Problem::invalid(format!("--id: {e}")))?;
        let id = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            other => return Err(Problem::invalid(format!("--id gives {other}, which is no text"))),
        };
        if is_run_id(&id) {
            Ok(Some(id))
        } else {
            Err(Problem { exit: super::exit_code::ExitCode::Invalid, ..bad_id(&id) })
        }
    }

    /// Tells whether every run would get the same id.
    pub(super) fn is_literal(&self) -> bool {
        matches!(self, Self::Literal(_))
    }
}

fn bad_id(id: &str) -> Problem {
    Problem::usage(format!("`{id}` cannot be the id of a run"))
        .help("An id is 1 to 128 of the characters A-Z a-z 0-9 . _ -")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ids_come_from_the_input() {
        let limits = Limits::default();
        let ids = Ids::parse(Some("{{ input.orderId }}")).expect("a template");
        assert_eq!(ids.of(&json!({ "orderId": "A-1" }), &limits).expect("an id"), Some("A-1".into()));
        assert_eq!(ids.of(&json!({ "orderId": 7 }), &limits).expect("an id"), Some("7".into()));
        assert!(ids.of(&json!({ "orderId": "with space" }), &limits).is_err());
        assert!(ids.of(&json!({}), &limits).is_err());
        assert!(Ids::parse(Some("a b")).is_err());
        assert!(Ids::parse(Some("x-{{ input.a }")).is_err() || Ids::parse(Some("{{ input. }}")).is_err());
    }
}
