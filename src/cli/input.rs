//! The input of `exec`: one JSON document, or JSON Lines read one after the other.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;

use super::app::{App, shown, unreadable};
use super::problem::Problem;
use crate::dsl::json::read_json;
use crate::limits::Limits;
use crate::names::is_run_id;
use crate::template::{Scope, Template};

/// How many lines are read ahead.
const AHEAD: usize = 64;

/// What `exec` is to run.
pub(super) enum Input {
    /// One document.
    One(Value),
    /// Lines with their numbers, from 1; a line that cannot be read is the last.
    Lines(mpsc::Receiver<(u64, Result<String, Problem>)>),
}

type Reader = Box<dyn BufRead + Send>;

impl Input {
    /// Opens an input. JSON Lines are known by the file's name (`.jsonl`, `.ndjson`), or by a first line that is a
    /// whole document with another one after it.
    pub(super) fn open(app: &App, path: Option<&Path>) -> Result<Self, Problem> {
        let Some(path) = path else { return Ok(Self::One(Value::Object(serde_json::Map::new()))) };
        let mut reader: Reader = if path.as_os_str() == "-" {
            Box::new(BufReader::new(std::io::stdin()))
        } else {
            let file = File::open(path).map_err(|error| unreadable(path, &error))?;
            if file.metadata().is_ok_and(|meta| meta.is_dir()) {
                return Err(Problem::invalid(format!("{} is a folder", shown(path))));
            }
            Box::new(BufReader::new(file))
        };
        let by_name = path.extension().is_some_and(|ext| ext == "jsonl" || ext == "ndjson");
        if by_name {
            return Ok(Self::lines(reader, path, Vec::new()));
        }
        let mut begun = Vec::new();
        let mut first = String::new();
        let read = |text: &mut String, reader: &mut Reader| {
            read_line(reader.as_mut(), text).map_err(|error| unreadable(path, &error))
        };
        while first.trim().is_empty() && read(&mut first, &mut reader)? > 0 {}
        let whole = serde_json::from_str::<serde::de::IgnoredAny>(&first).is_ok();
        begun.push(first);
        if whole {
            loop {
                let mut next = String::new();
                if read(&mut next, &mut reader)? == 0 {
                    break;
                }
                let blank = next.trim().is_empty();
                begun.push(next);
                if !blank {
                    return Ok(Self::lines(reader, path, begun));
                }
            }
        }
        let mut text = begun.concat();
        reader.read_to_string(&mut text).map_err(|error| unreadable(path, &error))?;
        let value =
            read_json(&text, &app.limits).map_err(|error| Problem::invalid(format!("{}: {error}", shown(path))))?;
        Ok(Self::One(value))
    }

    fn lines(mut reader: Reader, path: &Path, begun: Vec<String>) -> Self {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let path = path.to_owned();
        // Reading blocks, and stdin may block for ever; the process does not wait for this thread.
        std::thread::spawn(move || {
            let mut number = 0;
            // A text may hold the lines before the first one that is not blank.
            let begun = begun.concat();
            for line in begun.lines() {
                number += 1;
                if !line.trim().is_empty() && sender.blocking_send((number, Ok(line.to_owned()))).is_err() {
                    return;
                }
            }
            loop {
                let mut line = String::new();
                number += 1;
                let read = read_line(reader.as_mut(), &mut line);
                let sent = match read {
                    Ok(0) => return,
                    Ok(_) if line.trim().is_empty() => continue,
                    Ok(_) => sender.blocking_send((number, Ok(line))),
                    Err(error) => {
                        let _ = sender.blocking_send((number, Err(unreadable(&path, &error))));
                        return;
                    }
                };
                if sent.is_err() {
                    return;
                }
            }
        });
        Self::Lines(receiver)
    }
}

/// Reads a line; one without an end in sight is an error, not a way to fill the memory.
fn read_line(reader: &mut (dyn BufRead + Send), text: &mut String) -> std::io::Result<usize> {
    const LINE_MAX: u64 = 64 << 20;
    let mut bytes = Vec::new();
    let count = reader.take(LINE_MAX).read_until(b'\n', &mut bytes)?;
    if count as u64 == LINE_MAX {
        return Err(std::io::Error::other("a line is longer than 64 MiB"));
    }
    let line = String::from_utf8(bytes).map_err(|_| std::io::Error::other("it is not UTF-8"))?;
    text.push_str(&line);
    Ok(count)
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
