//! `db check`: looks at every row of a store and says what is wrong, by run and event.
//!
//! It changes nothing: what redb writes while it opens a file stays in memory. It repairs nothing either.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

use redb::{ReadOnlyTable, ReadTransaction, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _};
use serde::Serialize;

use super::bundle::{bundles, unbundled};
use super::format;
use super::guard::guarded;
use super::journal::{DoneRow, LiveRow, RunRow, StoreError};
use super::open::open_to_look;
use super::tables::{
    self, BREAKERS, BY_RUN, DEFINITIONS, DONE, Fault, IDS, JOURNAL, LIVE, Pointer, hex, run_and_number, run_key,
};
use crate::machine::event::Event;
use crate::names::RunKey;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether the last process to have the store did not close it in order; the next one to open it repairs that.
    pub needs_repair: bool,
    /// Runs that are not final.
    pub live: u64,
    /// Final runs.
    pub done: u64,
    /// Events of all runs.
    pub events: u64,
    /// Pinned definitions.
    pub definitions: u64,
    /// Everything that is wrong, in the order of the runs.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Tells whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, run: impl Into<Option<RunKey>>, event: impl Into<Option<u64>>, message: impl Into<String>) {
        self.problems.push(Problem { run: run.into(), run_id: None, event: event.into(), message: message.into() });
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The run that is affected, if it is one.
    pub run: Option<RunKey>,
    /// The id of that run, if it is known.
    pub run_id: Option<String>,
    /// The number of the event in the run, from 0.
    pub event: Option<u64>,
    /// What is wrong.
    pub message: String,
}

impl Problem {
    /// Returns it for people, with the run's own id where it is known.
    #[must_use]
    pub fn told(&self) -> String {
        let text = self.to_string();
        match (&self.run, &self.run_id) {
            (Some(run), Some(id)) => text.replacen(&run.to_string(), id, 1),
            _ => text,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.run, self.event) {
            (Some(run), Some(event)) => write!(f, "run {run}, event {event}: {}", self.message),
            (Some(run), None) => write!(f, "run {run}: {}", self.message),
            (None, _) => f.write_str(&self.message),
        }
    }
}

/// Computes the fingerprint of a pinned definition; nothing if the bytes are no definition. What a definition is, the
/// store does not know.
pub type Fingerprint = fn(&[u8]) -> Option<[u8; 32]>;

/// Checks the store at `path`.
///
/// # Errors
/// When it cannot be opened at all: it is absent, busy, newer, or so damaged that no row can be reached.
pub fn check(path: impl AsRef<Path>, fingerprint: Fingerprint) -> Result<Report, StoreError> {
    let path = path.as_ref();
    let opened = open_to_look(path, false)?;
    let mut report = Report { needs_repair: opened.repaired || opened.caught_up, ..Report::default() };
    let name = path.display().to_string();
    let tx = opened.database.begin_read().map_err(|e| tables::from_redb(&name, e.into()))?;
    let mut walk = Walk { tx: &tx, report: &mut report, fingerprint };
    // Each part is looked at even if another cannot be read to its end.
    for part in [Walk::events, Walk::summaries, Walk::ids, Walk::definitions, Walk::breakers, Walk::leftovers] {
        let walked = guarded(|| part(&mut walk));
        if let Err(fault) = walked.unwrap_or_else(|panic| Err(Fault::panicked(&panic))) {
            walk.report.problem(None, None, fault.at(&name).to_string());
        }
    }
    for problem in &mut report.problems {
        // What cannot be read here has been told.
        let row = problem.run.and_then(|run| guarded(|| tables::summary(&tx, run)).ok()?.ok()?);
        problem.run_id = row.map(|row| match row {
            RunRow::Live(row) => row.id,
            RunRow::Done(row) => row.id,
        });
    }
    drop(tx);
    let repaired = opened.repaired;
    drop(opened);
    // A file that had to be repaired was read whole for that. One that was closed in order was trusted so far.
    if !repaired && let Err(error) = open_to_look(path, true) {
        report.problem(None, None, error.to_string());
    }
    report.problems.sort_by_key(|problem| (problem.run.is_none(), problem.run, problem.event));
    Ok(report)
}

struct Walk<'a> {
    tx: &'a ReadTransaction,
    report: &'a mut Report,
    fingerprint: Fingerprint,
}

/// What the events of a run say about it.
#[derive(Default)]
struct Told {
    events: u64,
    /// The id and the definition in its first event.
    started: Option<(String, [u8; 32])>,
    /// It has finished, and was perhaps taken up again.
    finished: bool,
    /// It has been taken up again and not finished since.
    taken_up: bool,
}

impl Walk<'_> {
    /// Reads every event, by run, and what the tables say of the run beside them.
    fn events(&mut self) -> Result<(), Fault> {
        let (by_run, journal) = (self.tx.open_table(BY_RUN)?, self.tx.open_table(JOURNAL)?);
        let mut present: Option<(RunKey, Told)> = None;
        for row in by_run.iter()? {
            let (place, row) = row?;
            let (run, number) = run_and_number(place.value());
            let pointer = Pointer::of_bytes(row.value());
            if present.as_ref().is_none_or(|(of, _)| *of != run)
                && let Some((of, told)) = present.replace((run, Told::default()))
            {
                self.run(of, &told)?;
            }
            let (_, told) = present.as_mut().expect("it was just set");
            if number > told.events {
                let last = number - 1;
                let missing = if last == told.events {
                    "it is missing".into()
                } else {
                    format!("it and all up to {last} are missing")
                };
                self.report.problem(run, told.events, missing);
            }
            told.events = number.saturating_add(u64::from(pointer.count));
            self.report.events += u64::from(pointer.count);
            match tables::records_of(&journal, place.value(), pointer) {
                Ok(records) => {
                    for (record, number) in records.iter().zip(number..) {
                        self.event(run, number, record, told);
                    }
                }
                Err(Fault::Damaged(_)) => self.damaged(&journal, run, number, pointer, told)?,
                Err(fault) => return Err(fault),
            }
        }
        if let Some((run, told)) = present {
            self.run(run, &told)?;
        }
        Ok(())
    }

    /// Tells which records of a commit are damaged, as far as that can be seen.
    fn damaged(
        &mut self,
        journal: &ReadOnlyTable<u64, &'static [u8]>,
        run: RunKey,
        first: u64,
        pointer: Pointer,
        told: &mut Told,
    ) -> Result<(), Fault> {
        let records = tables::bundle_of(journal, pointer.sequence, |bundle| {
            let records = bundle.and_then(|bundle| unbundled(bundle, pointer.count)).unwrap_or_default();
            records.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
        })?;
        let one_by_one = records.iter().any(|record| format::decode(record).is_err());
        if one_by_one {
            for (record, number) in records.iter().zip(first..) {
                self.event(run, number, record, told);
            }
            return Ok(());
        }
        let last = first.saturating_add(u64::from(pointer.count).max(1) - 1);
        let message = if last == first {
            "it is not the one that was written, or missing".to_owned()
        } else {
            format!("it and those up to {last} are not the ones that were written, or missing")
        };
        self.report.problem(run, first, message);
        Ok(())
    }

    fn event(&mut self, run: RunKey, number: u64, record: &[u8], told: &mut Told) {
        match format::decode(record).map(|entry| entry.event) {
            Ok(Event::RunStarted(_)) if number > 0 => self.report.problem(run, number, "the run starts a second time"),
            Ok(Event::RunStarted(started)) => told.started = Some((started.id, started.definition)),
            Ok(_) if number == 0 => self.report.problem(run, number, "the run does not begin with its start"),
            Ok(Event::RunFinished(_)) => (told.finished, told.taken_up) = (true, false),
            Ok(Event::CompensateRequested) => told.taken_up = true,
            Ok(_) => {}
            Err(error) => self.report.problem(run, number, error.to_string()),
        }
    }

    /// Holds a run's events against its summary and its definition.
    fn run(&mut self, run: RunKey, told: &Told) -> Result<(), Fault> {
        let id = match tables::summary(self.tx, run) {
            Ok(Some(RunRow::Live(LiveRow { id, .. }))) => {
                if told.finished && !told.taken_up {
                    self.report.problem(run, None, "it has finished, and is listed as unfinished");
                }
                Some(id)
            }
            Ok(Some(RunRow::Done(DoneRow { id, .. }))) => {
                if !told.finished {
                    self.report.problem(run, None, "it is listed as finished, and none of its events says so");
                } else if told.taken_up {
                    self.report.problem(run, None, "it was taken up again, and is listed as finished");
                }
                Some(id)
            }
            Ok(None) => {
                self.report.problem(run, None, "it has events, and is in no list");
                None
            }
            // Told where the summaries are gone through.
            Err(Fault::Damaged(_)) => None,
            Err(fault) => return Err(fault),
        };
        let Some((started_as, definition)) = &told.started else { return Ok(()) };
        if let Some(id) = id.filter(|id| id != started_as) {
            self.report.problem(run, None, format!("it was started as `{started_as}`, and is listed as `{id}`"));
        }
        if self.tx.open_table(DEFINITIONS)?.get(definition)?.is_none() {
            self.report.problem(run, None, format!("its definition {} is missing", hex(definition)));
        }
        Ok(())
    }

    /// Reads every summary.
    fn summaries(&mut self) -> Result<(), Fault> {
        let (live, done, by_run) = (self.tx.open_table(LIVE)?, self.tx.open_table(DONE)?, self.tx.open_table(BY_RUN)?);
        for row in live.iter()? {
            let (key, bytes) = row?;
            let run = run_key(key.value());
            self.report.live += 1;
            if done.get(key.value())?.is_some() {
                self.report.problem(run, None, "it is listed both as unfinished and as finished");
            }
            let id = tables::live_row(run, bytes.value()).map(|row| row.id);
            self.summary(run, id, tables::count(&by_run, run)?)?;
        }
        for row in done.iter()? {
            let (key, bytes) = row?;
            let run = run_key(key.value());
            self.report.done += 1;
            let id = tables::done_row(run, bytes.value()).map(|row| row.id);
            self.summary(run, id, tables::count(&by_run, run)?)?;
        }
        Ok(())
    }

    fn summary(&mut self, run: RunKey, id: Result<String, Fault>, events: u64) -> Result<(), Fault> {
        match id {
            Ok(id) => {
                let owner = self.tx.open_table(IDS)?.get(id.as_str())?.map(|run| run_key(run.value()));
                match owner {
                    Some(owner) if owner == run => {}
                    Some(other) => self.report.problem(run, None, format!("its id `{id}` leads to run {other}")),
                    None => self.report.problem(run, None, format!("its id `{id}` leads nowhere")),
                }
            }
            Err(Fault::Damaged(message)) => self.report.problem(run, None, message),
            Err(fault) => return Err(fault),
        }
        if events == 0 {
            self.report.problem(run, 0, "it is missing, like all others of the run");
        }
        Ok(())
    }

    /// Reads every id.
    fn ids(&mut self) -> Result<(), Fault> {
        let mut seen = BTreeMap::new();
        for row in self.tx.open_table(IDS)?.iter()? {
            let (id, run) = row?;
            let (id, run) = (id.value().to_owned(), run_key(run.value()));
            // An id that leads to a run with another one was told with that run, unless it has no summary.
            if matches!(tables::summary(self.tx, run), Ok(None)) {
                self.report.problem(run, None, format!("the id `{id}` leads to it, and it is in no list"));
            }
            if let Some(other) = seen.insert(run, id.clone()) {
                self.report.problem(run, None, format!("it has two ids, `{other}` and `{id}`"));
            }
        }
        Ok(())
    }

    /// Reads every definition.
    fn definitions(&mut self) -> Result<(), Fault> {
        for row in self.tx.open_table(DEFINITIONS)?.iter()? {
            let (fingerprint, bytes) = row?;
            self.report.definitions += 1;
            let name = hex(fingerprint.value());
            match format::decode_bytes(bytes.value()) {
                Ok(plain) if (self.fingerprint)(&plain).as_ref() == Some(fingerprint.value()) => {}
                Ok(_) => self.report.problem(
                    None,
                    None,
                    format!("definition {name}: it is not the one with this fingerprint"),
                ),
                Err(error) => self.report.problem(None, None, format!("definition {name}: {error}")),
            }
        }
        Ok(())
    }

    /// Reads every breaker's state; what it means is not the store's business.
    fn breakers(&mut self) -> Result<(), Fault> {
        self.tx.open_table(BREAKERS)?.iter()?.try_for_each(|row| row.map(drop).map_err(Fault::from))
    }

    /// Looks for records that no run has.
    fn leftovers(&mut self) -> Result<(), Fault> {
        let (by_run, journal) = (self.tx.open_table(BY_RUN)?, self.tx.open_table(JOURNAL)?);
        let mut commits = 0;
        for row in journal.iter()? {
            commits += bundles(row?.1.value()).count() as u64;
        }
        if by_run.len()? == commits {
            return Ok(());
        }
        let mut known = HashSet::new();
        for row in by_run.iter()? {
            known.insert(Pointer::of_bytes(row?.1.value()).sequence);
        }
        for row in journal.iter()? {
            let (first, row) = row?;
            for (number, _) in (first.value()..).zip(bundles(row.value())) {
                if !known.contains(&number) {
                    self.report.problem(None, None, format!("commit {number} of the journal belongs to no run"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;

    use redb::TableDefinition;
    use sha2::{Digest as _, Sha256};
    use tempfile::TempDir;

    use super::super::bundle::Bundle;
    use super::super::conformance::{done, finish, live, run, wait};
    use super::super::journal::{Commit, Journal as _, StartRow};
    use super::super::open::{OpenOptions, behind_the_back};
    use super::super::redb::RedbStore;
    use super::super::tables::place;
    use super::*;
    use crate::machine::event::{Compensation, Conclusion, Entry, RunStarted, Status};
    use crate::payload::Payload;
    use crate::time::Timestamp;

    /// What stands for the fingerprint of a definition here.
    pub(in super::super) fn sha(bytes: &[u8]) -> Option<[u8; 32]> {
        Some(Sha256::digest(bytes).into())
    }

    /// Returns a row of `journal` with the records of one commit.
    fn row_of(records: &Bundle) -> Bundle {
        [records.bytes()].into_iter().collect()
    }

    fn record(event: Event) -> Vec<u8> {
        format::encode(&Entry { at: Timestamp(1), event })
    }

    pub(in super::super) fn started(n: u128, id: &str) -> Commit {
        let bytes: std::sync::Arc<[u8]> = b"name: order".as_slice().into();
        let definition: [u8; 32] = Sha256::digest(&bytes).into();
        let event = Event::RunStarted(Box::new(RunStarted {
            id: id.into(),
            workflow: "order".into(),
            definition,
            input: Payload::of(serde_json::json!({})),
            salt: [0; 32],
            deadline: None,
        }));
        Commit {
            run: run(n),
            first: 0,
            records: [event, Event::RunInterrupted, Event::RunResumed { clean: true }].map(record).iter().collect(),
            start: Some(StartRow { id: id.into(), live: live(id), definition: (definition, bytes) }),
            finish: None,
            breakers: vec![("gateway".into(), vec![1])],
        }
    }

    /// Returns a closed store with two live runs and a final one.
    pub(in super::super) fn store() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("flowrun.redb");
        let store = RedbStore::open(&path, OpenOptions { create: true }).expect("a new store");
        for (n, id) in [(1, "order-1"), (2, "order-2"), (3, "order-3")] {
            wait(store.commit(started(n, id))).expect("written");
        }
        let conclusion =
            Conclusion { status: Status::Completed, compensation: Compensation::NoneNeeded, output: None, error: None };
        let end = record(Event::RunFinished(Box::new(conclusion)));
        wait(store.commit(finish(run(2), 3, &[&end], done("order-2", Compensation::NoneNeeded)))).expect("written");
        store.close().expect("closed");
        (folder, path)
    }

    /// Changes a store behind flowrun's back and returns what the check says.
    fn after(change: impl FnOnce(&redb::WriteTransaction)) -> Vec<String> {
        let (_folder, path) = store();
        let database = behind_the_back(&path);
        let tx = database.begin_write().expect("a transaction");
        change(&tx);
        tx.commit().expect("changed");
        drop(database);
        let before = std::fs::read(&path).expect("readable");
        let report = check(&path, sha).expect("it opens");
        assert_eq!(std::fs::read(&path).expect("readable"), before, "a check changes nothing");
        report.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_sound_store_is_sound() {
        let (_folder, path) = store();
        let expected = Report { live: 2, done: 1, events: 10, definitions: 1, ..Report::default() };
        assert_eq!(check(&path, sha), Ok(expected));
    }

    #[test]
    fn b20_an_edited_event_is_named() {
        let problems = after(|tx| {
            let mut journal = tx.open_table(JOURNAL).expect("the table");
            let records = tables::bundle_of(&journal, 1, |bundle| {
                let records = unbundled(bundle.expect("the first commit of run 2"), 3).expect("three records");
                records.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
            });
            let mut records = records.expect("readable");
            *records[1].last_mut().expect("it has bytes") ^= 1;
            journal.insert(1, row_of(&records.iter().collect()).bytes()).expect("changed");
        });
        assert_eq!(problems, [format!("run {}, event 1: {}", run(2), format::FormatError::Checksum)]);
    }

    #[test]
    fn a_well_formed_event_in_the_place_of_another_is_named() {
        let problems = after(|tx| {
            let mut journal = tx.open_table(JOURNAL).expect("the table");
            let other = [record(Event::UndoStarted)].iter().collect();
            journal.insert(3, row_of(&other).bytes()).expect("changed");
        });
        let expected = [
            format!("run {}: it is listed as finished, and none of its events says so", run(2)),
            format!("run {}, event 3: it is not the one that was written, or missing", run(2)),
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn missing_events_and_records_without_a_run_are_named() {
        let problems = after(|tx| {
            tx.open_table(BY_RUN).expect("the table").remove(&place(run(2), 0)).expect("changed");
            tx.open_table(JOURNAL).expect("the table").remove(2).expect("changed");
        });
        // By numbers alone nothing is left over: a row is gone, and so is a place.
        let expected = [
            format!("run {}, event 0: it and all up to 2 are missing", run(2)),
            format!("run {}, event 0: it and those up to 2 are not the ones that were written, or missing", run(3)),
        ];
        assert_eq!(problems, expected);

        let problems = after(|tx| {
            tx.open_table(BY_RUN).expect("the table").remove(&place(run(3), 0)).expect("changed");
        });
        let expected = [
            format!("run {}, event 0: it is missing, like all others of the run", run(3)),
            "commit 2 of the journal belongs to no run".to_owned(),
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn lists_and_ids_are_held_against_each_other() {
        let problems = after(|tx| {
            let row = format::encode_row(&done("order-1", Compensation::Complete));
            tx.open_table(DONE).expect("the table").insert(run(1).0.as_bytes(), row.as_slice()).expect("changed");
            tx.open_table(LIVE).expect("the table").remove(run(3).0.as_bytes()).expect("changed");
            tx.open_table(IDS).expect("the table").insert("order-2", run(1).0.as_bytes()).expect("changed");
        });
        let expected = [
            format!("run {}: it is listed both as unfinished and as finished", run(1)),
            format!("run {}: it has two ids, `order-1` and `order-2`", run(1)),
            format!("run {}: its id `order-2` leads to run {}", run(2), run(1)),
            format!("run {}: it has events, and is in no list", run(3)),
            format!("run {}: the id `order-3` leads to it, and it is in no list", run(3)),
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn summaries_must_fit_the_events() {
        let problems = after(|tx| {
            let mut live = tx.open_table(LIVE).expect("the table");
            live.remove(run(1).0.as_bytes()).expect("changed");
            let row = format::encode_row(&done("order-1", Compensation::Complete));
            tx.open_table(DONE).expect("the table").insert(run(1).0.as_bytes(), row.as_slice()).expect("changed");
            live.insert(run(3).0.as_bytes(), [0; 20].as_slice()).expect("changed");
        });
        let expected = [
            format!("run {}: it is listed as finished, and none of its events says so", run(1)),
            format!("run {0}: run {0}, row in `live`: the record has format 0, this flowrun knows 1", run(3)),
        ];
        assert_eq!(problems, expected);
    }

    /// A run that was taken up again goes on only if it is listed as unfinished.
    #[test]
    fn a_run_that_was_taken_up_again_is_not_listed_as_finished() {
        let (_folder, path) = store();
        let row = format::encode_row(&done("order-2", Compensation::Incomplete));
        let opened = RedbStore::open(&path, OpenOptions::default()).expect("the store");
        let again = Commit {
            run: run(2),
            first: 4,
            records: [record(Event::CompensateRequested)].iter().collect(),
            start: None,
            finish: None,
            breakers: Vec::new(),
        };
        wait(opened.commit(again)).expect("written");
        opened.close().expect("closed");
        assert_eq!(check(&path, sha).map(|report| (report.live, report.is_sound())), Ok((3, true)));
        let database = behind_the_back(&path);
        let tx = database.begin_write().expect("a transaction");
        tx.open_table(LIVE).expect("the table").remove(run(2).0.as_bytes()).expect("changed");
        tx.open_table(DONE).expect("the table").insert(run(2).0.as_bytes(), row.as_slice()).expect("changed");
        tx.commit().expect("changed");
        drop(database);
        let problems: Vec<String> =
            check(&path, sha).expect("it opens").problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, [format!("run {}: it was taken up again, and is listed as finished", run(2))]);
    }

    /// No number that damage can make of a pointer or a key ends a reader, or keeps it busy.
    #[test]
    fn pointers_of_any_number_are_damage_and_nothing_else() {
        for (count, sequence) in [(0, 1), (1, 1), (4, 1), (u32::MAX, 1), (3, u64::MAX), (3, 0)] {
            let (_folder, path) = store();
            let database = behind_the_back(&path);
            let tx = database.begin_write().expect("a transaction");
            {
                let mut by_run = tx.open_table(BY_RUN).expect("the table");
                let changed = Pointer::new(&place(run(2), 0), sequence, count, 7);
                by_run.insert(&place(run(2), 0), &changed.to_bytes()).expect("changed");
                let far = Pointer::new(&place(run(3), u64::MAX), sequence, count, 7);
                by_run.insert(&place(run(3), u64::MAX), &far.to_bytes()).expect("changed");
            }
            tx.commit().expect("changed");
            drop(database);
            let report = check(&path, sha).expect("it opens");
            assert!(report.problems.iter().any(|p| p.run == Some(run(2)) && p.event == Some(0)), "{count} {report:?}");
            assert!(report.problems.iter().any(|p| p.run == Some(run(3)) && p.event == Some(3)), "{count} {report:?}");
            let store = RedbStore::open(&path, OpenOptions::default()).expect("the store");
            assert!(matches!(store.records(run(2)), Err(StoreError::Corrupt { .. })));
            assert!(matches!(store.records(run(3)), Err(StoreError::Corrupt { .. })));
            for from in [0, 1, 2, 3, 4, u64::MAX] {
                for run in [run(2), run(3)] {
                    let read = store.records_from(run, from, 1);
                    assert!(matches!(read, Ok(_) | Err(StoreError::Corrupt { .. })), "{from} {read:?}");
                    assert!(!format!("{read:?} {report:?}").contains("overflow"), "{from} {read:?} {report:?}");
                }
            }
            assert_eq!(store.records(run(1)).map(|records| records.len()), Ok(3));
        }
    }

    #[test]
    fn records_are_read_from_any_place_of_a_commit() {
        let (_folder, path) = store();
        let store = RedbStore::open(&path, OpenOptions::default()).expect("the store");
        let all = store.records(run(2)).expect("readable");
        assert_eq!(all.len(), 4);
        for from in 0..6 {
            let rest = all.get(from..).unwrap_or_default().to_vec();
            assert_eq!(store.records_from(run(2), from as u64, usize::MAX), Ok(rest.clone()), "from {from}");
            // A page is a commit at least, however small it is meant to be.
            let page = store.records_from(run(2), from as u64, 0).expect("readable");
            assert!(rest.starts_with(&page) && page.is_empty() == rest.is_empty(), "from {from}");
        }
        assert_eq!(store.records_from(run(2), u64::MAX, 1), Ok(vec![]));
        assert_eq!(store.records_from(run(9), 0, 1), Ok(vec![]));
    }

    #[test]
    fn definitions_must_be_there_and_have_their_fingerprint() {
        let problems = after(|tx| {
            let mut definitions = tx.open_table(DEFINITIONS).expect("the table");
            let key: [u8; 32] = Sha256::digest(b"name: order").into();
            definitions.remove(&key).expect("changed");
            definitions.insert(&[7; 32], format::encode_bytes(b"name: other").as_slice()).expect("changed");
        });
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[0].starts_with(&format!("run {}: its definition ", run(1))), "{problems:?}");
        assert!(problems[3].ends_with("it is not the one with this fingerprint"), "{problems:?}");
    }

    #[test]
    fn a_missing_table_does_not_hide_the_rest() {
        let problems = after(|tx| {
            assert!(tx.delete_table(TableDefinition::<&str, &[u8]>::new("breakers")).expect("changed"));
        });
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].ends_with("table `breakers` is missing"), "{problems:?}");
    }

    #[test]
    fn a_store_that_was_not_closed_is_looked_at_without_repairing_it() {
        let (folder, path) = store();
        let open = RedbStore::open(&path, OpenOptions::default()).expect("the store");
        wait(open.commit(started(4, "order-4"))).expect("written");
        let copy = folder.path().join("copy.redb");
        std::fs::copy(&path, &copy).expect("copied");
        assert_eq!(check(&path, sha), Err(StoreError::Busy { path: path.display().to_string() }));

        let before = std::fs::read(&copy).expect("readable");
        let report = check(&copy, sha).expect("it opens");
        assert_eq!((report.needs_repair, report.live, report.is_sound()), (true, 3, true));
        assert_eq!(std::fs::read(&copy).expect("readable"), before);
    }
}
