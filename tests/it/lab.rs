//! A laboratory for runs: a workflow as text, handlers that do as they are told, virtual time, and as many lives of
//! the process as a test wants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flowrun::definition::{Definition, Loaded};
use flowrun::diag::{Finding, Severity};
use flowrun::engine::report::RunReport;
use flowrun::engine::view::View;
use flowrun::engine::{Engine, EngineOptions, Observer, Patience, Submission, Workflow};
use flowrun::handlers::{Confirmation, Contracts, Handlers, Registry, State, StepCtx, StepError, World};
use flowrun::limits::Limits;
use flowrun::machine::event::{CallId, CallKind, Event};
use flowrun::machine::fold;
use flowrun::machine::state::RunState;
use flowrun::names::{HandlerName, RunKey};
use flowrun::plan::{Action, Plan};
use flowrun::store::format;
use flowrun::store::journal::{Commit, Journal, LiveRow, StartRow};
use flowrun::store::memory::MemoryStore;
use flowrun::time::{Clock, Sleep, Timestamp, VirtualClock, sleep_in_pieces};
use flowrun::verify::Model;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// The day on which every test begins.
const BEGIN: Timestamp = Timestamp(1_800_000_000_000);

/// What a handler does when it is called.
#[derive(Clone, Debug)]
pub enum Act {
    /// Returns this.
    Return(Value),
    /// Fails: it did not happen, and may work later.
    Retryable(&'static str),
    /// Fails: it did not happen, and will not.
    Permanent(&'static str),
    /// Fails: it may have happened.
    Unknown(&'static str),
    /// Takes so long before it returns its input.
    Slow(Duration),
    /// Takes so long, whatever the cancellation token says, and then fails permanently.
    SlowFailure(Duration, &'static str),
    /// Returns when the cancellation token is set.
    UntilCancelled,
    /// Takes so long, and counts how many do at once, and the most that ever did.
    Counted(Arc<(AtomicUsize, AtomicUsize)>, Duration),
    /// Never answers.
    Hang,
    /// Panics.
    Panic,
    /// Answers a confirm: it was done, and returned this.
    Done(Value),
    /// Answers a confirm: it was not done.
    NotDone,
    /// Answers a confirm: it cannot be said.
    CannotSay,
}

/// A call that a handler got.
#[derive(Clone, Debug, PartialEq)]
pub struct Called {
    /// The handler and the step: `act.keyed charge`, or `act.keyed charge[2]`.
    pub what: String,
    /// The attempt.
    pub attempt: u32,
    /// The idempotency key.
    pub key: String,
    /// The input.
    pub input: Value,
    /// When the attempt ends.
    pub deadline: Timestamp,
    /// Milliseconds since the test began.
    pub at_ms: i64,
}

/// What the handlers share.
#[derive(Default)]
pub struct Script {
    acts: Mutex<BTreeMap<String, VecDeque<Act>>>,
    calls: Mutex<Vec<Called>>,
}

impl Script {
    async fn play(&self, handler: &str, ctx: &StepCtx, input: &Value) -> Result<Act, StepError> {
        let place = ctx.item.map_or_else(|| ctx.step.to_string(), |item| format!("{}[{item}]", ctx.step));
        let what = format!("{handler} {place}");
        self.calls.lock().unwrap().push(Called {
            what: what.clone(),
            attempt: ctx.attempt,
            key: ctx.key.to_string(),
            input: input.clone(),
            deadline: ctx.deadline,
            at_ms: ctx.now().0 - BEGIN.0,
        });
        let act = {
            let mut acts = self.acts.lock().unwrap();
            let queue = acts.get_mut(&what);
            // The last act is repeated for ever.
            queue.and_then(|queue| if queue.len() > 1 { queue.pop_front() } else { queue.front().cloned() })
        };
        match act.unwrap_or_else(|| Act::Return(input.clone())) {
            Act::Retryable(code) => Err(StepError::retryable(code, "as told")),
            Act::Permanent(code) => Err(StepError::permanent(code, "as told")),
            Act::Unknown(code) => Err(StepError::unknown(code, "as told")),
            Act::Slow(time) => {
                ctx.sleep(time).await;
                Ok(Act::Return(input.clone()))
            }
            Act::Counted(count, time) => {
                let now = count.0.fetch_add(1, Ordering::SeqCst) + 1;
                count.1.fetch_max(now, Ordering::SeqCst);
                ctx.sleep(time).await;
                count.0.fetch_sub(1, Ordering::SeqCst);
                Ok(Act::Return(input.clone()))
            }
            Act::SlowFailure(time, code) => {
                ctx.sleep(time).await;
                Err(StepError::permanent(code, "as told"))
            }
            Act::UntilCancelled => {
                ctx.cancellation.cancelled().await;
                Ok(Act::Return(json!("stopped")))
            }
            Act::Hang => std::future::pending().await,
            Act::Panic => panic!("as told"),
            other => Ok(other),
        }
    }
}

async fn output(handler: &str, ctx: StepCtx, script: State<Arc<Script>>, input: Value) -> Result<Value, StepError> {
    match script.play(handler, &ctx, &input).await? {
        Act::Return(value) => Ok(value),
        other => panic!("{handler} cannot {other:?}"),
    }
}

async fn answer(
    handler: &str,
    ctx: StepCtx,
    script: State<Arc<Script>>,
    input: Value,
) -> Result<Confirmation<Value>, StepError> {
    match script.play(handler, &ctx, &input).await? {
        Act::Done(value) => Ok(Confirmation::Done(value)),
        Act::NotDone => Ok(Confirmation::NotDone),
        Act::CannotSay | Act::Return(_) => Ok(Confirmation::Unknown),
        other => panic!("{handler} cannot {other:?}"),
    }
}

macro_rules! plays {
    ($($fn:ident as $name:literal: $out:ty = $play:ident;)*) => {
        $(async fn $fn(ctx: StepCtx, script: State<Arc<Script>>, input: Value) -> Result<$out, StepError> {
            $play($name, ctx, script, input).await
        })*
    };
}

/// The input of a handler that does not take everything.
#[derive(serde::Deserialize, schemars::JsonSchema)]
pub struct Number {
    n: i64,
}

async fn picky(ctx: StepCtx, script: State<Arc<Script>>, input: Number) -> Result<Value, StepError> {
    output("picky", ctx, script, json!({ "n": input.n })).await
}

plays! {
    read as "read": Value = output;
    once as "act.once": Value = output;
    safe as "act.safe": Value = output;
    keyed as "act.keyed": Value = output;
    other as "other.keyed": Value = output;
    undo as "undo": Value = output;
    undo_once as "undo.once": Value = output;
    lookup as "lookup": Confirmation<Value> = answer;
    lookup_weak as "lookup.weak": Confirmation<Value> = answer;
}

/// Returns the handlers that workflows of a laboratory can use.
pub fn registry(script: &Arc<Script>) -> Registry {
    const CODES: [&str; 3] = ["a.down", "a.no", "a.lost"];
    Registry::new()
        .state(Arc::clone(script))
        .handler("picky", picky)
        .errors(CODES)
        .handler("read", read)
        .errors(CODES)
        .handler("act.once", once)
        .effect("acted")
        .errors(CODES)
        .handler("act.safe", safe)
        .effect("acted")
        .safe()
        .errors(CODES)
        .handler("act.keyed", keyed)
        .effect("acted")
        .keyed()
        .errors(CODES)
        .handler("other.keyed", other)
        .effect("acted")
        .keyed()
        .errors(CODES)
        .handler("undo", undo)
        .undoes("acted", "undone")
        .keyed()
        .if_absent_ok()
        .blocks_late()
        .errors(CODES)
        .handler("undo.once", undo_once)
        .undoes("acted", "undone")
        .errors(CODES)
        .handler("lookup", lookup)
        .blocks_late()
        .errors(CODES)
        .handler("lookup.weak", lookup_weak)
        .errors(CODES)
}

/// A clock that goes on from one life of the process to the next.
#[derive(Clone, Default)]
struct LifeClock(Arc<Mutex<(Timestamp, Option<VirtualClock>)>>);

impl Clock for LifeClock {
    fn now(&self) -> Timestamp {
        let mut state = self.0.lock().unwrap();
        if let Some(clock) = state.1 {
            state.0 = clock.now();
        }
        state.0
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        // By the very code of the machine's own clock.
        let clock = self.clone();
        Box::pin(async move { sleep_in_pieces(&clock, at).await })
    }
}

/// A workflow, its store, and its handlers.
pub struct Lab {
    text: String,
    clock: LifeClock,
    script: Arc<Script>,
    handlers: Mutex<Handlers>,
    store: Mutex<MemoryStore>,
    boundaries: Arc<Mutex<BTreeMap<RunKey, BTreeSet<u64>>>>,
    differences: Arc<Mutex<Vec<String>>>,
    plans: Arc<Mutex<BTreeMap<RunKey, Arc<Plan>>>>,
    /// Runs whose journals no product wrote, which no model has to allow.
    spared: Mutex<BTreeSet<RunKey>>,
    /// After how many commits the process dies.
    doom: Arc<(Mutex<Option<u64>>, Notify)>,
    /// Whether timers are served in the very millisecond: in virtual time that goes forwards.
    punctual: Mutex<bool>,
    /// What the keys and the luck of runs follow from, if not from chance.
    pub seed: Option<u64>,
    pub limits: Limits,
}

impl Lab {
    /// Makes a laboratory for a workflow; `body` is what follows the name.
    pub fn new(body: &str) -> Self {
        let clock = LifeClock(Arc::new(Mutex::new((BEGIN, None))));
        let script = Arc::new(Script::default());
        let handlers = registry(&script)
            .build(&World::in_memory(Arc::new(clock.clone())))
            .expect("the laboratory's handlers fit together");
        Self {
            text: text_of(body),
            clock,
            script,
            handlers: Mutex::new(handlers),
            store: Mutex::new(MemoryStore::with_id([7; 16])),
            boundaries: Arc::default(),
            differences: Arc::default(),
            plans: Arc::default(),
            spared: Mutex::default(),
            doom: Arc::default(),
            punctual: Mutex::new(true),
            seed: None,
            limits: Limits::default(),
        }
    }

    /// Tells a handler what to do for a step, call after call; the last act is repeated.
    pub fn script(self, what: &str, acts: impl IntoIterator<Item = Act>) -> Self {
        self.script.acts.lock().unwrap().insert(what.to_owned(), acts.into_iter().collect());
        self
    }

    /// Returns the calls that handlers got so far.
    pub fn calls(&self) -> Vec<Called> {
        self.script.calls.lock().unwrap().clone()
    }

    /// Returns which handler was called for which step, in order.
    pub fn called(&self) -> Vec<String> {
        self.calls().into_iter().map(|c| c.what).collect()
    }

    fn contracts(&self) -> Contracts {
        self.handlers.lock().unwrap().contracts()
    }

    /// Makes the workflow of the laboratory.
    pub fn workflow(&self) -> Arc<Workflow> {
        self.checked().unwrap_or_else(|errors| panic!("{errors:#?}\n{}", self.text))
    }

    /// Makes the workflow of the laboratory, or says what is wrong with it.
    pub fn checked(&self) -> Result<Arc<Workflow>, Vec<String>> {
        let definition = Definition {
            path: "lab.yaml".to_owned(),
            text: self.text.clone(),
            files: indexmap::IndexMap::new(),
            config: json!({}),
        };
        let errors = |findings: Vec<Finding>| -> Vec<String> {
            findings.into_iter().filter(|f| f.severity == Severity::Error).map(|f| f.message).collect()
        };
        let (loaded, findings) = definition.reopen(&self.limits);
        let mut found = errors(findings);
        let Some(loaded) = loaded else { return Err(found) };
        let config = Value::Object(loaded.parsed.document.config.clone());
        let loaded = Loaded { definition: Definition { config, ..loaded.definition.clone() }, ..loaded };
        found.extend(errors(flowrun::check::check(&loaded, &self.contracts())));
        if !found.is_empty() {
            return Err(found);
        }
        Ok(Arc::new(Workflow::compile(&loaded, &self.contracts()).expect("the settings fit")))
    }

    /// Lets the process live through `story`, then kills it.
    pub fn life<T, F: Future<Output = T>>(&self, story: impl FnOnce(Engine) -> F) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        self.life_in(runtime, story)
    }

    /// Lets the process live with several threads, in real time.
    pub fn life_in_threads<T, F: Future<Output = T>>(&self, story: impl FnOnce(Engine) -> F) -> T {
        *self.punctual.lock().unwrap() = false;
        self.life_in(
            tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap(),
            story,
        )
    }

    fn life_in<T, F: Future<Output = T>>(
        &self,
        runtime: tokio::runtime::Runtime,
        story: impl FnOnce(Engine) -> F,
    ) -> T {
        let result = runtime.block_on(async {
            let now = self.clock.now();
            self.clock.0.lock().unwrap().1 = Some(VirtualClock::starting_at(now));
            let store: Arc<dyn Journal> = {
                let mut store = self.store.lock().unwrap();
                *store = store.reopen();
                Arc::new(store.reopen())
            };
            let options = EngineOptions {
                limits: self.limits.clone(),
                observer: Some(self.folds_to_the_same()),
                seed: self.seed,
                ..EngineOptions::default()
            };
            let engine =
                Engine::new(store, self.handlers.lock().unwrap().clone(), Arc::new(self.clock.clone()), options)
                    .unwrap();
            let result = story(engine).await;
            self.clock.now();
            result
        });
        self.clock.0.lock().unwrap().1 = None;
        drop(runtime);
        let differences = std::mem::take(&mut *self.differences.lock().unwrap());
        assert!(differences.is_empty(), "the fold of the events is another state: {differences:#?}");
        let runs: Vec<RunKey> = self.plans.lock().unwrap().keys().copied().collect();
        for run in runs.into_iter().filter(|run| !self.spared.lock().unwrap().contains(run)) {
            self.modelled(run).unwrap_or_else(|violation| panic!("{violation}"));
        }
        result
    }

    /// Holds a run's journal to the model. Returns the model's state after it.
    pub fn modelled(&self, run: RunKey) -> Result<Model, String> {
        self.modelled_with(run, |_| {})
    }

    /// Holds a run's journal to the model, with its events changed. Returns the model's state after it.
    pub fn modelled_with(&self, run: RunKey, change: impl Fn(&mut Event)) -> Result<Model, String> {
        let plan = Arc::clone(&self.plans.lock().unwrap()[&run]);
        let mut model = Model::new(plan, self.limits.clone());
        if *self.punctual.lock().unwrap() {
            model = model.punctual();
        }
        let records = self.store.lock().unwrap().records(run).map_err(|e| e.to_string())?;
        let mut told = String::new();
        for (seq, record) in records.iter().enumerate() {
            let mut entry = format::decode(record).map_err(|e| e.to_string())?;
            change(&mut entry.event);
            writeln!(told, "{seq} {} {:?}", entry.at.0 - BEGIN.0, entry.event).unwrap();
            model.allow(&entry.event, entry.at).map_err(|violation| {
                format!("the model does not allow event {seq}: {violation}\n{}\n{told}", self.text)
            })?;
        }
        Ok(model)
    }

    /// Holds the state that a machine has to the fold of what it recorded, at every commit; and notes the commits.
    fn folds_to_the_same(&self) -> Observer {
        let store = self.store.lock().unwrap().reader();
        let boundaries = Arc::clone(&self.boundaries);
        let plans = Arc::clone(&self.plans);
        let doom = Arc::clone(&self.doom);
        let differences = Arc::clone(&self.differences);
        Arc::new(move |recorded| {
            if recorded.seq + 1 != recorded.state.events || recorded.seq > 500 {
                return;
            }
            plans.lock().unwrap().entry(recorded.run).or_insert_with(|| Arc::clone(recorded.plan));
            let mut left = doom.0.lock().unwrap();
            if let Some(left) = &mut *left {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    doom.1.notify_one();
                }
            }
            drop(left);
            boundaries.lock().unwrap().entry(recorded.run).or_default().insert(recorded.seq + 1);
            let entries = store.records(recorded.run).unwrap();
            let entries = entries.iter().map(|r| format::decode(r).unwrap()).take(recorded.seq as usize + 1);
            let folded = fold(recorded.run, recorded.plan, entries).unwrap();
            if comparable(&folded) != comparable(recorded.state) {
                let (folded, live) = (comparable(&folded), comparable(recorded.state));
                let differs = folded.lines().zip(live.lines()).find(|(folded, live)| folded != live);
                differences.lock().unwrap().push(format!("after event {}: {differs:?}", recorded.seq));
            }
        })
    }

    /// Returns the run's records, and after how many of them each commit ended.
    pub fn recorded(&self, run: RunKey) -> (Vec<Vec<u8>>, BTreeSet<u64>) {
        let records = self.store.lock().unwrap().records(run).unwrap();
        (records, self.boundaries.lock().unwrap().get(&run).cloned().unwrap_or_default())
    }

    /// Puts a new store that has only the first records of a run in the place of the store.
    pub fn cut_back(&self, run: RunKey, records: Vec<Vec<u8>>) {
        // The clock may show less than the journal.
        *self.punctual.lock().unwrap() = false;
        let (workflow, started) = (self.workflow(), format::decode(&records[0]).unwrap());
        let Event::RunStarted(started) = started.event else { panic!("a run begins with its start") };
        let live = LiveRow { id: started.id.clone(), workflow: started.workflow.clone(), started_at: BEGIN };
        let definition = (workflow.fingerprint, Arc::clone(&workflow.pinned));
        let start = StartRow { id: started.id.clone(), live, definition };
        let store = MemoryStore::with_id([7; 16]);
        let commit = Commit {
            run,
            first: 0,
            records: records.iter().collect(),
            start: Some(start),
            finish: None,
            breakers: Vec::new(),
        };
        if fold(run, &workflow.plan, commit.records.iter().map(|r| format::decode(r).unwrap())).is_err() {
            self.spare(run);
        }
        let committed = store.commit(commit);
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(committed).unwrap();
        *self.store.lock().unwrap() = store;
    }

    /// Says that the journal of a run is not what a product would write: no model has to allow it.
    pub fn spare(&self, run: RunKey) {
        self.spared.lock().unwrap().insert(run);
    }

    /// Lets the process live through `story`, and die when so many commits are durable.
    pub fn doomed_life<T, F: Future<Output = T>>(&self, commits: u64, story: impl FnOnce(Engine) -> F) -> Option<T> {
        *self.doom.0.lock().unwrap() = Some(commits);
        let doom = Arc::clone(&self.doom);
        let result = self.life(|engine| async move {
            tokio::select! {
                biased;
                () = doom.1.notified() => None,
                result = story(engine) => Some(result),
            }
        });
        *self.doom.0.lock().unwrap() = None;
        result
    }

    /// Holds the calls that handlers got to the starts that are recorded: each follows from one, and keys are equal
    /// exactly where the model says so. The laboratory must have had no other run.
    pub fn keys_fit(&self, run: RunKey) -> Result<(), String> {
        let plan = Arc::clone(&self.plans.lock().unwrap()[&run]);
        let mut model = Model::new(Arc::clone(&plan), self.limits.clone());
        let mut starts = Vec::new();
        for record in &self.store.lock().unwrap().records(run).unwrap() {
            let entry = format::decode(record).unwrap();
            model.allow(&entry.event, entry.at).map_err(|v| v.to_string())?;
            if let Event::CallStarted { call, attempt, until, .. } = &entry.event {
                let handler = handler_of(&plan, call);
                let what = format!("{handler} {}", call.place);
                starts.push((what, *attempt, *until, call.clone(), model.generation(call)));
            }
        }
        let mut keys = BTreeMap::new();
        for called in self.calls() {
            let fits = |s: &(String, u32, Timestamp, CallId, u32)| {
                (&s.0, s.1, s.2) == (&called.what, called.attempt, called.deadline)
            };
            let start = starts.iter().position(fits).ok_or_else(|| format!("{called:?} has no recorded start"))?;
            let (.., call, generation) = starts.remove(start);
            let key = called.key.trim_end_matches("/undo").trim_end_matches("/confirm").to_owned();
            let kind = if call.kind == CallKind::Finally { CallKind::Finally } else { CallKind::Forward };
            let of = (CallId { kind, ..call }, generation);
            if keys.entry(of.clone()).or_insert_with(|| key.clone()) != &key {
                return Err(format!("{called:?} has another key than {of:?} before"));
            }
        }
        let different: BTreeSet<&String> = keys.values().collect();
        if different.len() < keys.len() { Err(format!("one key for two things: {keys:#?}")) } else { Ok(()) }
    }

    /// Runs the workflow as `it` in one life until it rests.
    pub fn run(&self, input: Value) -> RunReport {
        self.run_as("it", input)
    }

    /// Runs the workflow under an id in one life until it rests.
    pub fn run_as(&self, id: &str, input: Value) -> RunReport {
        let workflow = self.workflow();
        self.life(|engine| async move {
            let submitted = engine.submit(Submission { workflow, input, id: Some(id.into()) }).await.unwrap();
            engine.rest(submitted.run, Patience::Timers).await.unwrap()
        })
    }

    /// Lets time pass while nobody lives.
    pub fn pass(&self, time: Duration) {
        let mut clock = self.clock.0.lock().unwrap();
        clock.0 = clock.0.after(time);
    }

    /// Sets the clock back while nobody lives.
    pub fn set_back(&self, time: Duration) {
        *self.punctual.lock().unwrap() = false;
        let mut clock = self.clock.0.lock().unwrap();
        clock.0 = Timestamp(clock.0.0 - i64::try_from(time.as_millis()).unwrap());
    }

    /// Sets the clock while somebody lives, by so many milliseconds; the runtime's own time goes on as it was.
    pub fn jump(&self, by_ms: i64) {
        *self.punctual.lock().unwrap() = false;
        let now = Timestamp(self.clock.now().0.saturating_add(by_ms));
        let mut clock = self.clock.0.lock().unwrap();
        *clock = (now, Some(VirtualClock::starting_at(now)));
    }

    /// Sets the clock while nobody lives.
    pub fn set_clock(&self, to: Timestamp) {
        *self.punctual.lock().unwrap() = false;
        self.clock.0.lock().unwrap().0 = to;
    }

    /// Changes the workflow's file; runs in the store are not asked.
    pub fn edited(self, body: &str) -> Self {
        Self { text: text_of(body), ..self }
    }

    /// Does something while no handler but the built-in ones is registered.
    pub fn without_handlers<T>(&self, story: impl FnOnce() -> T) -> T {
        self.with_handlers(Registry::new(), story)
    }

    /// Does something while other handlers are registered.
    pub fn with_handlers<T>(&self, registry: Registry, story: impl FnOnce() -> T) -> T {
        let others = registry.build(&World::in_memory(Arc::new(self.clock.clone()))).unwrap();
        let handlers = std::mem::replace(&mut *self.handlers.lock().unwrap(), others);
        let result = story();
        *self.handlers.lock().unwrap() = handlers;
        result
    }

    /// Starts the workflow, and kills the process when `time` has gone by.
    pub fn run_and_kill_after(&self, input: Value, time: Duration) -> RunKey {
        let workflow = self.workflow();
        self.life(|engine| async move {
            let submitted = engine.submit(Submission { workflow, input, id: Some("it".into()) }).await.unwrap();
            self.clock.sleep_until(self.clock.now().after(time)).await;
            submitted.run
        })
    }

    /// Starts the workflow, and stops the process in order when `time` has gone by.
    pub fn run_and_stop_after(&self, input: Value, time: Duration) {
        let workflow = self.workflow();
        self.life(|engine| async move {
            engine.submit(Submission { workflow, input, id: Some("it".into()) }).await.unwrap();
            self.clock.sleep_until(self.clock.now().after(time)).await;
            engine.stop(Duration::from_secs(1)).await;
        });
    }

    /// Lets a new process take up what is unfinished, and kills it when `time` has gone by.
    pub fn resume_and_kill_after(&self, time: Duration) {
        self.life(|engine| async move {
            // Taking up runs that were under way when processes died waits for them.
            let all = engine.clone();
            tokio::spawn(async move { all.resume_all().await });
            self.clock.sleep_until(self.clock.now().after(time)).await;
        });
    }

    /// Lets a new process take up what is unfinished, until it rests.
    pub fn resume(&self) -> RunReport {
        self.life(|engine| async move {
            engine.resume_all().await.unwrap();
            let run = engine.find("it").unwrap();
            engine.rest(run, Patience::Timers).await.unwrap()
        })
    }

    /// Returns the types of the run's events, with the step where there is one: `step_started charge`.
    pub fn history(&self) -> Vec<String> {
        self.history_of("it")
    }

    /// Returns the types of the events of the run with this id.
    pub fn history_of(&self, id: &str) -> Vec<String> {
        let describe = |event: Value| {
            let kind = event["type"].as_str().unwrap_or_default().to_owned();
            match (event["step"].as_str(), event["item"].as_u64()) {
                (Some(step), Some(item)) => format!("{kind} {step}[{item}]"),
                (Some(step), None) => format!("{kind} {step}"),
                (None, _) => kind,
            }
        };
        self.events_of(id).into_iter().map(describe).collect()
    }

    /// Returns the run's events as JSON.
    pub fn events(&self) -> Vec<Value> {
        self.events_of("it")
    }

    /// Returns the events of the run with this id as JSON.
    pub fn events_of(&self, id: &str) -> Vec<Value> {
        let store: Arc<dyn Journal> = Arc::new(self.store.lock().unwrap().reopen());
        let view = View::new(store, self.contracts(), self.limits.clone());
        let run = view.find(id).unwrap();
        view.history_json(run).unwrap()
    }
}

/// What of a state has to follow from the events alone. An alarm that has gone off is forgotten by the machine, and comes
/// back with the next process.
fn comparable(state: &RunState) -> String {
    let mut state = state.clone();
    state.alarms.clear();
    format!("{state:#?}")
}

fn handler_of(plan: &Plan, call: &CallId) -> HandlerName {
    if call.kind == CallKind::Finally {
        return plan.finally.iter().find(|f| f.name == call.place.step).unwrap().call.handler.clone();
    }
    let Action::Call(members) = &plan.step(plan.find(&call.place.step).unwrap()).action else { panic!("no call") };
    let member = &members[usize::from(call.member)];
    match call.kind {
        CallKind::Confirm => member.confirm.as_ref().unwrap().handler.clone(),
        CallKind::Undo => member.compensate.as_ref().unwrap().handler.clone(),
        CallKind::Forward | CallKind::Finally => member.call.handler.clone(),
    }
}

fn text_of(body: &str) -> String {
    format!("flowrun: 1\nname: lab\n{}", unindented(body))
}

/// Takes the common indentation from a text, so that workflows can stand indented in tests.
fn unindented(text: &str) -> String {
    let lines = || text.lines().filter(|l| !l.trim().is_empty());
    let margin = lines().map(|l| l.len() - l.trim_start().len()).min().unwrap_or(0);
    text.lines().map(|l| l.get(margin..).unwrap_or("").to_owned() + "\n").collect()
}

/// Lets virtual time pass inside a life; nothing really waits.
#[expect(clippy::disallowed_methods, reason = "the runtime's paused time is the laboratory's clock")]
pub async fn time_passes(time: Duration) {
    tokio::time::sleep(time).await;
}
