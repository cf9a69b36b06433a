//! What every verb is given: the handlers, the options, the two streams.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::args::{Global, Verb};
use super::output::screen::Screen;
use super::problem::Problem;
use crate::dsl::json::read_json;
use crate::handlers::{Contracts, Registry};
use crate::limits::Limits;
use crate::suggest::nearest;
use crate::teeth::{Bug, awake};

/// What every verb is given.
#[derive(Clone)]
pub(super) struct App {
    pub(super) registry: Registry,
    pub(super) contracts: Contracts,
    pub(super) global: Global,
    pub(super) limits: Limits,
    pub(super) screen: Screen,
}

impl App {
    pub(super) fn new(registry: Registry, global: Global, verb: &Verb, screen: Screen) -> Result<Self, Problem> {
        let registry = registry
            .finish()
            .map_err(|problems| Problem::bug("the handlers of this program do not fit together").details(problems))?;
        let mut limits = Limits::default();
        for text in &global.limits {
            match text.split_once('=') {
                Some((name, value)) => {
                    let value = value.parse::<u64>();
                    let value = value
                        .map_err(|_| Problem::usage(format!("--limit {text}: the value must be a whole number")))?;
                    limits.set(name, value).map_err(|why| Problem::usage(format!("--limit {text}: {why}")))?;
                }
                // The number of runs that `list` shows.
                None if matches!(verb, Verb::List(_)) && text.parse::<usize>().is_ok() => {}
                None => {
                    let or = if matches!(verb, Verb::List(_)) { ", the number of runs to list as N" } else { "" };
                    return Err(Problem::usage(format!("--limit {text}: a limit is given as NAME=N{or}"))
                        .help(format!("The limits are {}.", Limits::NAMES.join(", "))));
                }
            }
        }
        Ok(Self { contracts: registry.contracts(), registry, global, limits, screen })
    }

    /// Reads a JSON file strictly; `-` is stdin.
    pub(super) fn read_json(&self, path: &Path) -> Result<Value, Problem> {
        let text = read_text(path, "input_bytes", self.limits.input_bytes)?;
        read_json(&text, &self.limits).map_err(|error| Problem::invalid(format!("{}: {error}", shown(path))))
    }
}

/// Reads a whole text file of at most `limit` bytes, which is the limit called `name`; `-` is stdin.
pub(super) fn read_text(path: &Path, name: &str, limit: u64) -> Result<String, Problem> {
    let bytes = if path.as_os_str() == "-" {
        read_at_most(std::io::stdin().lock(), limit)
    } else {
        std::fs::File::open(path).and_then(|file| read_at_most(file, limit))
    };
    let bytes = bytes.map_err(|error| unreadable(path, &error))?;
    let bytes = bytes.ok_or_else(|| too_large(path, name, limit))?;
    String::from_utf8(bytes).map_err(|_| Problem::invalid(format!("{}: the file is not UTF-8", shown(path))))
}

/// Reads to the end; nothing if that is not reached within `limit` bytes.
pub(super) fn read_at_most(reader: impl Read, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let limit = if awake(Bug::InputReadToItsEnd) { u64::MAX } else { limit };
    reader.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// Returns the problem of a file that is larger than the limit called `name`.
pub(super) fn too_large(path: &Path, name: &str, limit: u64) -> Problem {
    Problem::invalid(format!("{} has more than {limit} bytes, the limit `{name}`", shown(path)))
        .help(format!("Raise the limit with `--limit {name}=N`."))
}

/// Returns the problem of a file that cannot be read.
pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    if error.kind() != std::io::ErrorKind::NotFound {
        return Problem::invalid(format!("{} cannot be read: {}", shown(path), io_message(error)));
    }
    let problem = Problem::invalid(format!("there is no file {}", shown(path)));
    match beside(path) {
        Some(meant) => problem.help(format!("Did you mean `{}`?", meant.display())),
        None => problem,
    }
}

/// Returns the file in the same folder whose name is the nearest to the one that is missing.
pub(super) fn beside(path: &Path) -> Option<PathBuf> {
    let missing = path.file_name()?.to_str()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).filter(|entry| entry.path().is_file());
    let mut names: Vec<String> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    nearest(missing, names.iter().map(String::as_str)).map(|name| path.with_file_name(name))
}

/// Returns what the system says of an error, without the number that it also has.
fn io_message(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Returns a path as it is named in messages.
pub(super) fn shown(path: &Path) -> String {
    if path.as_os_str() == "-" { "stdin".to_owned() } else { path.display().to_string() }
}
