//! What a store costs that holds many finished runs, and how such a store is made.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flowrun::bench::{Order6, percentile_ms};
use flowrun::engine::Workflow;
use flowrun::engine::view::{Filter, View};
use flowrun::limits::Limits;
use flowrun::machine::event::{Compensation, Conclusion, Entry, Event, RunStarted, SkipReason, Status};
use flowrun::machine::key::salt;
use flowrun::names::RunKey;
use flowrun::payload::Payload;
use flowrun::store::format::encode;
use flowrun::store::journal::{Commit, DoneRow, Journal, LiveRow, StartRow};
use flowrun::store::redb::RedbStore;
use flowrun::time::{Clock as _, SystemClock, Timestamp};
use serde_json::json;
use tempfile::TempDir;

use super::Row;
use super::files::command;
use super::kit::{Place, Took, close, handlers, median, middle, ms, now, open, runtime, scratch};

/// How many commits are handed to the store before the first of them is waited for.
const GROUP: u64 = 8_192;

/// How many runs of six steps a store has in its turn, with so many in flight.
const RUNS: u64 = 6_000;
const IN_FLIGHT: u32 = 64;

/// How often each store has its turn; the middle one counts.
const ROUNDS: usize = 11;

/// A run whose only step was skipped, which is the least that a run can have done.
const SKIPS: &str = "flowrun: 1\nname: skips\nsteps:\n  only: { when: 'false', uses: core.pass }\n";

/// Writes runs as an engine would have, but whole and many at once.
pub(crate) struct Filler {
    store: Arc<RedbStore>,
    workflow: Arc<Workflow>,
    /// When the first run was started; each of the others began a millisecond after the one before.
    begun: i64,
}

impl Filler {
    pub(crate) fn new(store: Arc<RedbStore>, workflow: Arc<Workflow>) -> Self {
        const ROOM: i64 = 20_000_000;
        Self { store, workflow, begun: SystemClock.now().0 - ROOM }
    }

    /// Writes so many runs. `events` says what came after the start of each.
    pub(crate) fn fill(&self, runs: u64, events: &[Event]) {
        let finish = events.iter().any(|event| matches!(event, Event::RunFinished(_)));
        let runtime = runtime();
        let (mut written, mut waiting) = (0, Vec::new());
        while written < runs {
            let until = runs.min(written + GROUP);
            let commits: Vec<_> = (written..until).map(|n| self.store.commit(self.commit(n, events, finish))).collect();
            written = until;
            for committed in std::mem::replace(&mut waiting, commits) {
                runtime.block_on(committed).expect("it is written");
            }
        }
        for committed in waiting {
            runtime.block_on(committed).expect("it is written");
        }
    }

    fn commit(&self, number: u64, events: &[Event], finish: bool) -> Commit {
        let millis = self.begun + i64::try_from(number).expect("far fewer runs");
        let at = Timestamp(millis);
        let mut chance = [0; 10];
        chance[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        let millis = u64::try_from(millis).expect("it is after 1970");
        let run = RunKey(uuid::Builder::from_unix_timestamp_millis(millis, &chance).into_uuid());
        let id = format!("old-{number:09}");
        let name = self.workflow.plan.name.clone();
        let started = RunStarted {
            id: id.clone(),
            workflow: name.clone(),
            definition: self.workflow.fingerprint,
            input: Payload::of(json!({})),
            salt: salt(self.store.store_id(), run),
            deadline: None,
        };
        let first = Entry { at, event: Event::RunStarted(Box::new(started)) };
        let later = events.iter().map(|event| encode(&Entry { at, event: event.clone() }));
        let done = || DoneRow {
            id: id.clone(),
            workflow: name.clone(),
            started_at: at,
            finished_at: at,
            status: Status::Completed,
            compensation: Compensation::NoneNeeded,
        };
        Commit {
            run,
            first: 0,
            records: std::iter::once(encode(&first)).chain(later).collect(),
            finish: finish.then(done),
            start: Some(StartRow {
                id: id.clone(),
                live: LiveRow { id, workflow: name, started_at: at },
                definition: (self.workflow.fingerprint, Arc::clone(&self.workflow.pinned)),
            }),
            breakers: Vec::new(),
        }
    }
}

/// A store that holds so many finished runs, and what is measured of it while others have their turns.
struct Level {
    runs: u64,
    _dir: TempDir,
    path: PathBuf,
    store: Arc<RedbStore>,
    opened: Duration,
    list: Duration,
    /// The number of the next order.
    next: u64,
    took: Vec<Took>,
}

impl Level {
    fn new(runs: u64, events: &[Event]) -> Self {
        let dir = scratch();
        let path = dir.path().join("growth.redb");
        let store = open(&path);
        let workflow = Place::over(Arc::clone(&store), Limits::default()).workflow(SKIPS);
        Filler::new(Arc::clone(&store), workflow).fill(runs, events);
        close(&store);
        let list = command_of(&path);
        let begun = now();
        let store = open(&path);
        Self { runs, _dir: dir, path, store, opened: begun.elapsed(), list, next: 0, took: Vec::new() }
    }

    fn turn(&mut self) {
        let journal = Arc::clone(&self.store) as Arc<dyn Journal>;
        let order6 = Order6::starting_at(journal, handlers(), self.next).expect("a workload");
        self.next += RUNS;
        let runtime = runtime();
        self.took.push(Took::of(|| {
            runtime.block_on(order6.run(IN_FLIGHT, RUNS)).expect("every run completes");
        }));
    }

    fn row(&self) -> Row {
        const STEPS: u64 = RUNS * flowrun::bench::STEPS;
        let of = |what: fn(&Took) -> Duration| middle(self.took.iter().map(what).collect()).as_secs_f64();
        let bytes = std::fs::metadata(&self.path).expect("the store is there").len();
        vec![
            ("runs", json!(self.runs)),
            ("file, MiB", json!(bytes >> 20)),
            ("steps/s, 64 in flight", json!(STEPS as f64 / of(|took| took.wall))),
            ("processor µs a step", json!(of(|took| took.processor) * 1e6 / STEPS as f64)),
            ("opened in, ms", ms(self.opened)),
            ("page of 20, ms", page_of(&self.store)),
            ("`flowrun list`, ms", ms(self.list)),
        ]
    }
}

/// Measures stores of all sizes in turns, so that what else the machine does, or gives, concerns all of them.
pub(crate) fn finished(sizes: &[u64]) -> Vec<Row> {
    let conclusion =
        Conclusion { status: Status::Completed, compensation: Compensation::NoneNeeded, output: None, error: None };
    let events = [
        Event::StepSkipped { step: "only".into(), reason: SkipReason::When },
        Event::RunFinished(Box::new(conclusion)),
    ];
    let mut levels: Vec<Level> = sizes.iter().map(|runs| Level::new(*runs, &events)).collect();
    for _ in 0..ROUNDS {
        levels.iter_mut().for_each(Level::turn);
    }
    levels.iter().map(Level::row).collect()
}

/// Returns how long the whole command takes that lists the newest runs.
fn command_of(path: &Path) -> Duration {
    median(|| {
        let begun = now();
        let output = command().args(["list", "--store"]).arg(path).output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        begun.elapsed()
    })
}

/// Returns how long the slowest of a hundred pages takes that an open store gives.
fn page_of(store: &Arc<RedbStore>) -> serde_json::Value {
    let view = View::new(Arc::clone(store) as Arc<dyn Journal>, handlers().contracts(), Limits::default());
    let filter = Filter { limit: 20, ..Filter::default() };
    let mut took: Vec<Duration> = (0..100)
        .map(|_| {
            let begun = now();
            view.list(&filter).expect("it can be read");
            begun.elapsed()
        })
        .collect();
    took.sort();
    json!(percentile_ms(&took, 99))
}
