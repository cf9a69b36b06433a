//! Every event of every run, a page at a time, for programs.
//!
//! A page is asked for by where the last one ended, so it does not matter who answers it: the process that holds the
//! store may change in between. Each run is as it was when its page was read.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::view::View;
use super::{EngineError, secrets};
use crate::machine::event::{Event, RunStarted};
use crate::machine::history;
use crate::names::RunKey;
use crate::store::format;
use crate::store::journal::StoreError;
use crate::teeth::{Bug, awake};

/// How many bytes of records are read at once.
const READ: usize = 256 << 10;

/// Where an export goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportAt {
    /// The run.
    pub run: RunKey,
    /// The number of its next event.
    pub next: u64,
}

/// A page of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Events, each one JSON object in one line.
    pub lines: Vec<String>,
    /// Runs that begin in this page.
    pub runs: u64,
    /// What cannot be read and is left out.
    pub unreadable: Vec<String>,
    /// Where the next page begins; nothing after the last.
    pub next: Option<ExportAt>,
}

impl View {
    /// Returns events of all runs, newest run first, or of one: about so many bytes of them, from `at` on.
    ///
    /// # Errors
    /// When the store cannot be read. A run that is damaged is left out from there on, and named in the page.
    pub fn export(&self, only: Option<RunKey>, at: Option<ExportAt>, bytes: usize) -> Result<Exported, EngineError> {
        let journal = self.library().journal();
        let mut page = Exported::default();
        let mut room = Some(bytes);
        let mut at = match at {
            Some(at) if awake(Bug::ExportRepeats) => Some(ExportAt { run: at.run, next: 0 }),
            Some(at) => Some(at),
            None => {
                let first = if only.is_some() { only } else { journal.run_before(None)? };
                first.map(|run| ExportAt { run, next: 0 })
            }
        };
        while let Some(mut here) = at {
            match self.export_run(&mut here, &mut page, &mut room) {
                Ok(true) => {}
                Ok(false) => {
                    page.next = Some(here);
                    return Ok(page);
                }
                Err(error) if error.is_of_one_run() => {
                    page.unreadable.push(format!("run {} from event {} on: {error}", here.run, here.next))
                }
                Err(other) => return Err(other),
            }
            let older = if only.is_some() { None } else { journal.run_before(Some(here.run))? };
            at = older.map(|run| ExportAt { run, next: 0 });
        }
        Ok(page)
    }

    /// Adds events of a run while there is room. Tells whether that were all.
    fn export_run(
        &self,
        at: &mut ExportAt,
        page: &mut Exported,
        room: &mut Option<usize>,
    ) -> Result<bool, EngineError> {
        let journal = self.library().journal();
        let Some(first) = journal.records_from(at.run, 0, 0)?.into_iter().next() else { return Ok(true) };
        let started = started(at.run, &first)?;
        let plan = self.library().plan(started.definition)?;
        if at.next == 0 {
            page.runs += 1;
        }
        loop {
            let records = journal.records_from(at.run, at.next, READ)?;
            if records.is_empty() {
                return Ok(true);
            }
            for record in records {
                if room.is_none() {
                    return Ok(false);
                }
                let entry = format::decode(&record).map_err(|e| damaged(at.run, e.to_string()))?;
                let event = history::to_json(at.next, &entry);
                let event = if awake(Bug::ExportedPlaceholders) {
                    event
                } else {
                    secrets::without_placeholders(&event, &plan, &started.salt)
                };
                let line = line(&started.id, event);
                *room = room.and_then(|room| room.checked_sub(line.len()));
                page.lines.push(line);
                at.next += 1;
            }
        }
    }
}

fn damaged(run: RunKey, what: String) -> EngineError {
    EngineError::Store(StoreError::Corrupt { path: "the store".to_owned(), message: format!("run {run}: {what}") })
}

fn started(run: RunKey, record: &[u8]) -> Result<RunStarted, EngineError> {
    match format::decode(record).map(|entry| entry.event) {
        Ok(Event::RunStarted(started)) => Ok(*started),
        Ok(_) => Err(EngineError::Bug(format!("run {run} does not begin with `run_started`"))),
        Err(error) => Err(damaged(run, error.to_string())),
    }
}

/// Returns an event as a line, with the run that it belongs to.
fn line(id: &str, event: Value) -> String {
    let mut whole = Map::new();
    whole.insert("v".into(), 1.into());
    whole.insert("run_id".into(), id.into());
    if let Value::Object(event) = event {
        whole.extend(event);
    }
    Value::Object(whole).to_string()
}
