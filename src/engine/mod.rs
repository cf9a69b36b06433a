//! The engine: makes events durable and carries commands out.
//!
//! It owns the order of things (decide, record, act), the attempts under way, the timers, and what runs share: the
//! services' breakers and places. It knows the [`Journal`] by its trait only, and decides no policy: every decision is
//! the machine's.

mod attempts;
mod driver;
pub(crate) mod executor;
pub mod export;
#[cfg(test)]
mod faulty_disk;
pub(crate) mod library;
mod operate;
pub mod report;
mod secrets;
pub(crate) mod services;
mod submit;
mod takeover;
pub mod view;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use self::driver::{Driver, Mailbox, Message, Position};
use self::executor::Executor;
use self::library::Library;
use self::report::RunReport;
use self::services::Services;
use crate::faults::{CallFacts, Faults};
use crate::handlers::registry::Handlers;
use crate::limits::Limits;
use crate::machine::event::Entry;
use crate::machine::state::{Alarm, RunState};
use crate::machine::{Machine, Refusal};
use crate::names::RunKey;
use crate::plan::Plan;
use crate::store::journal::{Journal, RunRow, StoreError};
use crate::teeth::{Bug, awake};
use crate::time::{Clock, Timestamp};

pub use self::library::Workflow;
pub use self::submit::{Known, Submission, Submitted};
#[cfg(feature = "restate")]
pub(crate) use self::submit::{check_id, check_input, differs};

/// An event that has become durable.
#[derive(Debug)]
pub struct Recorded<'a> {
    /// The run.
    pub run: RunKey,
    /// The run's id.
    pub id: &'a str,
    /// The event's number in its run, from 0.
    pub seq: u64,
    /// The event.
    pub entry: &'a Entry,
    /// The state of the run, after this and what was recorded with it.
    pub state: &'a RunState,
    /// The run's plan.
    pub plan: &'a Arc<Plan>,
}

/// Is told every event once it is durable.
pub type Observer = Arc<dyn Fn(&Recorded<'_>) + Send + Sync>;

/// Ends the process at once, without any cleaning up; for injected faults.
pub type Killer = Arc<dyn Fn() + Send + Sync>;

/// A moment in an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The attempt is durable, and its handler is about to be called, or a fault to stand in for it.
    Before,
    /// The handler has acted, and nothing of it is recorded yet.
    After,
    /// A fault does what it says, here and now; for tests that want to be sure of it.
    Fault,
}

/// What becomes of whoever carries an attempt out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    GoesOn,
    /// The process dies.
    Dies,
    /// It is gone, and nothing else is: one worker of many has died. Nobody hears how the attempt ended.
    IsLost,
}

/// Is told of every attempt, and says what happens there to whoever carries it out; for tests that count attempts, or end
/// the world inside each of them.
pub type Watch = Arc<dyn Fn(&CallFacts<'_>, Moment) -> Fate + Send + Sync>;

/// What an engine can be told.
#[derive(Clone, Default)]
pub struct EngineOptions {
    /// The limits in force.
    pub limits: Limits,
    /// Secrets, by the names that workflows give them; the environment is asked without this.
    pub secrets: Option<Arc<BTreeMap<String, String>>>,
    /// Faults to inject around handlers.
    pub faults: Option<Arc<Faults>>,
    /// Is told every event.
    pub observer: Option<Observer>,
    /// Ends the process for the faults `kill_before` and `kill_after`; by default by SIGKILL.
    pub killer: Option<Killer>,
    /// Is told of every attempt.
    pub watch: Option<Watch>,
    /// Makes the keys of runs repeatable: they follow from the seed and the run's id instead of from chance.
    pub seed: Option<u64>,
    /// Blocking handlers are waited for on the spot, for at most so long of real time, so that events have the same order
    /// every time. Only of use on one thread.
    pub lockstep: Option<Duration>,
}

/// How long [`Engine::rest`] waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until nothing but waits without a time is left.
    Timers,
    /// Until nothing but waits is left.
    None,
}

/// What an unfinished run waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// It is parked.
    pub(crate) parked: bool,
    /// Only waits are left.
    pub(crate) waiting: bool,
    /// When the next wait ends by itself.
    pub(crate) next_wait: Option<Timestamp>,
    /// Nothing of it is under way.
    pub(crate) idle: bool,
}

impl Standing {
    /// Reads off where a run stands at `now`.
    pub(crate) fn of(machine: &Machine, now: Timestamp) -> Self {
        let state = machine.state();
        let idle = !machine.has_attempts() && !machine.waits_for_a_place();
        // What is due already, such as a deadline that passed while nobody was there, comes before any rest.
        let due = state.next_alarm().is_some_and(|at| at <= now);
        let waiting = state.status() == "waiting" && idle && !due;
        let ends_a_wait = |alarm: &Alarm| match alarm {
            Alarm::Wait(_) => true,
            Alarm::Deadline => !awake(Bug::DeadlineIsNoTimer),
            Alarm::Call(_) => false,
        };
        // While calls back off there may be an alarm for each of thousands of items, and nobody asks.
        let next = || state.alarms.iter().find(|(_, alarm)| ends_a_wait(alarm)).map(|(at, _)| *at);
        Self { parked: state.parked.is_some(), waiting, next_wait: if waiting { next() } else { None }, idle }
    }

    /// Tells whether the run goes no further by itself, as far as somebody is willing to wait.
    pub(crate) fn is_resting(&self, patience: Patience) -> bool {
        let waits = match patience {
            Patience::None => self.waiting,
            Patience::Timers => self.waiting && self.next_wait.is_none(),
        };
        self.parked || waits
    }
}

/// Why the engine did not do what was asked.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum EngineError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such run.
    #[error("{message}")]
    NotFound {
        /// What was looked for, and what there is.
        message: String,
    },
    /// Several runs fit.
    #[error("`{text}` fits several runs: {}", .candidates.join(", "))]
    Ambiguous {
        /// What was looked for.
        text: String,
        /// Ids that fit.
        candidates: Vec<String>,
    },
    /// The machine refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The id belongs to a run with another input, workflow or configuration.
    #[error("{message}")]
    Conflict {
        /// What differs.
        message: String,
    },
    /// The input does not fit the workflow's schema.
    #[error("the input does not fit the workflow's schema")]
    Input(Vec<InputError>),
    /// Secrets that the workflow names are not in the environment.
    #[error("missing in the environment: {}", .0.join(", "))]
    Secrets(Vec<String>),
    /// A pinned definition can no longer be compiled.
    #[error("{0}")]
    Definition(String),
    /// The engine is being stopped.
    #[error("flowrun is stopping")]
    Stopping,
    /// A mistake of flowrun's own.
    #[error("{0}")]
    Bug(String),
}

impl EngineError {
    /// Tells whether it is one run that cannot be read or gone on with, so that others may.
    #[must_use]
    pub fn is_of_one_run(&self) -> bool {
        matches!(
            self,
            Self::Bug(_) | Self::Definition(_) | Self::Store(StoreError::Corrupt { .. } | StoreError::Missing { .. })
        )
    }
}

/// A place where an input does not fit its schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputError {
    /// JSON pointer to the place.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}

/// Runs workflows. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    journal: Arc<dyn Journal>,
    library: Library,
    executor: Arc<Executor>,
    services: Services,
    runs: Mutex<HashMap<RunKey, Running>>,
    /// Held while a run is taken over: what was read of it must still be all there is when its driver begins.
    taking_over: tokio::sync::Mutex<()>,
    halted: watch::Sender<Option<StoreError>>,
    stopping: AtomicBool,
}

/// A run that a driver has.
#[derive(Clone)]
struct Running {
    mailbox: Mailbox,
    position: watch::Receiver<Position>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("runs", &self.inner.runs.lock().len()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Makes an engine over a store. Nothing is resumed before it is asked for.
    ///
    /// # Errors
    /// When the breakers' recorded state cannot be read.
    pub fn new(
        journal: Arc<dyn Journal>,
        handlers: Handlers,
        clock: Arc<dyn Clock>,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        let services = Services::restore(journal.breakers()?);
        let library = Library::new(Arc::clone(&journal), handlers.contracts(), options.limits.clone());
        let inner = Inner {
            journal,
            library,
            executor: Arc::new(Executor { handlers, clock, options }),
            services,
            runs: Mutex::new(HashMap::new()),
            taking_over: tokio::sync::Mutex::new(()),
            halted: watch::channel(None).0,
            stopping: AtomicBool::new(false),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Waits until a run rests: it is final or parked, or only waits are left (see [`Patience`]).
    ///
    /// # Errors
    /// When the store failed meanwhile.
    pub async fn rest(&self, run: RunKey, patience: Patience) -> Result<RunReport, EngineError> {
        match self.wait_for(run, |position| position.is_resting(patience)).await? {
            Some(report) => Ok(Arc::unwrap_or_clone(report)),
            None => self.standing(run).await,
        }
    }

    /// Returns what can be said of a run: by the driver that has it, else from its journal.
    async fn standing(&self, run: RunKey) -> Result<RunReport, EngineError> {
        let running = self.inner.runs.lock().get(&run).cloned();
        if let Some(running) = running {
            let (reply, report) = oneshot::channel();
            if running.mailbox.send(Message::Report(reply)).is_ok()
                && let Ok(report) = report.await
            {
                return Ok(report);
            }
        }
        self.report(run)
    }

    /// Waits for something of a run. Returns its report if it has become final meanwhile.
    async fn wait_for(
        &self,
        run: RunKey,
        done: impl Fn(&Position) -> bool,
    ) -> Result<Option<Arc<RunReport>>, EngineError> {
        let Some(mut position) = self.inner.runs.lock().get(&run).map(|r| r.position.clone()) else { return Ok(None) };
        let mut halted = self.inner.halted.subscribe();
        let gone = tokio::select! {
            // The sender is gone once the run's driver has ended.
            reached = position.wait_for(|p| p.broken.is_some() || done(p)) => reached.is_err(),
            _ = halted.wait_for(Option::is_some) => false,
        };
        if let Some(error) = self.inner.halted.borrow().clone() {
            return Err(error.into());
        }
        let position = position.borrow();
        match &position.broken {
            Some(bug) => Err(EngineError::Bug(bug.clone())),
            // It panicked: what is recorded of the run is for the next process.
            None if gone && !position.down => Err(EngineError::Bug("the driver of the run is gone".to_owned())),
            None => Ok(position.report.clone()),
        }
    }

    /// Finds a run by its id, a unique prefix, or `@last`.
    ///
    /// # Errors
    /// When there is none, or several fit.
    pub fn find(&self, text: &str) -> Result<RunKey, EngineError> {
        self.inner.library.find(text)
    }

    /// Returns the id of a run.
    ///
    /// # Errors
    /// When the store cannot be read, or has no such run.
    pub fn id(&self, run: RunKey) -> Result<String, EngineError> {
        match self.inner.journal.run(run)? {
            Some(RunRow::Live(row)) => Ok(row.id),
            Some(RunRow::Done(row)) => Ok(row.id),
            None => Err(EngineError::NotFound { message: format!("there is no run {run}") }),
        }
    }

    /// Returns what can be said of a run, from its journal.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn report(&self, run: RunKey) -> Result<RunReport, EngineError> {
        self.inner.library.report(run)
    }

    /// Returns a view of the same store.
    #[must_use]
    pub fn view(&self) -> view::View {
        view::View::over(self.inner.library.clone())
    }

    /// Tells when the store has failed; nothing is recorded after that.
    #[must_use]
    pub fn halted(&self) -> watch::Receiver<Option<StoreError>> {
        self.inner.halted.subscribe()
    }

    /// Puts every run down: nothing new starts, attempts may end within `grace`, and that the runs were put down in
    /// order is recorded.
    pub async fn stop(&self, grace: Duration) {
        self.inner.stopping.store(true, Ordering::Release);
        let grace = if awake(Bug::GraceNotWaited) { Duration::ZERO } else { grace };
        let runs: Vec<Running> = self.inner.runs.lock().values().cloned().collect();
        let all_down = |runs: Vec<Running>| async move {
            for mut run in runs {
                // An error says that the driver has ended, which is what is waited for.
                let _ = run.position.wait_for(|p| p.down || p.broken.is_some()).await;
            }
        };
        for run in &runs {
            let _ = run.mailbox.send(Message::Hold);
        }
        let deadline = self.inner.executor.clock.sleep_until(self.inner.executor.clock.now().after(grace));
        tokio::select! {
            () = all_down(runs.clone()) => return,
            () = deadline => {}
        }
        for run in &runs {
            let _ = run.mailbox.send(Message::PutDown);
        }
        let mut halted = self.inner.halted.subscribe();
        tokio::select! {
            () = all_down(runs) => {}
            _ = halted.wait_for(Option::is_some) => {}
        }
    }

    /// Lets a driver drive, unless the engine is being stopped.
    fn drive(&self, (driver, running): (Box<Driver>, Running), first: Option<Message>) -> Result<Running, EngineError> {
        let mut runs = self.inner.runs.lock();
        // Whoever stops the engine says so before it asks which runs there are.
        if self.inner.stopping.load(Ordering::Acquire) {
            return Err(EngineError::Stopping);
        }
        if let Some(message) = first {
            let _ = running.mailbox.send(message);
        }
        runs.insert(driver.key(), running.clone());
        drop(runs);
        tokio::spawn(driver.run());
        Ok(running)
    }

    /// Waits until a driver has ended, and says why it did if that was not the end of its run.
    async fn after_the_end_of(&self, mut running: Running) -> Result<(), EngineError> {
        let in_order = running.position.wait_for(|p| p.down).await.is_ok();
        if let Some(error) = self.inner.halted.borrow().clone() {
            return Err(error.into());
        }
        match &running.position.borrow().broken {
            Some(bug) => Err(EngineError::Bug(bug.clone())),
            None if in_order => Ok(()),
            None => Err(EngineError::Bug("the driver of the run is gone".to_owned())),
        }
    }
}

impl Inner {
    /// Says why a run that was begun earlier cannot go on in this process.
    fn obstacle_to(&self, machine: &Machine) -> Option<(&'static str, String)> {
        let changed = || {
            let misfit = self.library.misfit(machine.state().started.definition)?;
            Some((
                "handler_changed",
                format!("a handler has changed since the run was started: {misfit}; resume the run where it fits"),
            ))
        };
        self.executor.obstacle(machine.plan()).or_else(changed)
    }

    /// Notes that the store failed: nothing is recorded any more, and everyone who waits is told.
    fn halt(&self, error: StoreError) {
        tracing::error!(%error, "the store failed");
        self.halted.send_modify(|halted| {
            halted.get_or_insert(error);
        });
    }
}
