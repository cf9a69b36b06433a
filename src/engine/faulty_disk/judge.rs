//! What must be true of a run after any crash: of the disk that is found, of the life that goes on, and of its end.

use std::collections::BTreeMap;

use super::life::{Life, Past, listed, live, name_of_call, records};
use super::story::{Story, parts};
use crate::engine::report::RunReport;
use crate::handlers::LedgerEntry;
use crate::machine::event::{CallId, Entry, Event};
use crate::store::fault::FaultDisk;
use crate::store::format;
use crate::store::journal::Journal as _;
use crate::store::redb::RedbStore;

/// How the run of a story ends if nothing goes wrong.
#[derive(Debug)]
pub(super) struct Calm {
    report: RunReport,
    effects: BTreeMap<String, usize>,
}

impl Calm {
    /// Returns the end of a life in which nothing went wrong.
    pub(super) fn of(life: &Life) -> Self {
        let report = life.end.as_ref().expect("nothing went wrong").clone();
        Self { report, effects: effects(&life.ledger) }
    }
}

/// Counts effects. That a call was ruled out is none.
fn effects(ledger: &[LedgerEntry]) -> BTreeMap<String, usize> {
    let mut effects = BTreeMap::new();
    for entry in ledger.iter().filter(|entry| entry.effect != "blocked") {
        *effects.entry(format!("{} {:?}", entry.effect, entry.amount)).or_default() += 1;
    }
    effects
}

fn entries(records: &[Vec<u8>]) -> Result<Vec<Entry>, String> {
    records.iter().map(|record| format::decode(record).map_err(|e| e.to_string())).collect()
}

/// Counts the attempts that a journal has the start of.
fn starts(entries: &[Entry]) -> BTreeMap<String, usize> {
    let mut starts = BTreeMap::new();
    for entry in entries {
        if let Event::CallStarted { call, via, .. } = &entry.event {
            let CallId { place, kind, .. } = call;
            *starts.entry(name_of_call(*kind, place.step.as_str(), place.item, via.as_str())).or_default() += 1;
        }
    }
    starts
}

/// Returns a call that was made more often than its start was recorded.
fn unrecorded(calls: &[String], entries: &[Entry]) -> Option<String> {
    let mut left = starts(entries);
    let mut was_recorded = |call: &String| match left.get_mut(call) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    };
    calls.iter().find(|call| !was_recorded(call)).cloned()
}

/// What the next process sees of a disk. The engine knows a store by its trait alone, so two disks of which it sees the
/// same lead to the same life.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    events: usize,
    breakers: Vec<(String, Vec<u8>)>,
}

/// Opens `image` in a world that knows `past`, and says what is wrong with what is there.
pub(super) fn look(story: &Story, image: Vec<u8>, past: &Past) -> Result<Seen, String> {
    let store = RedbStore::with_backend(FaultDisk::holding(image)).map_err(|e| format!("it does not open: {e}"))?;
    let found = records(&store, story.id).map_err(|e| format!("it cannot be read: {e}"))?;
    kept(&found, past)?;
    listed(&store, story.id)?;
    let unpinned = |e| format!("the run's definition is not there: {e}");
    if !found.is_empty() {
        store.definition(parts().workflow.fingerprint).map_err(unpinned)?;
    }
    Ok(Seen { events: found.len(), breakers: store.breakers().map_err(|e| e.to_string())? })
}

/// Lets the next process find `image` in a world that knows `past`, and says what is wrong with what follows.
pub(super) fn after_crash(story: &Story, calm: &Calm, image: Vec<u8>, past: &Past) -> Result<Life, String> {
    let disk = FaultDisk::holding(image);
    let life = live(story, &disk, past.clone()).map_err(|error| format!("it does not open: {error}"))?;
    kept(&life.found, past)?;
    went_on(&life)?;
    ended_well(&life, calm)?;
    Ok(life)
}

/// Holds what was found on the disk to what the world knows.
fn kept(found: &[Vec<u8>], past: &Past) -> Result<(), String> {
    let Past { records, acknowledged, .. } = past;
    if found.len() < *acknowledged {
        return Err(format!("{acknowledged} events were acknowledged, and {} are there", found.len()));
    }
    if !records.starts_with(found) {
        return Err("an event is not the one that was written".to_owned());
    }
    if let Some(call) = unrecorded(&past.calls, &entries(found)?) {
        return Err(format!("`{call}` was called, and its start is not recorded"));
    }
    Ok(())
}

/// Holds a life to what it found.
fn went_on(life: &Life) -> Result<(), String> {
    life.end.as_ref().map_err(|error| format!("it does not go on: {error}"))?;
    life.listed.clone()?;
    if !life.records.starts_with(&life.found) {
        return Err("an event was changed afterwards".to_owned());
    }
    let entries = entries(&life.records)?;
    if let Some(call) = unrecorded(&life.calls, &entries) {
        return Err(format!("`{call}` was called more often than it was started"));
    }
    let done = entries.iter().enumerate().filter_map(|(at, entry)| match &entry.event {
        Event::CallSucceeded { call, .. } => Some((at, call)),
        _ => None,
    });
    for (at, done) in done {
        let again = entries[at..].iter().any(|e| matches!(&e.event, Event::CallStarted { call, .. } if call == done));
        if again {
            return Err(format!("`{}` was started again after it was done", done.place));
        }
    }
    Ok(())
}

fn ended_well(life: &Life, calm: &Calm) -> Result<(), String> {
    let report = life.end.as_ref().map_err(ToString::to_string)?;
    let essence = |report: &RunReport| {
        let error = report.error.as_ref().map(|error| (error.code.clone(), error.step.clone()));
        let via: Vec<_> =
            report.steps.iter().map(|(name, s)| (name.clone(), s.status.clone(), s.via.clone())).collect();
        let RunReport { status, compensation, output, undone, .. } = report.clone();
        (status, compensation, output, error, undone, via)
    };
    let (is, should) = (essence(report), essence(&calm.report));
    if is != should {
        return Err(format!("it ends as {is:?}, and without a crash as {should:?}"));
    }
    let effects = effects(&life.ledger);
    if effects != calm.effects {
        return Err(format!("its effects are {effects:?}, and without a crash {:?}", calm.effects));
    }
    let mut once = std::collections::BTreeSet::new();
    match life.ledger.iter().find(|entry| !once.insert((&entry.effect, &entry.key))) {
        Some(entry) if entry.effect != "blocked" => Err(format!("`{}` happened twice with one key", entry.effect)),
        _ => Ok(()),
    }
}
