//! What can be read of runs without running them: pinned definitions, compiled once, and states folded from journals.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::EngineError;
use super::report::RunReport;
use crate::check;
use crate::definition::{Definition, Loaded};
use crate::diag::{Finding, FindingCode, Severity};
use crate::handlers::contract::Contracts;
use crate::limits::Limits;
use crate::machine::event::{Entry, Event};
use crate::machine::state::RunState;
use crate::machine::{self, Machine, recover};
use crate::names::RunKey;
use crate::plan::{self, Plan};
use crate::store::format;
use crate::store::journal::{Journal, RunRow, StoreError};
use crate::teeth::{Bug, awake};

/// A workflow that is ready to be run, with the definition that its runs are pinned to.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// What is stored with each run.
    pub definition: Definition,
    /// The definition as it is stored.
    pub pinned: Arc<[u8]>,
    /// The definition's fingerprint.
    pub fingerprint: [u8; 32],
    /// The plan made of it.
    pub plan: Arc<Plan>,
    /// Says what of an input does not fit; absent if the workflow says nothing of its input.
    pub input: Option<Arc<jsonschema::Validator>>,
}

impl Workflow {
    /// Makes a plan of a loaded definition that was checked without errors.
    ///
    /// # Errors
    /// Settings that do not fit the configuration.
    pub fn compile(loaded: &Loaded, contracts: &Contracts) -> Result<Self, Vec<Finding>> {
        let plan = plan::compile(loaded, contracts)?;
        let definition = loaded.definition.clone();
        let pinned = serde_json::to_vec(&definition).expect("a definition is JSON by construction").into();
        let input = plan.input_schema.as_ref().map(|schema| {
            // The same reader of schemas that accepted it when the workflow was loaded.
            crate::dsl::schema::compile(schema).map(Arc::new).map_err(|error| {
                let span = loaded.parsed.tree.span("/input", crate::dsl::Part::Value);
                vec![Finding::error(FindingCode::BadSchema, span, error.to_string())]
            })
        });
        let input = input.transpose()?;
        Ok(Self { fingerprint: definition.fingerprint(), pinned, definition, plan: Arc::new(plan), input })
    }
}

impl Workflow {
    /// Checks a definition that somebody else has checked again, with these handlers.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn accept(definition: Definition, contracts: &Contracts, limits: &Limits) -> Result<Self, Vec<String>> {
        let (loaded, findings) = definition.reopen(limits);
        let texts = |findings: &[Finding]| {
            findings.iter().filter(|f| f.severity == Severity::Error).map(|f| f.message.clone()).collect::<Vec<_>>()
        };
        let loaded = loaded.ok_or_else(|| texts(&findings))?;
        let errors = texts(&[findings, check::check(&loaded, contracts)].concat());
        if !errors.is_empty() {
            return Err(errors);
        }
        Self::compile(&loaded, contracts).map_err(|findings| texts(&findings))
    }
}

/// Pinned definitions, each compiled once. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Plans {
    contracts: Arc<Contracts>,
    limits: Limits,
    known: Arc<Mutex<HashMap<[u8; 32], Known>>>,
}

/// Reads runs and definitions. Cheap to clone.
#[derive(Clone)]
pub(super) struct Library {
    journal: Arc<dyn Journal>,
    limits: Limits,
    plans: Plans,
}

/// A definition that has been compiled.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) plan: Arc<Plan>,
    /// What of it does not fit the handlers of this process any more.
    pub(crate) misfit: Option<String>,
}

impl Plans {
    pub(crate) fn new(contracts: Contracts, limits: Limits) -> Self {
        Self { contracts: Arc::new(contracts), limits, known: Arc::default() }
    }

    /// Remembers a plan, so that runs of it need not compile it again.
    pub(crate) fn keep(&self, workflow: &Workflow) {
        let known = || Known { plan: Arc::clone(&workflow.plan), misfit: None };
        self.known.lock().entry(workflow.fingerprint).or_insert_with(known);
    }

    /// Returns what is known of a pinned definition, if it was needed before.
    #[cfg(feature = "restate")]
    pub(crate) fn known(&self, fingerprint: [u8; 32]) -> Option<Known> {
        self.known.lock().get(&fingerprint).cloned()
    }

    /// Returns what is known of a pinned definition, which is fetched if it was not needed before.
    pub(crate) fn get(
        &self,
        fingerprint: [u8; 32],
        fetch: impl FnOnce() -> Result<Arc<[u8]>, EngineError>,
    ) -> Result<Known, EngineError> {
        if let Some(known) = self.known.lock().get(&fingerprint) {
            return Ok(known.clone());
        }
        let known = self.compile(&fetch()?)?;
        self.known.lock().insert(fingerprint, known.clone());
        Ok(known)
    }

    fn compile(&self, pinned: &[u8]) -> Result<Known, EngineError> {
        let unreadable =
            |why: String| EngineError::Definition(format!("a run's pinned workflow cannot be read: {why}"));
        let mut definition: Definition = serde_json::from_slice(pinned).map_err(|e| unreadable(e.to_string()))?;
        if awake(Bug::ResumedFromDisk) {
            definition.text = std::fs::read_to_string(&definition.path).unwrap_or(definition.text);
        }
        let (loaded, findings) = definition.reopen(&self.limits);
        let first = |findings: &[Finding]| findings.first().map_or_else(String::new, |f| f.message.clone());
        let loaded = loaded.ok_or_else(|| unreadable(first(&findings)))?;
        let plan = plan::compile(&loaded, &self.contracts).map_err(|findings| unreadable(first(&findings)))?;
        // Other findings are about the file: it was accepted as it is, and what a newer flowrun thinks of it changes nothing.
        let of_handlers = [FindingCode::UnknownInputField, FindingCode::MissingInputField, FindingCode::WrongLiteral];
        let misfit = check::check(&loaded, &self.contracts)
            .into_iter()
            .find(|finding| of_handlers.contains(&finding.code) && !awake(Bug::ChangedHandlerIsCalled))
            .map(|finding| finding.message);
        Ok(Known { plan: Arc::new(plan), misfit })
    }
}

impl Library {
    pub(super) fn new(journal: Arc<dyn Journal>, contracts: Contracts, limits: Limits) -> Self {
        let plans = Plans::new(contracts, limits.clone());
        Self { journal, limits, plans }
    }

    pub(super) fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// Remembers a plan, so that runs of it need not compile it again.
    pub(super) fn keep(&self, workflow: &Workflow) {
        self.plans.keep(workflow);
    }

    /// Returns the plan of a pinned definition.
    pub(super) fn plan(&self, fingerprint: [u8; 32]) -> Result<Arc<Plan>, EngineError> {
        self.known(fingerprint).map(|known| known.plan)
    }

    /// Says what of a pinned definition does not fit the handlers of this process: a handler may have changed since its
    /// runs were started.
    pub(super) fn misfit(&self, fingerprint: [u8; 32]) -> Option<String> {
        self.known(fingerprint).ok()?.misfit
    }

    fn known(&self, fingerprint: [u8; 32]) -> Result<Known, EngineError> {
        self.plans.get(fingerprint, || Ok(self.journal.definition(fingerprint)?))
    }

    /// Returns the decoded events of a run.
    pub(super) fn entries(&self, run: RunKey) -> Result<Vec<Entry>, EngineError> {
        let records = self.journal.records(run)?;
        if records.is_empty() {
            return Err(EngineError::NotFound { message: format!("there is no run {run}") });
        }
        (0..).zip(&records).map(|(n, record)| decode(run, n, record)).collect()
    }

    /// Tells whether processes may have died with an unfinished run under way. The end of its journal says so, and no
    /// more of it is read.
    pub(super) fn may_have_died(&self, run: RunKey) -> Result<bool, EngineError> {
        let mut before = u64::MAX;
        loop {
            let (first, records) = self.journal.records_back(run, before)?;
            for (n, record) in records.iter().enumerate().rev() {
                let is_last = before == u64::MAX && n + 1 == records.len();
                let n = first + n as u64;
                if let Some(died) = recover::may_have_died(&decode(run, n, record)?.event, is_last) {
                    return Ok(died);
                }
            }
            if first == 0 {
                // It does not begin as a run does; whoever folds it says what is wrong.
                return Ok(true);
            }
            before = first;
        }
    }

    fn plan_of(&self, run: RunKey, entries: &[Entry]) -> Result<Arc<Plan>, EngineError> {
        match entries.first().map(|e| &e.event) {
            Some(Event::RunStarted(started)) => self.plan(started.definition),
            _ => Err(EngineError::Bug(format!("run {run} does not begin with `run_started`"))),
        }
    }

    /// Returns the state of a run.
    pub(super) fn state(&self, run: RunKey) -> Result<(Arc<Plan>, RunState), EngineError> {
        self.state_after(run, self.entries(run)?)
    }

    /// Returns the state that these events of a run lead to.
    pub(super) fn state_after(&self, run: RunKey, entries: Vec<Entry>) -> Result<(Arc<Plan>, RunState), EngineError> {
        let plan = self.plan_of(run, &entries)?;
        let state = machine::fold(run, &plan, entries).map_err(|e| EngineError::Bug(format!("run {run}: {e}")))?;
        Ok((plan, state))
    }

    /// Returns the machine of a run, as its journal left it.
    pub(super) fn machine(&self, run: RunKey) -> Result<Machine, EngineError> {
        let entries = self.entries(run)?;
        let plan = self.plan_of(run, &entries)?;
        Machine::replay(run, plan, self.limits.clone(), entries)
            .map_err(|e| EngineError::Bug(format!("run {run}: {e}")))
    }

    /// Returns what can be said of a run.
    pub(super) fn report(&self, run: RunKey) -> Result<RunReport, EngineError> {
        let (plan, state) = self.state(run)?;
        Ok(RunReport::new(&plan, &state))
    }

    /// Finds a run by its id, a unique prefix, or `@last`.
    pub(super) fn find(&self, text: &str) -> Result<RunKey, EngineError> {
        if text == "@last" {
            let last = self.journal.runs(None, 1)?.first().map(|(run, _)| *run);
            return last.ok_or_else(|| EngineError::NotFound { message: "there is no run yet".to_owned() });
        }
        if let Some(run) = self.journal.run_by_id(text)? {
            return Ok(run);
        }
        const SHOWN: usize = 5;
        match self.journal.runs_by_prefix(text, SHOWN)?.as_slice() {
            [] => Err(EngineError::NotFound { message: format!("there is no run `{text}`") }),
            [run] => Ok(*run),
            several => {
                let id = |run: &RunKey| match self.journal.run(*run) {
                    Ok(Some(RunRow::Live(row))) => row.id,
                    Ok(Some(RunRow::Done(row))) => row.id,
                    Ok(None) | Err(_) => run.to_string(),
                };
                Err(EngineError::Ambiguous { text: text.to_owned(), candidates: several.iter().map(id).collect() })
            }
        }
    }
}

fn decode(run: RunKey, number: u64, record: &[u8]) -> Result<Entry, EngineError> {
    format::decode(record).map_err(|e| {
        let message = format!("event {number} of run {run} is damaged: {e}");
        EngineError::Store(StoreError::Corrupt { path: "the store".to_owned(), message })
    })
}
