//! Tests of your own workflow with your own handlers: an error at each step, each step executed twice, a crash at each
//! commit.
//!
//! ```no_run
//! use flowrun::Registry;
//! use flowrun::testing::Testing;
//! use serde_json::json;
//!
//! # fn registry() -> Registry { Registry::new() }
//! #[test]
//! fn the_trip_survives() {
//!     let report = Testing::new(registry)
//!         .workflow("examples/custom.yaml")
//!         .input(json!({ "room": "blue", "nights": 2 }))
//!         .everything()
//!         .run()
//!         .expect("the workflow is valid")
//!         .assert();
//!     println!("{report}");
//! }
//! ```
//!
//! A workflow is run once as it is; what comes after is held against that. Time is virtual, the store is in memory, and
//! the same seed gives the same run; it is the player of `flowrun test` that runs it. Every run begins with a new
//! registry, so that the handlers' state is new, too. Whatever is done to a run:
//!
//! - it ends, or parks where the workflow says so;
//! - no step, undo or `finally` step is recorded twice;
//! - each call has one idempotency key in all its attempts, and the same one in all runs;
//! - if it fails, everything that was done is undone, what was built on a step before the step, or the run ends
//!   `incomplete` and names what is left;
//! - no effect is in the ledger twice with the same key, if the registry has a ledger;
//! - your own [`check`](Testing::check) holds;
//! - the fault happened where it was meant to.

mod judge;
mod report;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::check;
use crate::definition::{Definition, Overrides};
use crate::diag::{Severity, Style, text};
use crate::engine::Workflow;
use crate::engine::report::RunReport;
use crate::failure::ErrorKind;
use crate::faults::Faults;
use crate::handlers::{Handlers, LedgerEntry, Registry};
use crate::limits::Limits;
use crate::names::{Code, StepName};

pub use self::report::{TestFailure, TestReport};

type Check = Box<dyn Fn(&TestedRun<'_>) -> Result<(), String> + Send + Sync>;

/// Why nothing could be tested.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TestingError {
    /// The workflow cannot be run: what `flowrun validate` says of it.
    #[error("the workflow is not valid:\n{0}")]
    Workflow(String),
    /// What the test says does not fit the workflow.
    #[error("{0}")]
    Setup(String),
}

/// A call that a fault is meant for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// The step, or the `finally` step.
    pub step: StepName,
    /// The index of the item in a step with `foreach`.
    pub item: Option<u32>,
    /// Only this member: `primary`, or the name of a fallback.
    pub member: Option<String>,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.step)?;
        if let Some(item) = self.item {
            write!(f, "[{item}]")?;
        }
        self.member.as_ref().map_or(Ok(()), |member| write!(f, " ({member})"))
    }
}

/// What was done to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Injection {
    /// Nothing.
    None,
    /// A step fails.
    Fail(Site),
    /// A step is executed twice.
    Repeat(Site),
    /// A step fails, and each undo that follows is executed twice.
    RepeatUndos(Site),
    /// A step fails, and of the undos that follow one fails.
    FailUndo {
        /// The undo.
        undo: Site,
        /// The step that fails.
        after: Site,
    },
    /// The process dies.
    Crash(String),
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("without a fault"),
            Self::Fail(site) => write!(f, "`{site}` fails"),
            Self::Repeat(site) => write!(f, "`{site}` is executed twice"),
            Self::RepeatUndos(site) => write!(f, "`{site}` fails, and each undo is executed twice"),
            Self::FailUndo { undo, after } => write!(f, "`{after}` fails, and the undo of `{undo}` fails"),
            Self::Crash(at) => f.write_str(at),
        }
    }
}

/// A run that has ended, for checks of your own.
#[derive(Debug)]
pub struct TestedRun<'a> {
    /// What was done to it.
    pub injection: &'a Injection,
    /// How it ended.
    pub report: &'a RunReport,
    /// What is in the ledger, if the registry has one.
    pub ledger: &'a [LedgerEntry],
    handlers: &'a Handlers,
}

impl TestedRun<'_> {
    /// Returns the state of type `T` that the handlers of this run shared.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.handlers.state()
    }
}

/// What is done to the runs of a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Method {
    FailSteps,
    RepeatSteps,
    FailUndos,
    RepeatUndos,
    Crash,
}

/// Tests a workflow: say what it is and what is to be done to it, then [`run`](Self::run).
pub struct Testing {
    registry: Box<dyn Fn() -> Registry + Send + Sync>,
    workflow: PathBuf,
    input: Value,
    config: Option<Value>,
    setup: Map<String, Value>,
    secrets: Arc<BTreeMap<String, String>>,
    faults: Faults,
    signals: Vec<(StepName, String, Value)>,
    error: (Code, ErrorKind),
    ignored: Vec<String>,
    checks: Vec<Check>,
    methods: BTreeSet<Method>,
    limits: Limits,
    seed: u64,
}

impl fmt::Debug for Testing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Testing").field("workflow", &self.workflow).finish_non_exhaustive()
    }
}

impl Testing {
    /// Begins a test. Each run gets a registry of its own from `registry`, and so new states.
    #[must_use]
    pub fn new(registry: impl Fn() -> Registry + Send + Sync + 'static) -> Self {
        Self {
            registry: Box::new(registry),
            workflow: PathBuf::from("workflow.yaml"),
            input: Value::Object(Map::new()),
            config: None,
            setup: Map::new(),
            secrets: Arc::default(),
            faults: Faults::default(),
            signals: Vec::new(),
            error: ("testing.injected".into(), ErrorKind::Permanent),
            ignored: Vec::new(),
            checks: Vec::new(),
            methods: BTreeSet::new(),
            limits: Limits::default(),
            seed: 0,
        }
    }

    /// The workflow's file. `cargo test` runs in the folder of the package.
    #[must_use]
    pub fn workflow(mut self, path: impl AsRef<Path>) -> Self {
        self.workflow = path.as_ref().to_path_buf();
        self
    }

    /// The input of every run; `{}` without it.
    #[must_use]
    pub fn input(mut self, input: Value) -> Self {
        self.input = input;
        self
    }

    /// Lays this over the workflow's `config`.
    #[must_use]
    pub fn config(mut self, config: Value) -> Self {
        self.config = Some(config);
        self
    }

    /// Something for the states of handlers, which find it in [`World::setup`](crate::World::setup).
    #[must_use]
    pub fn setup(mut self, name: &str, value: Value) -> Self {
        self.setup.insert(name.to_owned(), value);
        self
    }

    /// The value of a secret; the environment is not asked.
    #[must_use]
    pub fn secret(mut self, name: &str, value: &str) -> Self {
        Arc::make_mut(&mut self.secrets).insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sends a signal as soon as `step` waits for it.
    #[must_use]
    pub fn signal(mut self, step: &str, name: &str, data: Value) -> Self {
        self.signals.push((step.into(), name.to_owned(), data));
        self
    }

    /// Faults that are part of every run, such as an error that makes it take a fallback. They give way to those that
    /// the test injects.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// The error that is injected; `testing.injected`, permanent, without it.
    #[must_use]
    pub fn error(mut self, code: &str, kind: ErrorKind) -> Self {
        self.error = (code.into(), kind);
        self
    }

    /// Leaves a part of the output out when outputs are compared, by its JSON pointer: `/booked_at`.
    #[must_use]
    pub fn ignore_output(mut self, pointer: &str) -> Self {
        self.ignored.push(pointer.to_owned());
        self
    }

    /// What keys, jitter and other chance follow from.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Asks `check` about every run when it has ended, such as whether your books are balanced.
    #[must_use]
    pub fn check(mut self, check: impl Fn(&TestedRun<'_>) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.checks.push(Box::new(check));
        self
    }

    /// Lets each step fail in a run of its own; a step with fallbacks, also each member. The run must end with this
    /// error of this step and with everything undone, unless the workflow says what else happens after an error.
    #[must_use]
    pub fn fail_each_step(self) -> Self {
        self.with(Method::FailSteps)
    }

    /// Executes each step twice, with the same key, in a run of its own. Everything must end as if it had been once.
    #[must_use]
    pub fn repeat_each_step(self) -> Self {
        self.with(Method::RepeatSteps)
    }

    /// Lets each undo fail in a run of its own. The run must end `incomplete` and name it, and all others be undone.
    #[must_use]
    pub fn fail_each_compensation(self) -> Self {
        self.with(Method::FailUndos)
    }

    /// Lets each step fail and executes each undo that follows twice. Everything must end as if it had been once.
    #[must_use]
    pub fn repeat_each_compensation(self) -> Self {
        self.with(Method::RepeatUndos)
    }

    /// Kills the process just before and just after each commit, and before and after each handler acts; the next
    /// process resumes. The run must end as it does undisturbed.
    #[must_use]
    pub fn crash_at_each_commit(self) -> Self {
        self.with(Method::Crash)
    }

    /// All of it.
    #[must_use]
    pub fn everything(self) -> Self {
        self.fail_each_step()
            .repeat_each_step()
            .fail_each_compensation()
            .repeat_each_compensation()
            .crash_at_each_commit()
    }

    fn with(mut self, method: Method) -> Self {
        self.methods.insert(method);
        self
    }

    /// Runs the workflow as often as it takes.
    ///
    /// # Errors
    /// When the workflow is not valid, or what the test says does not fit it. What goes wrong in runs is in the report.
    pub fn run(&self) -> Result<TestReport, TestingError> {
        // Each life of a process is an async runtime, and none can be started where another one runs.
        let ended = std::thread::scope(|scope| scope.spawn(|| self.run_here()).join());
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn run_here(&self) -> Result<TestReport, TestingError> {
        let registry = (self.registry)().finish().map_err(|problems| TestingError::Setup(problems.join("\n")))?;
        let workflow = self.compile(&registry)?;
        for (step, name, _) in &self.signals {
            let waits = workflow.plan.find(step).is_some_and(|ix| {
                matches!(&workflow.plan.step(ix).action, crate::plan::Action::Wait(crate::plan::Wait::Signal { name: known, .. }) if known == name)
            });
            if !waits {
                return Err(TestingError::Setup(format!(
                    "there is no step `{step}` that waits for the signal `{name}`"
                )));
            }
        }
        Ok(session::Session::new(self, Arc::new(workflow), &registry.contracts()).run())
    }

    fn compile(&self, registry: &Registry) -> Result<Workflow, TestingError> {
        let overrides = Overrides { config: self.config.clone(), sets: Vec::new() };
        let contracts = registry.contracts();
        let (loaded, mut findings, source) = Definition::load_with_source(&self.workflow, &overrides, &self.limits);
        findings.extend(loaded.iter().flat_map(|loaded| check::check(loaded, &contracts)));
        findings.retain(|finding| finding.severity == Severity::Error);
        if let (Some(loaded), true) = (&loaded, findings.is_empty()) {
            match Workflow::compile(loaded, &contracts) {
                Ok(workflow) => return Ok(workflow),
                Err(wrong) => findings = wrong,
            }
        }
        let texts: Vec<String> = findings.iter().map(|finding| text(finding, &source, Style::default())).collect();
        Err(TestingError::Workflow(texts.join("\n")))
    }
}
