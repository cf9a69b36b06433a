//! Reading runs without running them: `list`, `show`, `history`.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::library::Library;
use super::report::RunReport;
use super::{EngineError, secrets};
use crate::handlers::contract::Contracts;
use crate::limits::Limits;
use crate::machine::event::{Compensation, Entry};
use crate::machine::history;
use crate::machine::state::RunState;
use crate::names::RunKey;
use crate::plan::Plan;
use crate::store::journal::{Journal, RunRow};

/// Which runs a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only these statuses.
    pub statuses: Vec<String>,
    /// Only runs of this workflow.
    pub workflow: Option<String>,
    /// Only runs that need a person: parked, or with an incomplete compensation.
    pub needs_attention: bool,
    /// At most so many.
    pub limit: usize,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct RunSummary {
    /// The run's id.
    pub run_id: String,
    /// The workflow's name.
    pub workflow: String,
    /// Its status.
    pub status: String,
    /// What has become of its undos.
    pub compensation: Compensation,
    /// When it was started, in RFC 3339.
    pub started_at: String,
    /// When it became final.
    pub finished_at: Option<String>,
}

/// Reads the runs of a store.
#[derive(Clone)]
pub struct View {
    library: Library,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

impl View {
    /// Makes a view of a store.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, contracts: Contracts, limits: Limits) -> Self {
        Self { library: Library::new(journal, contracts, limits) }
    }

    pub(super) fn over(library: Library) -> Self {
        Self { library }
    }

    pub(super) fn library(&self) -> &Library {
        &self.library
    }

    /// Finds a run by its id, a unique prefix, or `@last`.
    ///
    /// # Errors
    /// When there is none, or several fit.
    pub fn find(&self, text: &str) -> Result<RunKey, EngineError> {
        self.library.find(text)
    }

    /// Returns what can be said of a run.
    ///
    /// # Errors
    /// When the run cannot be read.
    pub fn report(&self, run: RunKey) -> Result<RunReport, EngineError> {
        self.library.report(run)
    }

    /// Returns the plan and the state of a run.
    ///
    /// # Errors
    /// When the run cannot be read.
    pub fn state(&self, run: RunKey) -> Result<(Arc<Plan>, RunState), EngineError> {
        self.library.state(run)
    }

    /// Returns the events of a run with their numbers.
    ///
    /// # Errors
    /// When the run cannot be read.
    pub fn history(&self, run: RunKey) -> Result<Vec<(u64, Entry)>, EngineError> {
        Ok((0..).zip(self.library.entries(run)?).collect())
    }

    /// Returns the events of a run as JSON, one object for each, without secrets.
    ///
    /// # Errors
    /// When the run cannot be read.
    pub fn history_json(&self, run: RunKey) -> Result<Vec<Value>, EngineError> {
        let entries = self.library.entries(run)?;
        let (plan, state) = self.library.state_after(run, entries.clone())?;
        let show = |(seq, entry): (u64, Entry)| {
            secrets::without_placeholders(&history::to_json(seq, &entry), &plan, &state.started.salt)
        };
        Ok((0..).zip(entries).map(show).collect())
    }

    /// Returns runs that fit the filter, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self, filter: &Filter) -> Result<Vec<RunSummary>, EngineError> {
        const PAGE: usize = 256;
        let mut found = Vec::new();
        let mut before = None;
        loop {
            let page = self.library.journal().runs(before, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            before = Some(*last);
            for (run, row) in page {
                let summary = self.summary(run, row)?;
                let status_fits = filter.statuses.is_empty() || filter.statuses.contains(&summary.status);
                let workflow_fits = filter.workflow.as_ref().is_none_or(|w| *w == summary.workflow);
                let needs = summary.status == "parked" || summary.compensation == Compensation::Incomplete;
                if status_fits && workflow_fits && (needs || !filter.needs_attention) {
                    found.push(summary);
                }
                if found.len() >= filter.limit {
                    return Ok(found);
                }
            }
        }
    }

    fn summary(&self, run: RunKey, row: RunRow) -> Result<RunSummary, EngineError> {
        Ok(match row {
            RunRow::Done(row) => RunSummary {
                run_id: row.id,
                workflow: row.workflow,
                status: super::report::word(row.status).to_owned(),
                compensation: row.compensation,
                started_at: row.started_at.to_string(),
                finished_at: Some(row.finished_at.to_string()),
            },
            RunRow::Live(row) => {
                let (_, state) = self.library.state(run)?;
                RunSummary {
                    run_id: row.id,
                    workflow: row.workflow,
                    status: state.status().to_owned(),
                    // What becomes of its undos is open until the run is final.
                    compensation: Compensation::NoneNeeded,
                    started_at: row.started_at.to_string(),
                    finished_at: None,
                }
            }
        })
    }
}
