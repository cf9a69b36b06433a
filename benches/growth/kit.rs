//! What every curve needs: an engine over a store on the disk, clocks, and numbers as people read them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flowrun::bench::compile;
use flowrun::engine::{Engine, EngineOptions, Patience, Submission, Workflow};
use flowrun::handlers::Handlers;
use flowrun::limits::Limits;
use flowrun::store::journal::Journal;
use flowrun::store::open::OpenOptions;
use flowrun::store::redb::RedbStore;
use flowrun::time::SystemClock;
use flowrun::{Registry, World};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// An engine over a store in a folder of its own.
pub(crate) struct Place {
    pub(crate) engine: Engine,
    handlers: Handlers,
    limits: Limits,
    _dir: Option<TempDir>,
}

impl Place {
    /// Makes a fresh store.
    pub(crate) fn fresh(limits: Limits) -> Self {
        let dir = scratch();
        let store = open(&dir.path().join("growth.redb"));
        Self { _dir: Some(dir), ..Self::over(store, limits) }
    }

    /// Makes an engine over a store that is open.
    pub(crate) fn over(store: Arc<RedbStore>, limits: Limits) -> Self {
        let handlers = handlers();
        let options = EngineOptions { limits: limits.clone(), ..EngineOptions::default() };
        let engine = Engine::new(store, handlers.clone(), Arc::new(SystemClock), options).expect("an engine");
        Self { engine, handlers, limits, _dir: None }
    }

    pub(crate) fn workflow(&self, text: &str) -> Arc<Workflow> {
        Arc::new(compile("growth.yaml", text, &self.limits, &self.handlers).expect("it is a workflow"))
    }

    /// Runs a workflow once, and returns its output.
    pub(crate) async fn run(&self, workflow: &Arc<Workflow>, input: Value) -> Value {
        let submission = Submission { workflow: Arc::clone(workflow), input, id: None };
        let run = self.engine.submit(submission).await.expect("the run is accepted").run;
        let report = self.engine.rest(run, Patience::Timers).await.expect("the run rests");
        // A run that failed would be quick for nothing.
        report.output.unwrap_or_else(|| panic!("a run is {}: {:?}", report.status, report.error))
    }
}

pub(crate) fn handlers() -> Handlers {
    Registry::new().build(&World::in_memory(Arc::new(SystemClock))).expect("built-in handlers")
}

pub(crate) fn open(path: &Path) -> Arc<RedbStore> {
    Arc::new(RedbStore::open(path, OpenOptions { create: true }).expect("the store opens"))
}

pub(crate) fn close(store: &RedbStore) {
    store.close().expect("the store closes");
}

/// Makes a folder on the disk of the build, which is removed with everything in it.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// What something took: by the clock on the wall, and of the processors.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    pub(crate) wall: Duration,
    pub(crate) processor: Duration,
}

impl Took {
    pub(crate) fn of(act: impl FnOnce()) -> Self {
        let (wall, processor) = (now(), processor_time());
        act();
        Self { wall: wall.elapsed(), processor: processor_time().saturating_sub(processor) }
    }

    /// Says what each of so many took, in microseconds.
    pub(crate) fn each(self, name: [&'static str; 2], count: u64) -> [(&'static str, Value); 2] {
        let each = |took: Duration| json!(took.as_secs_f64() * 1e6 / count as f64);
        [(name[0], each(self.wall)), (name[1], each(self.processor))]
    }
}

/// Returns the middle one of three times.
pub(crate) fn median(mut act: impl FnMut() -> Duration) -> Duration {
    middle(vec![act(), act(), act()])
}

/// Returns the middle one of some times.
pub(crate) fn middle(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() / 2]
}

pub(crate) fn ms(time: Duration) -> Value {
    json!(time.as_secs_f64() * 1e3)
}

#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.expect("it rises from 0"), nanos.expect("it is less than a second"))
}

/// Returns a line of `/proc/PID/status` in KiB; nothing once the process has ended.
pub(crate) fn memory(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Returns a value for a table: whole numbers in groups of three, others with three digits that count.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_u64() => grouped(number.as_u64().unwrap_or(0)),
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            match number.abs() {
                n if n >= 100.0 => grouped(number.round() as u64),
                n if n >= 10.0 => format!("{number:.1}"),
                n if n >= 1.0 => format!("{number:.2}"),
                _ => format!("{number:.3}"),
            }
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
}
