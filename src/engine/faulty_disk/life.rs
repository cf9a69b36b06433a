//! One life of the process after another over one disk, with everything noted that a crash is judged by.
//!
//! All of a life happens on one thread, in an order that is the same every time. What the world knows, besides the
//! disk, is noted into the disk's own log: so for every write it is known what had been done and acknowledged before.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;

use super::story::{BEGIN, Story, parts, services_after};
use crate::engine::report::RunReport;
use crate::engine::{Engine, EngineError, EngineOptions, Fate, Moment, Patience, Submission};
use crate::faults::CallFacts;
use crate::handlers::{Handlers, LedgerEntry};
use crate::machine::event::{CallKind, Event};
use crate::names::RunKey;
use crate::store::conformance::{passes_on_the_rest, wait};
use crate::store::fault::{FaultDisk, Op};
use crate::store::format;
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
    /// Calls that were made after the disk had failed.
    after_failure: usize,
}

/// Notes what happens, into the disk's log.
#[derive(Clone)]
pub(super) struct Notary {
    disk: FaultDisk,
    handlers: Handlers,
    clock: Arc<dyn Clock>,
    notes: Arc<Mutex<Notes>>,
}

impl Notary {
    /// Returns one that begins with what is known already. Must be called inside the runtime that the life is lived in.
    pub(super) fn new(disk: &FaultDisk, handlers: Handlers, past: &Past) -> Self {
        let current = Note {
            now: past.now,
            acknowledged: past.acknowledged,
            calls: past.calls.len(),
            effects: past.ledger.len(),
        };
        let notes = Notes { notes: Vec::new(), calls: past.calls.clone(), current, after_failure: 0 };
        Self {
            disk: disk.clone(),
            handlers,
            clock: Arc::new(VirtualClock::starting_at(past.now)),
            notes: Arc::new(Mutex::new(notes)),
        }
    }

    /// Returns what was noted.
    fn taken(&self) -> Notes {
        let mut notes = self.notes.lock();
        Notes {
            notes: std::mem::take(&mut notes.notes),
            calls: std::mem::take(&mut notes.calls),
            current: notes.current,
            after_failure: notes.after_failure,
        }
    }

    /// Returns how many calls were noted.
    pub(super) fn calls(&self) -> usize {
        self.notes.lock().calls.len()
    }

    /// Returns the present time.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn note(&self, change: impl FnOnce(&mut Notes)) {
        let mut notes = self.notes.lock();
        change(&mut notes);
        notes.current.now = self.clock.now();
        let current = notes.current;
        notes.notes.push(current);
        self.disk.mark(notes.notes.len() - 1);
    }

    fn attempt(&self, call: &CallFacts<'_>, moment: Moment) {
        match moment {
            Moment::Before => self.note(|notes| {
                notes.after_failure += usize::from(self.disk.tried_since_failure().is_some());
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
pub(super) struct InTurn {
    pub(super) store: Arc<RedbStore>,
    pub(super) notary: Notary,
    /// How long each sync takes, if that is more than a moment; who comes meanwhile waits for the next.
    pub(super) sync: Option<Duration>,
}

impl Journal for InTurn {
    fn commit(&self, commit: Commit) -> Committed {
        let (store, notary, sync) = (Arc::clone(&self.store), self.notary.clone(), self.sync);
        Box::pin(async move {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            if let Some(sync) = sync.and_then(|sync| i64::try_from(sync.as_millis()).ok()) {
                let now = notary.clock.now().0;
                notary.clock.sleep_until(Timestamp((now / sync + 1) * sync)).await;
            }
            notary.note(|_| {});
            wait(store.commit(commit))
        })
    }

    fn records(&self, run: RunKey) -> Result<Vec<Vec<u8>>, StoreError> {
        self.store.records(run)
    }

    passes_on_the_rest!();
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
    /// How many calls were made after the disk had failed.
    pub(super) calls_after_failure: usize,
    /// Whether the lists say of the run what its events say.
    pub(super) listed: Result<(), String>,
}

impl Life {
    /// Returns what the world knows at the end.
    pub(super) fn latest(&self) -> Past {
        self.past_at(self.notes.len().checked_sub(1))
    }

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
    let notary = {
        let _inside = runtime.enter();
        Notary::new(disk, handlers.clone(), &past)
    };
    let mut store = Arc::new(RedbStore::with_backend(disk.clone())?);
    let found = records(&store, story.id)?;
    let mut stops = story.stopped && past.records.is_empty();
    let (end, halted) = loop {
        let journal = Arc::new(InTurn { store: Arc::clone(&store), notary: notary.clone(), sync: None });
        let (end, halted) = runtime.block_on(one(story, journal, &mut stops));
        match end {
            Ok(Some(report)) => break (Ok(report), halted),
            Err(error) => break (Err(error), halted),
            Ok(None) => {}
        }
        if let Err(error) = store.close() {
            break (Err(error.into()), halted);
        }
        drop(store);
        store = Arc::new(RedbStore::with_backend(disk.clone())?);
    };
    // Whatever is still under way must not be heard of any more.
    drop(runtime);
    let (records, listed) = match &end {
        Ok(_) => (records(&store, story.id)?, listed(&store, story.id)),
        Err(_) => (Vec::new(), Ok(())),
    };
    drop(store);
    let ledger = ledger(&handlers);
    let Notes { notes, calls, after_failure, .. } = notary.taken();
    let log = disk.log().split_off(from);
    Ok(Life {
        past,
        before,
        log,
        notes,
        found,
        records,
        calls,
        ledger,
        end,
        halted,
        calls_after_failure: after_failure,
        listed,
    })
}

/// Returns the records of the run that has an id; none if there is no such run.
pub(super) fn records(store: &RedbStore, id: &str) -> Result<Vec<Vec<u8>>, StoreError> {
    store.run_by_id(id)?.map_or_else(|| Ok(Vec::new()), |run| store.records(run))
}

/// Holds the lists of runs to the run's events: it is final in both or in neither.
pub(super) fn listed(store: &RedbStore, id: &str) -> Result<(), String> {
    let read = || -> Result<_, StoreError> {
        let Some(run) = store.run_by_id(id)? else { return Ok(None) };
        let live = store.live()?.iter().any(|(key, _)| *key == run);
        Ok(Some((store.run(run)?, live, store.records(run)?)))
    };
    let Some((row, live, records)) = read().map_err(|error| error.to_string())? else { return Ok(()) };
    let last = records.last().and_then(|record| format::decode(record).ok());
    let is_final = matches!(last.map(|entry| entry.event), Some(Event::RunFinished(_)));
    let row_is_final = matches!(row, Some(RunRow::Done(_)));
    if (row_is_final, !live) == (is_final, is_final) {
        Ok(())
    } else {
        Err(format!("by its events the run is final: {is_final}; by its row: {row_is_final}; listed as live: {live}"))
    }
}

/// Returns an engine that notes what it does.
pub(super) fn engine(story: &Story, journal: Arc<InTurn>) -> Result<Engine, EngineError> {
    let notary = &journal.notary;
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
            Fate::GoesOn
        })),
        seed: Some(1),
        lockstep: Some(Duration::from_secs(30)),
        ..EngineOptions::default()
    };
    let (handlers, clock) = (notary.handlers.clone(), Arc::clone(&notary.clock));
    let engine = Engine::new(journal, handlers, clock, options)?;
    engine.inner.library.keep(&parts().workflow);
    Ok(engine)
}

/// One process: until the run has ended, or until it is stopped while the run waits.
async fn one(
    story: &Story,
    journal: Arc<InTurn>,
    stops: &mut bool,
) -> (Result<Option<RunReport>, EngineError>, Option<StoreError>) {
    let engine = match engine(story, Arc::clone(&journal)) {
        Ok(engine) => engine,
        Err(error) => return (Err(error), None),
    };
    let end = go_through(story, &journal, &engine, stops).await;
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
    let run = match journal.run_by_id(story.id)? {
        Some(run) => run,
        None => {
            let workflow = Arc::clone(&parts().workflow);
            let submission = Submission { workflow, input: story.input.clone(), id: Some(story.id.to_owned()) };
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
