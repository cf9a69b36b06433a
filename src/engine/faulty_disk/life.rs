//! One life of the process after another over one disk, with everything noted that a crash is judged by.
//!
//! All of a life happens on one thread, in an order that is the same every time. What the world knows, besides the
//! disk, is noted into the disk's own log: so for every write it is known what had been done and acknowledged before.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;

use super::story::{BEGIN, ID, Story, parts, services_after};
use crate::engine::report::RunReport;
use crate::engine::{Engine, EngineError, EngineOptions, Moment, Patience, Submission};
use crate::faults::CallFacts;
use crate::handlers::{Handlers, LedgerEntry};
use crate::machine::event::CallKind;
use crate::names::RunKey;
use crate::store::conformance::wait;
use crate::store::fault::{FaultDisk, Op};
use crate::store::journal::{Commit, Committed, Journal, LiveRow, RunRow, StoreError};
use crate::store::redb::RedbStore;
use crate::time::{Clock, Timestamp, VirtualClock};

/// How often other tasks get their turn before a commit is written: more often than any of them needs to come to an
/// end, so that whatever does not wait for the commit is done before it.
const TURNS: usize = 16;

/// What the world knows at some moment, besides what is on the disk.
#[derive(Clone, Debug)]
pub(super) struct Past {
    pub(super) now: Timestamp,
    /// The records of the run, and how many of them had been acknowledged; the others may be on the disk or not.
    pub(super) records: Vec<Vec<u8>>,
    pub(super) acknowledged: usize,
    /// Which calls had been made.
    pub(super) calls: Vec<String>,
    pub(super) ledger: Vec<LedgerEntry>,
}

impl Past {
    /// Returns what is known before anything happens.
    pub(super) fn none() -> Self {
        Self { now: BEGIN, records: Vec::new(), acknowledged: 0, calls: Vec::new(), ledger: Vec::new() }
    }
}

/// How much there was of everything, at a moment that the disk's log knows by the note's number.
#[derive(Clone, Copy, Debug)]
struct Note {
    now: Timestamp,
    acknowledged: usize,
    calls: usize,
    effects: usize,
}

/// What was noted so far.
#[derive(Debug)]
struct Notes {
    notes: Vec<Note>,
    calls: Vec<String>,
    current: Note,
}

/// Notes what happens, into the disk's log.
#[derive(Clone)]
struct Notary {
    disk: FaultDisk,
    handlers: Handlers,
    clock: Arc<Mutex<Arc<dyn Clock>>>,
    notes: Arc<Mutex<Notes>>,
}

impl Notary {
    fn note(&self, change: impl FnOnce(&mut Notes)) {
        let mut notes = self.notes.lock();
        change(&mut notes);
        notes.current.now = self.clock.lock().now();
        let current = notes.current;
        notes.notes.push(current);
        self.disk.mark(notes.notes.len() - 1);
    }

    fn attempt(&self, call: &CallFacts<'_>, moment: Moment) {
        match moment {
            Moment::Before => self.note(|notes| {
                notes.calls.push(name_of_call(call.kind, call.step.as_str(), call.item, call.member.as_str()));
                notes.current.calls = notes.calls.len();
            }),
            Moment::After => {
                let effects = ledger(&self.handlers).len();
                self.note(|notes| notes.current.effects = effects);
            }
            Moment::Fault => {}
        }
    }
}

/// Names a call, whichever attempt it is.
pub(super) fn name_of_call(kind: CallKind, step: &str, item: Option<u32>, member: &str) -> String {
    format!("{kind:?} {step} {item:?} {member}")
}

fn ledger(handlers: &Handlers) -> Vec<LedgerEntry> {
    handlers.ledger().expect("the services keep one").entries(None).expect("it is in memory")
}

/// A store that is written to while nothing else happens, so that a life is the same every time.
struct InTurn {
    store: Arc<RedbStore>,
    notary: Notary,
}

impl Journal for InTurn {
    fn commit(&self, commit: Commit) -> Committed {
        let (store, notary) = (Arc::clone(&self.store), self.notary.clone());
        Box::pin(async move {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            notary.note(|_| {});
            wait(store.commit(commit))
        })
    }

    fn store_id(&self) -> [u8; 16] {
        self.store.store_id()
    }

    fn records(&self, run: RunKey) -> Result<Vec<Vec<u8>>, StoreError> {
        self.store.records(run)
    }

    fn definition(&self, fingerprint: [u8; 32]) -> Result<Arc<[u8]>, StoreError> {
        self.store.definition(fingerprint)
    }

    fn run_by_id(&self, id: &str) -> Result<Option<RunKey>, StoreError> {
        self.store.run_by_id(id)
    }

    fn runs_by_prefix(&self, prefix: &str, most: usize) -> Result<Vec<RunKey>, StoreError> {
        self.store.runs_by_prefix(prefix, most)
    }

    fn live(&self) -> Result<Vec<(RunKey, LiveRow)>, StoreError> {
        self.store.live()
    }

    fn run(&self, run: RunKey) -> Result<Option<RunRow>, StoreError> {
        self.store.run(run)
    }

    fn runs(&self, before: Option<RunKey>, most: usize) -> Result<Vec<(RunKey, RunRow)>, StoreError> {
        self.store.runs(before, most)
    }

    fn breakers(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.store.breakers()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.store.close()
    }
}

/// What was lived through.
#[derive(Debug)]
pub(super) struct Life {
    past: Past,
    /// What was on the disk when it began.
    pub(super) before: Vec<u8>,
    /// What was done to the disk.
    pub(super) log: Vec<Op>,
    notes: Vec<Note>,
    /// The run's records when it began, and when it ended.
    pub(super) found: Vec<Vec<u8>>,
    pub(super) records: Vec<Vec<u8>>,
    /// All calls and effects that there ever were.
    pub(super) calls: Vec<String>,
    pub(super) ledger: Vec<LedgerEntry>,
    /// How the run ended, or what ended the process.
    pub(super) end: Result<RunReport, EngineError>,
    /// What the engine says of its store.
    pub(super) halted: Option<StoreError>,
}

impl Life {
    /// Returns what the world knew at the moment of a note.
    pub(super) fn past_at(&self, note: Option<usize>) -> Past {
        let Some(note) = note.map(|note| self.notes[note]) else {
            return Past { records: self.records.clone(), ..self.past.clone() };
        };
        Past {
            now: note.now,
            records: self.records.clone(),
            acknowledged: note.acknowledged,
            calls: self.calls[..note.calls].to_vec(),
            ledger: self.ledger[..note.effects].to_vec(),
        }
    }
}

/// Lets processes live over `disk` until the run of the story has ended.
pub(super) fn live(story: &Story, disk: &FaultDisk, past: Past) -> Result<Life, StoreError> {
    let before = disk.image();
    let from = disk.log().len();
    let handlers = services_after(past.ledger.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let current =
        Note { now: past.now, acknowledged: past.acknowledged, calls: past.calls.len(), effects: past.ledger.len() };
    let notes = Notes { notes: Vec::new(), calls: past.calls.clone(), current };
    let clock: Arc<dyn Clock> = {
        let _inside = runtime.enter();
        Arc::new(VirtualClock::starting_at(past.now))
    };
    let notary = Notary {
        disk: disk.clone(),
        handlers: handlers.clone(),
        clock: Arc::new(Mutex::new(Arc::clone(&clock))),
        notes: Arc::new(Mutex::new(notes)),
    };
    let mut store = Arc::new(RedbStore::with_backend(disk.clone())?);
    let found = records(&store)?;
    let mut stops = story.stopped && past.records.is_empty();
    let (end, halted) = loop {
        let journal = Arc::new(InTurn { store: Arc::clone(&store), notary: notary.clone() });
        let (end, halted) = runtime.block_on(one(story, journal, &notary, &mut stops));
        let stopped = matches!(end, Ok(None));
        if !stopped {
            break (end.map(|report| report.expect("it was not stopped")), halted);
        }
        if let Err(error) = store.close() {
            break (Err(error.into()), halted);
        }
        drop(store);
        store = Arc::new(RedbStore::with_backend(disk.clone())?);
    };
    // Whatever is still under way must not be heard of any more.
    drop(runtime);
    let records = if end.is_ok() { records(&store)? } else { Vec::new() };
    drop(store);
    let ledger = ledger(&handlers);
    let notes = std::mem::replace(&mut *notary.notes.lock(), Notes { notes: Vec::new(), calls: Vec::new(), current });
    let log = disk.log().split_off(from);
    Ok(Life { past, before, log, notes: notes.notes, found, records, calls: notes.calls, ledger, end, halted })
}

fn records(store: &RedbStore) -> Result<Vec<Vec<u8>>, StoreError> {
    store.run_by_id(ID)?.map_or_else(|| Ok(Vec::new()), |run| store.records(run))
}

/// One process: until the run has ended, or until it is stopped while the run waits.
async fn one(
    story: &Story,
    journal: Arc<InTurn>,
    notary: &Notary,
    stops: &mut bool,
) -> (Result<Option<RunReport>, EngineError>, Option<StoreError>) {
    let (acknowledge, watch) = (notary.clone(), notary.clone());
    let options = EngineOptions {
        limits: parts().limits.clone(),
        faults: Some(Arc::clone(&story.faults)),
        observer: Some(Arc::new(move |recorded| {
            let acknowledged = usize::try_from(recorded.seq + 1).expect("few events");
            acknowledge.note(|notes| notes.current.acknowledged = acknowledged);
        })),
        watch: Some(Arc::new(move |call, moment| {
            watch.attempt(call, moment);
            false
        })),
        seed: Some(1),
        lockstep: Some(Duration::from_secs(30)),
        ..EngineOptions::default()
    };
    let clock = Arc::clone(&notary.clock.lock());
    let engine = match Engine::new(Arc::clone(&journal) as _, notary.handlers.clone(), clock, options) {
        Ok(engine) => engine,
        Err(error) => return (Err(error), None),
    };
    engine.inner.library.keep(&parts().workflow);
    let end = go_through(story, &*journal, &engine, stops).await;
    let halted = engine.halted().borrow().clone();
    (end, halted)
}

async fn go_through(
    story: &Story,
    journal: &InTurn,
    engine: &Engine,
    stops: &mut bool,
) -> Result<Option<RunReport>, EngineError> {
    engine.resume_all().await?;
    let run = match journal.run_by_id(ID)? {
        Some(run) => run,
        None => {
            let workflow = Arc::clone(&parts().workflow);
            let submission = Submission { workflow, input: story.input.clone(), id: Some(ID.to_owned()) };
            engine.submit(submission).await?.run
        }
    };
    let report = engine.rest(run, Patience::None).await?;
    if report.status == "waiting" {
        if std::mem::take(stops) {
            engine.stop(Duration::from_secs(10)).await;
            return Ok(None);
        }
        if story.settled {
            let news = json!({ "paymentId": "PAY-77" });
            engine.signal(run, Some("news-1".to_owned()), "payment.settled".to_owned(), news).await?;
        }
    }
    engine.rest(run, Patience::Timers).await.map(Some)
}
