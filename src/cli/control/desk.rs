//! Answers requests over a store that this process holds.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::request::{Answer, Happened, Notice, Request, Rested, Stay, Task};
use crate::cli::args::Drawing;
use crate::cli::db::fingerprint;
use crate::cli::problem::Problem;
use crate::definition::Definition;
use crate::engine::report::RunReport;
use crate::engine::view::{Filter, View};
use crate::engine::{Engine, EngineError, EngineOptions, Known, Patience, Recorded, Submission, Workflow};
use crate::faults::Faults;
use crate::handlers::contract::Contracts;
use crate::handlers::{Handlers, World};
use crate::limits::Limits;
use crate::machine::state::RunState;
use crate::names::{PRIMARY, RunKey};
use crate::plan::{Plan, StepIx, draw};
use crate::store::journal::Journal;
use crate::store::redb::RedbStore;
use crate::time::SystemClock;

/// How many events a watcher may be behind before it misses some.
const WATCHER_LAG: usize = 8_192;

/// About how many bytes of events a page of an export has.
const EXPORT_PAGE: usize = 1 << 20;

/// Where somebody is told what happens before the answer comes.
pub(in crate::cli) type Sink<'a> = &'a mut (dyn FnMut(Notice) + Send);

/// Answers requests over an open store.
pub(in crate::cli) struct Desk {
    journal: Arc<dyn Journal>,
    /// The file that can be copied, if the journal is one.
    file: Option<Arc<RedbStore>>,
    view: View,
    running: Option<Running>,
    contracts: Contracts,
    limits: Limits,
}

/// What a desk needs to run workflows besides reading about them.
struct Running {
    engine: Engine,
    hub: broadcast::Sender<Arc<Happened>>,
    workflows: Mutex<HashMap<[u8; 32], Arc<Workflow>>>,
    stopping: AtomicBool,
    /// This process leaves a message and goes; no run is to go on in it.
    passing: bool,
}

/// Whose events somebody wants; known once the work has begun.
#[derive(Default)]
struct Watched {
    runs: Mutex<Option<HashSet<RunKey>>>,
    /// The id of a run that was just taken in.
    taken: Mutex<Option<String>>,
    known: Notify,
}

impl Watched {
    fn want(&self, runs: HashSet<RunKey>, taken: Option<String>) {
        *self.runs.lock() = Some(runs);
        *self.taken.lock() = taken;
        self.known.notify_one();
    }
}

impl Desk {
    /// Makes a desk that reads only.
    pub(in crate::cli) fn reading(journal: Arc<dyn Journal>, contracts: Contracts, limits: &Limits) -> Self {
        let view = View::new(Arc::clone(&journal), contracts.clone(), limits.clone());
        Self { journal, file: None, view, running: None, contracts, limits: limits.clone() }
    }

    /// Makes a desk that reads a store in a file.
    pub(in crate::cli) fn over(file: RedbStore, contracts: Contracts, limits: &Limits) -> Self {
        let file = Arc::new(file);
        let desk = Self::reading(Arc::clone(&file) as Arc<dyn Journal>, contracts, limits);
        Self { file: Some(file), ..desk }
    }

    /// Makes a desk that also runs.
    pub(in crate::cli) fn running(
        journal: RedbStore,
        handlers: Handlers,
        limits: &Limits,
        faults: Option<Arc<Faults>>,
        passing: bool,
    ) -> Result<Self, Problem> {
        let contracts = handlers.contracts();
        let mut desk = Self::over(journal, contracts, limits);
        let (hub, _) = broadcast::channel(WATCHER_LAG);
        let told = hub.clone();
        let observer = move |recorded: &Recorded<'_>| {
            // Nobody watches most runs of a large batch, and nothing is copied for them.
            if told.receiver_count() > 0 {
                let entry = recorded.entry.clone();
                let happened = Happened { run: recorded.run, id: recorded.id.to_owned(), entry };
                let _ = told.send(Arc::new(happened));
            }
        };
        let options = EngineOptions {
            limits: limits.clone(),
            faults,
            observer: Some(Arc::new(observer)),
            ..EngineOptions::default()
        };
        let journal = Arc::clone(&desk.journal);
        let engine = Engine::new(journal, handlers, Arc::new(SystemClock), options)?;
        desk.view = engine.view();
        let workflows = Mutex::default();
        desk.running = Some(Running { engine, hub, workflows, stopping: AtomicBool::new(false), passing });
        Ok(desk)
    }

    /// Keeps a compiled workflow, so that runs of it need not compile it again.
    pub(in crate::cli) fn keep(&self, workflow: &Arc<Workflow>) {
        if let Some(running) = &self.running {
            running.workflows.lock().insert(workflow.fingerprint, Arc::clone(workflow));
        }
    }

    /// Answers a request.
    pub(in crate::cli) async fn ask(&self, request: Request, sink: Sink<'_>) -> Result<Answer, Problem> {
        match request {
            Request::List { statuses, workflow, needs_attention, limit } => {
                let filter = Filter { statuses, workflow, needs_attention, limit };
                Ok(Answer::Runs(self.view.list(&filter)?))
            }
            Request::Show { run } => Ok(Answer::Report(Box::new(self.report(&run)?))),
            Request::History { run } => {
                let run = self.view.find(&run)?;
                Ok(Answer::History { entries: self.view.history(run)?, json: self.view.history_json(run)? })
            }
            Request::Backup { to } => {
                let file = self.file.clone();
                let file = file.ok_or_else(|| Problem::usage("only a store in a file can be copied"))?;
                // If whoever asked goes away, this future is dropped, and the copy is given up.
                let gone = CancellationToken::new();
                let (stop, _guard) = (gone.clone(), gone.drop_guard());
                let copy = move || file.copy_to(&to, fingerprint, || stop.is_cancelled());
                let copied = tokio::task::spawn_blocking(copy).await;
                let copied = copied.map_err(|e| Problem::bug(format!("the copy was lost: {e}")))?;
                Ok(Answer::Copied(copied?))
            }
            Request::Export { run, at } => {
                let run = run.map(|run| self.view.find(&run)).transpose()?;
                Ok(Answer::Exported(self.view.export(run, at, EXPORT_PAGE)?))
            }
            Request::Graph { run, format, width } => {
                let (plan, state) = self.view.state(self.view.find(&run)?)?;
                let marks = marks(&plan, &state);
                Ok(Answer::Text(match format {
                    Drawing::Ascii => draw::ascii(&plan, &marks, width),
                    Drawing::Mermaid => draw::mermaid(&plan, &marks),
                    Drawing::Dot => draw::dot(&plan, &marks),
                }))
            }
            Request::Run { task, stay, watch } => {
                let running = self.engine()?;
                let watched = Watched::default();
                let work = async {
                    let (run, was_final) = self.start(running, task).await?;
                    watched.want(HashSet::from([run]), Some(running.engine.id(run)?));
                    let report = rest(running, run, stay).await?;
                    Ok::<_, Problem>(self.rested(running, report, was_final))
                };
                let rested = self.watched(running, watch, &watched, sink, work).await?;
                Ok(Answer::Rested(Box::new(rested)))
            }
            Request::ResumeAll { stay, watch } => {
                let running = self.engine()?;
                let watched = Watched::default();
                let work = async {
                    let live = self.journal.live()?.into_iter().map(|(run, _)| run).collect::<HashSet<_>>();
                    watched.want(live, None);
                    let runs = running.engine.resume_all().await?;
                    let (mut rested, mut left_alone) = (Vec::with_capacity(runs.len()), Vec::new());
                    // All are under way already; they are waited for one after the other.
                    for run in runs {
                        match rest(running, run, stay).await {
                            Ok(report) => rested.push(self.rested(running, report, false)),
                            Err(error) if error.is_of_one_run() && running.engine.halted().borrow().is_none() => {
                                left_alone.push(error.into());
                            }
                            Err(error) => return Err(error.into()),
                        }
                    }
                    Ok::<_, Problem>(Answer::AllRested { rested, left_alone })
                };
                self.watched(running, watch, &watched, sink, work).await
            }
        }
    }

    fn engine(&self) -> Result<&Running, Problem> {
        self.running.as_ref().ok_or_else(|| Problem::bug("a store that was opened for reading was asked to run"))
    }

    fn rested(&self, running: &Running, report: RunReport, was_final: bool) -> Rested {
        let unfinished = matches!(report.status.as_str(), "running" | "waiting");
        Rested { put_down: unfinished && running.stopping.load(Ordering::Acquire), report, was_final }
    }

    /// Does what is asked, and returns the run once it is durable, and whether the run was final before.
    async fn start(&self, running: &Running, task: Task) -> Result<(RunKey, bool), Problem> {
        let engine = &running.engine;
        let find = |text: &str| engine.find(text);
        Ok(match task {
            Task::Submit { definition, input, id } => {
                let workflow = self.workflow(running, *definition)?;
                let submitted = engine.submit(Submission { workflow, input, id }).await?;
                (submitted.run, submitted.known == Known::Final)
            }
            Task::Resume { run } => {
                let run = find(&run)?;
                let was_final = engine.report(run)?.finished_at.is_some();
                engine.resume(run).await?;
                (run, was_final)
            }
            Task::Signal { run, id, name, data } => {
                let run = find(&run)?;
                if running.passing {
                    engine.leave_signal(run, id, name, data).await?;
                } else {
                    engine.signal(run, id, name, data).await?;
                }
                (run, false)
            }
            Task::Cancel { run, reason, compensate } => {
                let run = find(&run)?;
                engine.cancel(run, reason, compensate).await?;
                (run, false)
            }
            Task::Retry { run, from } => {
                let run = find(&run)?;
                engine.retry(run, from.map(Into::into)).await?;
                (run, false)
            }
            Task::Compensate { run } => {
                let run = find(&run)?;
                engine.compensate(run).await?;
                (run, false)
            }
            Task::MarkDone { run, step, item, reason } => {
                let run = find(&run)?;
                engine.mark_done(run, step.into(), item, reason).await?;
                (run, false)
            }
        })
    }

    /// Returns the plan of a definition that somebody checked, checked again with the handlers of this process.
    fn workflow(&self, running: &Running, definition: Definition) -> Result<Arc<Workflow>, Problem> {
        let fingerprint = definition.fingerprint();
        if let Some(known) = running.workflows.lock().get(&fingerprint) {
            return Ok(Arc::clone(known));
        }
        let path = definition.path.clone();
        let workflow = Workflow::accept(definition, &self.contracts, &self.limits).map_err(|errors| {
            Problem::invalid(format!("{path} is not valid for the process that holds the store")).details(errors)
        })?;
        let workflow = Arc::new(workflow);
        running.workflows.lock().insert(fingerprint, Arc::clone(&workflow));
        Ok(workflow)
    }

    /// Does `work`, and tells `sink` meanwhile what happens to the runs that `watched` names once it does.
    async fn watched<T>(
        &self,
        running: &Running,
        watch: bool,
        watched: &Watched,
        sink: Sink<'_>,
        work: impl Future<Output = T>,
    ) -> T {
        let mut events = running.hub.subscribe();
        if !watch {
            // Without a receiver nothing is copied; the channel is only there to be waited on.
            drop(std::mem::replace(&mut events, broadcast::channel(1).1));
        }
        let mut early: Vec<Arc<Happened>> = Vec::new();
        let mut tell = |event: Option<Arc<Happened>>, sink: Sink<'_>| {
            if let Some(id) = watched.taken.lock().take() {
                sink(Notice::Taken(id));
            }
            early.extend(event);
            let wanted = watched.runs.lock();
            let Some(wanted) = wanted.as_ref() else { return };
            for event in early.drain(..).filter(|e| wanted.contains(&e.run)) {
                sink(Notice::Happened(Box::new(Happened::clone(&event))));
            }
        };
        let mut work = std::pin::pin!(work);
        let mut open = watch;
        let result = loop {
            tokio::select! {
                result = &mut work => break result,
                // What came before it was known whose events are wanted must not wait for the next one.
                () = watched.known.notified() => tell(None, sink),
                event = events.recv(), if open => match event {
                    Ok(event) => tell(Some(event), sink),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => open = false,
                },
            }
        };
        while let Some(event) = next_of(&mut events, watch) {
            tell(Some(event), sink);
        }
        tell(None, sink);
        result
    }

    /// Returns how a run stands that is meant by its id, a beginning of it, or `@last`.
    pub(in crate::cli) fn report(&self, run: &str) -> Result<RunReport, Problem> {
        Ok(self.view.report(self.view.find(run)?)?)
    }

    /// Tells whether runs can be started here.
    pub(in crate::cli) fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// Puts all runs down: nothing new starts, attempts may end within `grace`.
    pub(in crate::cli) async fn stop(&self, grace: Duration) {
        if let Some(running) = &self.running {
            running.stopping.store(true, Ordering::Release);
            running.engine.stop(grace).await;
        }
    }

    /// Lets the store go.
    pub(in crate::cli) fn close(&self) -> Result<(), Problem> {
        Ok(self.journal.close()?)
    }
}

/// Returns the next event that is there already.
fn next_of(events: &mut broadcast::Receiver<Arc<Happened>>, watch: bool) -> Option<Arc<Happened>> {
    use broadcast::error::TryRecvError;
    if !watch {
        return None;
    }
    loop {
        match events.try_recv() {
            Ok(event) => return Some(event),
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
        }
    }
}

/// Returns how a run and each of its steps stand, for a drawing.
fn marks(plan: &Plan, state: &RunState) -> draw::Marks {
    let steps = (0..plan.steps.len()).map(|n| {
        let ix = StepIx(u32::try_from(n).unwrap_or(u32::MAX));
        let status = state.step_status(ix).replace('_', " ");
        match state.via(plan, ix).filter(|via| **via != PRIMARY) {
            Some(via) => format!("{status}, via {via}"),
            None => status,
        }
    });
    draw::Marks { title: Some(format!("run {}: {}", state.started.id, state.status())), steps: steps.collect() }
}

async fn rest(running: &Running, run: RunKey, stay: Stay) -> Result<RunReport, EngineError> {
    match stay {
        Stay::No => running.engine.report(run),
        Stay::UntilWaits => running.engine.rest(run, Patience::None).await,
        Stay::UntilIdle => running.engine.rest(run, Patience::Timers).await,
    }
}

/// Returns the world of a store's handlers.
pub(in crate::cli) fn world_of(store: &std::path::Path) -> World {
    let mut world = World::in_memory(Arc::new(SystemClock));
    world.dir = Some(folder_of(store));
    world
}

/// Returns the folder that a store lies in.
pub(in crate::cli) fn folder_of(store: &std::path::Path) -> std::path::PathBuf {
    match store.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => ".".into(),
    }
}
