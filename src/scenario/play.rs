//! One playthrough of a scenario: lives of a process, one after the other, over one store, one ledger and one time.
//!
//! A life is an async runtime whose time is paused, so nothing sleeps. To kill the process is to drop its runtime; the
//! next life finds what was durable, and the handlers' world as the dead one left it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::clock::LivesClock;
use super::read::{Case, Counts, Deed, Verb, merge};
use crate::engine::report::RunReport;
use crate::engine::view::View;
use crate::engine::{
    Engine, EngineError, EngineOptions, Fate, InputError, Moment, Patience, Recorded, Submission, Watch, Workflow,
};
use crate::faults::CallFacts;
use crate::handlers::{Handlers, LedgerEntry, Registry, World};
use crate::limits::Limits;
use crate::machine::Refusal;
use crate::machine::event::{CallKind, Cause, Entry, Event};
use crate::machine::history;
use crate::machine::state::RunState;
use crate::names::{HandlerName, MemberName, RunKey, StepName};
use crate::plan::Plan;
use crate::store::journal::{Journal, RunRow};
use crate::store::memory::{CommitFate, MemoryStore};
use crate::template::Scope;
use crate::time::{Clock, Timestamp};

/// When every scenario starts: 2026-01-01T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp(1_767_225_600_000);

/// How long a scenario may take in its own time.
pub(crate) const VIRTUAL_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long it may take in ours.
pub(crate) const REAL_MAX: Duration = Duration::from_secs(30);

/// How many lives one scenario may take.
pub(crate) const LIVES_MAX: u32 = 50;

/// What a process that is stopped in order grants its attempts.
const GRACE: Duration = Duration::from_secs(10);

/// Where the process is killed, besides what the scenario says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CrashPoint {
    /// Around a commit, counted from 0: just after it is durable, or just before.
    Commit { number: u64, durable: bool },
    /// Inside a commit: only so many of its records are durable. No store does that to a commit; it makes every prefix
    /// of a journal.
    Part { number: u64, records: usize, whole: bool },
    /// Around what the handler does in an attempt, counted from 0.
    Attempt { number: usize, moment: Moment },
}

/// What a playthrough needs.
#[derive(Clone, Copy)]
pub(crate) struct Script<'a> {
    pub(crate) case: &'a Case,
    pub(crate) workflow: &'a Arc<Workflow>,
    pub(crate) registry: &'a Registry,
    pub(crate) limits: &'a Limits,
    /// The secrets; those of the environment if there are none.
    pub(crate) secrets: Option<&'a Arc<BTreeMap<String, String>>>,
    /// Who looks on.
    pub(crate) watch: Option<&'a Watch>,
}

/// An attempt of a call.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) step: StepName,
    pub(crate) item: Option<u32>,
    pub(crate) member: MemberName,
    pub(crate) handler: HandlerName,
    pub(crate) kind: CallKind,
    pub(crate) number: u32,
    pub(crate) key: String,
    /// Whether the handler acted.
    pub(crate) acted: bool,
    /// Whether a fault did what it says.
    pub(crate) fault: bool,
}

impl Attempt {
    fn of(call: &CallFacts<'_>) -> Self {
        Self {
            step: call.step.clone(),
            item: call.item,
            member: call.member.clone(),
            handler: call.handler.clone(),
            kind: call.kind,
            number: call.attempt,
            key: call.key.to_owned(),
            acted: false,
            fault: false,
        }
    }

    fn is_of(&self, call: &CallFacts<'_>) -> bool {
        (&self.step, self.item, &self.member, self.kind, self.number, self.key.as_str())
            == (call.step, call.item, call.member, call.kind, call.attempt, call.key)
    }
}

impl std::fmt::Display for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { step, handler, number, .. } = self;
        let item = self.item.map_or_else(String::new, |item| format!("[{item}]"));
        write!(f, "attempt {number} of `{step}{item}` ({handler})")
    }
}

/// A commit of a playthrough.
#[derive(Clone, Debug, Default)]
pub(crate) struct Committed {
    /// Its last event in short.
    pub(crate) last: String,
    /// How many records it has.
    pub(crate) records: usize,
}

/// How a playthrough ended.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// Each run's report as JSON, with its exit code.
    pub(crate) reports: Vec<Value>,
    /// Each run that was not refused, as it ended and as it is recorded.
    pub(crate) runs: Vec<(RunReport, Vec<Entry>)>,
    /// What templates see of the first run.
    pub(crate) scope: Scope,
    pub(crate) ledger: Vec<LedgerEntry>,
    pub(crate) calls: Counts,
    pub(crate) commits: Vec<Committed>,
    pub(crate) attempts: Vec<Attempt>,
    /// Each run's events in short.
    pub(crate) histories: Vec<Vec<String>>,
    /// How long it took in its own time.
    pub(crate) took: Duration,
    /// What went wrong with the playthrough itself.
    pub(crate) problems: Vec<String>,
    /// Actions that were refused, or whose time never came.
    pub(crate) unmet: Vec<String>,
    /// The handlers, with the state they were left in.
    pub(crate) handlers: Option<Handlers>,
    /// Whether the crash point was reached.
    pub(crate) crashed: bool,
}

impl Ending {
    /// Begins with what the handlers were left with.
    pub(crate) fn after(took: Duration, handlers: &Handlers) -> Self {
        let mut ending = Self { took, handlers: Some(handlers.clone()), ..Self::default() };
        match handlers.ledger().map(|ledger| ledger.entries(None)) {
            Some(Ok(entries)) => ending.ledger = entries,
            Some(Err(problem)) => ending.problems.push(problem),
            None => {}
        }
        ending
    }

    /// Adds a run that was not taken in.
    pub(crate) fn add_refused(&mut self, id: &str, report: Option<Value>) {
        self.reports.push(report.unwrap_or_else(|| json!({ "run_id": id })));
        self.histories.push(Vec::new());
    }

    /// Adds a run as it can be read, with its row in lists.
    pub(crate) fn add(&mut self, view: &View, run: RunKey, row: Option<RunRow>, is_first: bool) {
        match (view.report(run), view.history(run)) {
            (Ok(report), Ok(entries)) => {
                self.reports.push(shown(&report, row));
                self.histories.push(entries.iter().map(|(_, entry)| in_short_with_time(entry)).collect());
                self.runs.push((report, entries.into_iter().map(|(_, entry)| entry).collect()));
            }
            (Err(error), _) | (_, Err(error)) => self.problems.push(error.to_string()),
        }
        if is_first && let Ok((plan, state)) = view.state(run) {
            self.scope = state.scope(&plan, plan.order.iter().copied());
        }
    }
}

/// How a life ended.
enum LifeEnd {
    /// Every run rests, and nothing is left to be done.
    Rested,
    /// The process died or was stopped; the next one starts so much later.
    Died(Duration),
    /// Something is wrong; there is no next life.
    Broken(String),
}

/// How far an action has come in one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Progress {
    /// Its `when` has not come.
    Ahead,
    /// It is to be done then.
    Due(Timestamp),
    /// It was asked for then, and whether that was accepted is not known.
    Asked(Timestamp),
    /// It was done.
    Done,
}

impl Progress {
    /// Tells whether the action's time has come, and nobody has done it yet.
    pub(crate) fn is_due(self, now: Timestamp) -> bool {
        matches!(self, Self::Due(at) if at <= now)
    }
}

/// What a scenario remembers over all lives.
pub(crate) struct Memory {
    /// By action and run.
    pub(crate) deeds: Vec<Vec<Progress>>,
    pub(crate) calls: Counts,
    pub(crate) commits: BTreeMap<u64, Committed>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) crash: Option<CrashPoint>,
    /// How long the process is down after its present death.
    pub(crate) down: Duration,
    pub(crate) problems: Vec<String>,
    pub(crate) unmet: Vec<String>,
}

/// What the lives of a scenario's process share.
pub(crate) struct Shared {
    pub(crate) memory: Mutex<Memory>,
    pub(crate) killed: AtomicBool,
    pub(crate) death: Notify,
    pub(crate) changed: Notify,
    pub(crate) overdue: AtomicBool,
}

impl Shared {
    pub(crate) fn new(case: &Case, runs: usize, crash: Option<CrashPoint>) -> Arc<Self> {
        let memory = Memory {
            deeds: case.then.iter().map(|_| vec![Progress::Ahead; runs]).collect(),
            calls: Counts::new(),
            commits: BTreeMap::new(),
            attempts: Vec::new(),
            crash,
            down: Duration::ZERO,
            problems: Vec::new(),
            unmet: Vec::new(),
        };
        Arc::new(Self {
            memory: Mutex::new(memory),
            killed: AtomicBool::new(false),
            death: Notify::new(),
            changed: Notify::new(),
            overdue: AtomicBool::new(false),
        })
    }

    pub(crate) fn kill(&self, down: Duration) {
        self.memory.lock().down = down;
        self.killed.store(true, Ordering::SeqCst);
        self.death.notify_one();
    }

    /// Waits for the death of the process.
    pub(crate) async fn dead(&self) {
        // A permit may be left over from a life before.
        while !self.is_killed() {
            self.death.notified().await;
        }
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }
}

/// A scenario under way.
struct Play<'a> {
    script: Script<'a>,
    deeds: Arc<Vec<Deed>>,
    handlers: Handlers,
    clock: LivesClock,
    shared: Arc<Shared>,
    /// Each run: its id, its input, and when it is submitted.
    runs: Vec<(String, Value, Timestamp)>,
    /// Each run's report, once it was refused.
    refused: Vec<Option<Value>>,
}

/// Plays a scenario, with a crash at `crash`.
pub(crate) fn play(script: Script<'_>, crash: Option<CrashPoint>) -> Ending {
    let clock = LivesClock::at(START);
    let setup = script.case.setup.clone();
    let world = World { setup, ..World::in_memory(Arc::new(clock.clone())) };
    let broken = |problems: Vec<String>| Ending { problems, ..Ending::default() };
    let handlers = match script.registry.build(&world) {
        Ok(handlers) => handlers,
        Err(problems) => return broken(problems),
    };
    let runs = match runs(script) {
        Ok(runs) => runs,
        Err(problem) => return broken(vec![problem]),
    };
    let shared = Shared::new(script.case, runs.len(), crash);
    let watchdog = Watchdog::over(&shared);
    let mut play = Play {
        deeds: Arc::new(script.case.then.clone()),
        refused: vec![None; runs.len()],
        script,
        handlers,
        clock,
        shared,
        runs,
    };
    let ending = play.lives();
    drop(watchdog);
    ending
}

pub(crate) fn runs(script: Script<'_>) -> Result<Vec<(String, Value, Timestamp)>, String> {
    let case = script.case;
    let Some(runs) = &case.runs else { return Ok(vec![(case.name.clone(), case.input.clone(), START)]) };
    let mut all = Vec::new();
    for index in 0..runs.count {
        let mut scope = Scope::default();
        scope.vars.insert("index".into(), Arc::new(json!(index)));
        scope.vars.insert("input".into(), Arc::new(case.input.clone()));
        let patch = case.varies.render(&scope, script.limits).map_err(|e| format!("runs.input: {e}"))?;
        let mut input = case.input.clone();
        merge(&mut input, &patch);
        let later = runs.every.map_or(Duration::ZERO, |every| every.0 * index);
        all.push((format!("{}-{index}", case.name), input, START.after(later)));
    }
    Ok(all)
}

/// Ends a scenario that takes too long in real time, which nothing inside its paused time can notice.
struct Watchdog(Option<(mpsc::Sender<()>, std::thread::JoinHandle<()>)>);

impl Watchdog {
    fn over(shared: &Arc<Shared>) -> Self {
        let (off, told) = mpsc::channel();
        let shared = Arc::clone(shared);
        let watch = move || {
            if told.recv_timeout(REAL_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
                shared.overdue.store(true, Ordering::SeqCst);
                shared.changed.notify_one();
            }
        };
        let thread = std::thread::Builder::new().name("scenario-watchdog".to_owned()).spawn(watch);
        // Without a thread to spare the scenario is only not watched.
        Self(thread.ok().map(|thread| (off, thread)))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some((off, thread)) = self.0.take() {
            drop(off);
            let _ = thread.join();
        }
    }
}

impl Play<'_> {
    fn lives(&mut self) -> Ending {
        let mut store = Arc::new(self.armed(MemoryStore::with_id([7; 16])));
        for _ in 0..LIVES_MAX {
            let end = self.life(&store);
            match end {
                LifeEnd::Rested => return self.ending(&store),
                LifeEnd::Broken(problem) => {
                    self.shared.memory.lock().problems.push(problem);
                    return self.ending(&store);
                }
                LifeEnd::Died(_) => {
                    self.shared.killed.store(false, Ordering::SeqCst);
                    store = Arc::new(self.armed(store.reopen()));
                }
            }
        }
        let problem = format!("the process died {LIVES_MAX} times: let a fault that kills name its `attempts`");
        self.shared.memory.lock().problems.push(problem);
        self.ending(&store)
    }

    /// Lets the process die around the commit that the crash point names; a dead process commits nothing.
    fn armed(&self, store: MemoryStore) -> MemoryStore {
        let shared = Arc::clone(&self.shared);
        store.on_commit(move |number| {
            if shared.is_killed() {
                return CommitFate::Hang;
            }
            let crash = shared.memory.lock().crash;
            match crash {
                Some(CrashPoint::Commit { number: n, durable }) if n == number => {
                    shared.memory.lock().crash = None;
                    shared.kill(Duration::ZERO);
                    if durable { CommitFate::WriteThenHang } else { CommitFate::Hang }
                }
                Some(CrashPoint::Part { number: n, records, .. }) if n == number => {
                    shared.memory.lock().crash = None;
                    shared.kill(Duration::ZERO);
                    CommitFate::WritePart(records)
                }
                _ => CommitFate::Write,
            }
        })
    }

    fn life(&mut self, store: &Arc<MemoryStore>) -> LifeEnd {
        let built = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = match built {
            Ok(runtime) => runtime,
            Err(error) => return LifeEnd::Broken(format!("no runtime for the scenario: {error}")),
        };
        let shared = Arc::clone(&self.shared);
        let end = runtime.block_on(async {
            self.clock.start();
            tokio::select! {
                biased;
                () = shared.dead() => LifeEnd::Died(shared.memory.lock().down),
                end = self.live(store) => end.unwrap_or_else(|error| LifeEnd::Broken(error.to_string())),
            }
        });
        // What was decided in the same instant as the death does not count.
        let end = if shared.is_killed() { LifeEnd::Died(shared.memory.lock().down) } else { end };
        let down = if let LifeEnd::Died(down) = end { down } else { Duration::ZERO };
        {
            let _inside = runtime.enter();
            self.clock.stop(down);
        }
        if shared.overdue.load(Ordering::SeqCst) {
            // A handler that never returns must not hold up the rest.
            runtime.shutdown_background();
        }
        end
    }

    fn options(&self, store: &Arc<MemoryStore>) -> EngineOptions {
        let shared = Arc::clone(&self.shared);
        let killer = Arc::new(move || shared.kill(Duration::ZERO));
        let shared = Arc::clone(&self.shared);
        let other = self.script.watch.cloned();
        let watch = Arc::new(move |call: &CallFacts<'_>, moment| {
            let wanted = other.as_ref().map_or(Fate::GoesOn, |watch| watch(call, moment));
            match shared.attempt(call, moment) {
                Fate::GoesOn => wanted,
                fate => fate,
            }
        });
        let (shared, deeds, commits) = (Arc::clone(&self.shared), Arc::clone(&self.deeds), Arc::clone(store));
        let ids: Vec<String> = self.runs.iter().map(|(id, ..)| id.clone()).collect();
        let observer = Arc::new(move |recorded: &Recorded<'_>| {
            let Recorded { id, entry, state, plan, .. } = recorded;
            let number = commits.commits().saturating_sub(1);
            let mut memory = shared.memory.lock();
            let commit = memory.commits.entry(number).or_default();
            commit.last = in_short(entry);
            commit.records += 1;
            drop(memory);
            if let Some(run) = ids.iter().position(|known| known == id) {
                shared.look(&deeds, run, state, plan, entry.at);
            }
        });
        EngineOptions {
            limits: self.script.limits.clone(),
            secrets: self.script.secrets.cloned(),
            faults: Some(Arc::new(self.script.case.faults.clone())),
            observer: Some(observer),
            killer: Some(killer),
            watch: Some(watch),
            seed: Some(self.script.case.seed),
            lockstep: Some(REAL_MAX),
        }
    }

    async fn live(&mut self, store: &Arc<MemoryStore>) -> Result<LifeEnd, EngineError> {
        let journal: Arc<dyn Journal> = Arc::clone(store) as _;
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let engine = Engine::new(journal, self.handlers.clone(), clock, self.options(store))?;
        let mut keys: Vec<Option<RunKey>> = Vec::new();
        for (run, (id, ..)) in self.runs.iter().enumerate() {
            let key = store.run_by_id(id)?;
            keys.push(key);
            if let Some(key) = key {
                let (plan, state) = engine.view().state(key)?;
                self.shared.look(&self.deeds, run, &state, &plan, self.clock.now());
                self.recall(&engine, run, key)?;
            }
        }
        // Who cancels a run while no process has it does not wait until one has taken it up.
        for (n, run, key) in self.due(&keys) {
            if matches!(self.deeds[n].verb, Verb::Cancel { .. }) {
                self.wish(&engine, n, run, key).await?;
            }
        }
        engine.resume_all().await?;
        let end = START.after(VIRTUAL_MAX);
        loop {
            self.submit(&engine, &mut keys).await?;
            if let Some(end) = self.act(&engine, &keys).await? {
                return Ok(end);
            }
            let due = self.next_due(&keys);
            let rest = async {
                for key in keys.iter().flatten() {
                    engine.rest(*key, Patience::Timers).await?;
                }
                Ok::<(), EngineError>(())
            };
            tokio::select! {
                biased;
                () = self.shared.changed.notified() => {}
                () = sleep(&self.clock, due) => {}
                () = self.clock.sleep_until(end) => {
                    let message = "the scenario has not ended after 30 days of its own time";
                    return Ok(LifeEnd::Broken(format!("{message}: {}", self.stuck(&engine, &keys))));
                }
                rested = rest, if due.is_none() => {
                    rested?;
                    if self.next_due(&keys).is_none() {
                        let Some(alarm) = next_alarm(&engine, &keys)? else { return Ok(LifeEnd::Rested) };
                        // A moment later than the run, so that it has seen to it.
                        let alarm = alarm.after(Duration::from_millis(1));
                        tokio::select! {
                            biased;
                            () = self.shared.changed.notified() => {}
                            () = self.clock.sleep_until(alarm.min(end)) => {}
                        }
                        if alarm > end {
                            return Ok(LifeEnd::Rested);
                        }
                    }
                }
            }
            if self.shared.overdue.load(Ordering::SeqCst) {
                let message = format!("the scenario has not ended after {} s", REAL_MAX.as_secs());
                return Ok(LifeEnd::Broken(format!("{message}: {}", self.stuck(&engine, &keys))));
            }
        }
    }

    /// Submits the runs whose time has come.
    async fn submit(&mut self, engine: &Engine, keys: &mut [Option<RunKey>]) -> Result<(), EngineError> {
        for (run, (id, input, at)) in self.runs.iter().enumerate() {
            if keys[run].is_some() || self.refused[run].is_some() || *at > self.clock.now() {
                continue;
            }
            let workflow = Arc::clone(self.script.workflow);
            match engine.submit(Submission { workflow, input: input.clone(), id: Some(id.clone()) }).await {
                Ok(submitted) => keys[run] = Some(submitted.run),
                Err(EngineError::Input(errors)) => {
                    self.refused[run] = Some(refused_input(id, &errors));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Does what is due. Returns how the life ends, if that ends it.
    async fn act(&self, engine: &Engine, keys: &[Option<RunKey>]) -> Result<Option<LifeEnd>, EngineError> {
        for (n, run, key) in self.due(keys) {
            match &self.deeds[n].verb {
                Verb::Kill { down } => return self.die(n, *down).await,
                Verb::Restart { down } => {
                    self.shared.memory.lock().deeds[n].fill(Progress::Done);
                    tokio::select! {
                        () = engine.stop(GRACE) => {}
                        refused = self.go_on_asking(engine, keys) => return Err(refused),
                    }
                    return Ok(Some(LifeEnd::Died(*down)));
                }
                _ => self.wish(engine, n, run, key).await?,
            }
        }
        Ok(None)
    }

    /// Kills the process, as an action wants.
    async fn die<T>(&self, n: usize, down: Duration) -> T {
        self.shared.memory.lock().deeds[n].fill(Progress::Done);
        self.shared.kill(down);
        std::future::pending().await
    }

    /// Returns the actions that are due, each with the run and its key.
    fn due(&self, keys: &[Option<RunKey>]) -> Vec<(usize, usize, RunKey)> {
        let (now, memory) = (self.clock.now(), self.shared.memory.lock());
        let of_deed = |n: usize| keys.iter().enumerate().filter_map(move |(run, key)| Some((n, run, (*key)?)));
        (0..self.deeds.len()).flat_map(of_deed).filter(|(n, run, _)| memory.deeds[*n][*run].is_due(now)).collect()
    }

    /// Asks a run for something, whether it is refused or not.
    async fn wish(&self, engine: &Engine, n: usize, run: usize, key: RunKey) -> Result<(), EngineError> {
        let deed = &self.deeds[n];
        self.shared.memory.lock().deeds[n][run] = Progress::Asked(self.clock.now());
        let done = ask(engine, key, &deed.verb, n).await;
        let mut memory = self.shared.memory.lock();
        memory.deeds[n][run] = Progress::Done;
        match done {
            Ok(_) => Ok(()),
            Err(EngineError::Refused(refusal)) => {
                memory.unmet.push(refused(n, deed, &refusal));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Does what is due while the process is put down: a run that nobody drives any more is asked by the next one.
    async fn go_on_asking(&self, engine: &Engine, keys: &[Option<RunKey>]) -> EngineError {
        loop {
            sleep(&self.clock, self.shared.next_deed()).await;
            for (n, run, key) in self.due(keys) {
                match &self.deeds[n].verb {
                    Verb::Kill { down } => return self.die(n, *down).await,
                    // It is being put down.
                    Verb::Restart { .. } => {
                        self.shared.memory.lock().deeds[n].fill(Progress::Done);
                        continue;
                    }
                    _ => {}
                }
                let now = self.clock.now();
                match self.wish(engine, n, run, key).await {
                    Ok(()) => {}
                    Err(EngineError::Stopping) => {
                        self.shared.memory.lock().deeds[n][run] = Progress::Due(now);
                        return std::future::pending().await;
                    }
                    Err(error) => return error,
                }
            }
        }
    }

    /// Finds out whether what was asked for before the process died was accepted.
    fn recall(&self, engine: &Engine, run: usize, key: RunKey) -> Result<(), EngineError> {
        let entries = engine.view().history(key)?;
        let mut memory = self.shared.memory.lock();
        for (n, deed) in self.deeds.iter().enumerate() {
            if let Progress::Asked(at) = memory.deeds[n][run] {
                let accepted = entries.iter().any(|(_, entry)| entry.at >= at && is_trace(&entry.event, &deed.verb, n));
                memory.deeds[n][run] = if accepted { Progress::Done } else { Progress::Due(at) };
            }
        }
        Ok(())
    }

    /// Returns when something is to be done next: a run to be submitted, or an action.
    fn next_due(&self, keys: &[Option<RunKey>]) -> Option<Timestamp> {
        let open = |run: &usize| keys[*run].is_none() && self.refused[*run].is_none();
        let runs = (0..self.runs.len()).filter(open).map(|run| self.runs[run].2);
        self.shared.next_deed().into_iter().chain(runs).min()
    }

    /// Says what keeps the scenario from ending.
    fn stuck(&self, engine: &Engine, keys: &[Option<RunKey>]) -> String {
        let mut all = Vec::new();
        for report in keys.iter().flatten().filter_map(|key| engine.report(*key).ok()) {
            if matches!(report.status.as_str(), "completed" | "failed" | "cancelled" | "parked") {
                continue;
            }
            let busy = |status: &str| matches!(status, "running" | "backing_off" | "waiting" | "compensating");
            let steps = report.steps.iter().filter(|(_, step)| busy(&step.status));
            let steps = steps.map(|(name, step)| format!("`{name}` is {} (attempt {})", step.status, step.attempts));
            let steps = steps.collect::<Vec<_>>().join(", ");
            all.push(format!("run {} is {}: {steps}", report.run_id, report.status));
        }
        if all.is_empty() { "an action is never done".to_owned() } else { all.join("; ") }
    }

    fn ending(&mut self, store: &Arc<MemoryStore>) -> Ending {
        let took = self.clock.now().since(START);
        let journal: Arc<dyn Journal> = Arc::clone(store) as _;
        let contracts = self.handlers.contracts();
        let view = View::new(journal, contracts, self.script.limits.clone());
        let mut ending = Ending::after(took, &self.handlers);
        for (run, (id, ..)) in self.runs.iter().enumerate() {
            let Ok(Some(key)) = store.run_by_id(id) else {
                ending.add_refused(id, self.refused[run].take());
                continue;
            };
            ending.add(&view, key, store.run(key).ok().flatten(), run == 0);
        }
        self.shared.tell(&self.deeds, &mut ending);
        let mut memory = self.shared.memory.lock();
        ending.crashed = memory.crash.is_none();
        let commits = std::mem::take(&mut memory.commits);
        let last = commits.last_key_value().map_or(0, |(number, _)| number + 1);
        ending.commits = (0..last).map(|n| commits.get(&n).cloned().unwrap_or_default()).collect();
        ending
    }
}

impl Shared {
    /// Notes actions whose time a state brings.
    pub(crate) fn look(&self, deeds: &[Deed], run: usize, state: &RunState, plan: &Plan, at: Timestamp) {
        let mut memory = self.memory.lock();
        let mut changed = false;
        for (n, deed) in deeds.iter().enumerate() {
            let meant = deed.run.is_none_or(|only| usize::try_from(only) == Ok(run));
            if memory.deeds[n][run] != Progress::Ahead || !meant {
                continue;
            }
            let status = match &deed.step {
                None => Some(state.status()),
                Some(step) => plan.find(step).map(|ix| state.step_status(ix)),
            };
            if status == Some(deed.status.as_str()) {
                memory.deeds[n][run] = Progress::Due(at.after(deed.after));
                changed = true;
            }
        }
        drop(memory);
        if changed {
            self.changed.notify_one();
        }
    }

    /// Returns when an action is to be done next.
    pub(crate) fn next_deed(&self) -> Option<Timestamp> {
        let memory = self.memory.lock();
        let due = memory.deeds.iter().flatten().filter_map(|progress| match progress {
            Progress::Due(at) => Some(*at),
            Progress::Ahead | Progress::Asked(_) | Progress::Done => None,
        });
        due.min()
    }

    /// Tells what became of actions and attempts.
    pub(crate) fn tell(&self, deeds: &[Deed], ending: &mut Ending) {
        let mut memory = self.memory.lock();
        ending.problems.append(&mut memory.problems);
        ending.unmet.append(&mut memory.unmet);
        if ending.problems.is_empty() {
            for (n, deed) in deeds.iter().enumerate() {
                let reached = memory.deeds[n].iter().any(|p| *p != Progress::Ahead);
                if !reached {
                    ending.unmet.push(format!("then[{n}] ({}): `{}` was never reached", deed.verb.word(), deed.when));
                }
            }
        }
        ending.calls = std::mem::take(&mut memory.calls);
        ending.attempts = std::mem::take(&mut memory.attempts);
    }

    /// Notes an attempt, and says whether the process dies there.
    pub(crate) fn attempt(&self, call: &CallFacts<'_>, moment: Moment) -> Fate {
        let mut memory = self.memory.lock();
        let last = |attempts: &mut Vec<Attempt>| attempts.iter_mut().rev().position(|a| a.is_of(call));
        match moment {
            Moment::Before => {
                *memory.calls.entry(call.handler.to_string()).or_default() += 1;
                memory.attempts.push(Attempt::of(call));
            }
            Moment::After | Moment::Fault => {
                let attempts = &mut memory.attempts;
                if let Some(back) = last(attempts) {
                    let at = attempts.len() - 1 - back;
                    attempts[at].acted |= moment == Moment::After;
                    attempts[at].fault |= moment == Moment::Fault;
                }
            }
        }
        let dies = match memory.crash {
            Some(CrashPoint::Attempt { number, moment: at }) if at == moment => match moment {
                Moment::Before => memory.attempts.len() == number + 1,
                Moment::After => memory.attempts.get(number).is_some_and(|attempt| attempt.acted),
                Moment::Fault => false,
            },
            _ => false,
        };
        if !dies {
            return Fate::GoesOn;
        }
        memory.crash = None;
        Fate::Dies
    }
}

async fn sleep(clock: &LivesClock, until: Option<Timestamp>) {
    match until {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Returns when something happens by itself in runs that rest: their deadlines.
fn next_alarm(engine: &Engine, keys: &[Option<RunKey>]) -> Result<Option<Timestamp>, EngineError> {
    let mut next = None;
    for key in keys.iter().flatten() {
        let (_, state) = engine.view().state(*key)?;
        next = [next, state.next_alarm()].into_iter().flatten().min();
    }
    Ok(next)
}

async fn ask(engine: &Engine, run: RunKey, verb: &Verb, n: usize) -> Result<RunReport, EngineError> {
    match verb.clone() {
        Verb::Signal { name, data, id } => engine.signal(run, Some(signal_id(id, n)), name, data).await,
        Verb::Cancel { reason, compensate } => engine.cancel(run, reason, compensate).await,
        Verb::Compensate => engine.compensate(run).await,
        Verb::Retry { from } => engine.retry(run, from).await,
        Verb::MarkDone { step, item, reason } => engine.mark_done(run, step, item, reason).await,
        Verb::Kill { .. } | Verb::Restart { .. } => engine.report(run),
    }
}

/// Every signal of a scenario has an id, so that one that is sent again after a crash is the same one.
pub(crate) fn signal_id(id: Option<String>, n: usize) -> String {
    id.unwrap_or_else(|| format!("then-{n}"))
}

/// Returns the report of a run whose input was refused.
pub(crate) fn refused_input(id: &str, errors: &[InputError]) -> Value {
    let message = errors.iter().map(|e| format!("{}: {}", e.pointer, e.message)).collect::<Vec<_>>().join("; ");
    json!({
        "run_id": id, "status": "refused", "compensation": "none_needed", "exit": 3, "output": null,
        "error": { "code": "input", "message": message }, "steps": {}, "undone": []
    })
}

pub(crate) fn refused(n: usize, deed: &Deed, refusal: &Refusal) -> String {
    format!("then[{n}] ({} when `{}`) was refused: {refusal}", deed.verb.word(), deed.when)
}

/// Tells whether an event is what an accepted action leaves in the journal.
fn is_trace(event: &Event, verb: &Verb, n: usize) -> bool {
    match (event, verb) {
        (Event::SignalReceived { id, .. }, Verb::Signal { id: sent, .. }) => {
            id.as_deref() == Some(signal_id(sent.clone(), n).as_str())
        }
        (Event::DrainStarted { cause: Cause::Cancelled { .. } }, Verb::Cancel { .. }) => true,
        (Event::CompensateRequested, Verb::Compensate) | (Event::RetryRequested { .. }, Verb::Retry { .. }) => true,
        (Event::MarkedDone { place, .. }, Verb::MarkDone { step, item, .. }) => {
            place.step == *step && place.item == *item
        }
        _ => false,
    }
}

/// Returns a report as expectations see it.
fn shown(report: &RunReport, row: Option<RunRow>) -> Value {
    let mut value = serde_json::to_value(report).unwrap_or_default();
    value["exit"] = json!(report.exit_code());
    // A summary that says something else than the events would mislead every list.
    if let Some(RunRow::Done(row)) = row {
        value["listed"] = json!({ "status": row.status, "compensation": row.compensation });
    }
    value
}

fn in_short(entry: &Entry) -> String {
    let value = history::to_json(0, entry);
    let mut text = history::type_of(&entry.event).to_owned();
    for key in ["step", "signal", "cause"] {
        if let Some(word) = value[key].as_str() {
            text.push_str(&format!(" {word}"));
        }
    }
    if let Some(item) = value["item"].as_u64() {
        text.push_str(&format!("[{item}]"));
    }
    text
}

fn in_short_with_time(entry: &Entry) -> String {
    let value = history::to_json(0, entry);
    let after = entry.at.since(START);
    let mut text = format!("{:>10.3}s  {}", after.as_secs_f64(), in_short(entry));
    if let Some(via) = value["via"].as_str().filter(|via| *via != crate::names::PRIMARY) {
        text.push_str(&format!(" via {via}"));
    }
    if let Some(attempt) = value["attempt"].as_u64().filter(|n| *n > 1) {
        text.push_str(&format!(" (attempt {attempt})"));
    }
    if let Some(code) = value["error"]["code"].as_str() {
        text.push_str(&format!(": {code}"));
    }
    if let Some(status) = value["status"].as_str() {
        text.push_str(&format!(": {status}"));
    }
    text
}
