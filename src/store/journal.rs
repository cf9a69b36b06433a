//! What flowrun asks of a store: the journal and the few tables beside it.
//!
//! A commit is all or nothing, and durable when [`Journal::commit`] returns. The store moves bytes; what they mean is
//! written down in `format`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bundle::Bundle;
use crate::machine::event::{Compensation, Status};
use crate::names::RunKey;
use crate::time::Timestamp;

/// A future that a store returns.
pub type Committed = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// One run's change, written in one transaction.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The run.
    pub run: RunKey,
    /// The number of the first of `records` in the run, from 0. The run must have exactly as many records before it.
    pub first: u64,
    /// The run's new records, encoded by `format`.
    pub records: Bundle,
    /// Set by the first commit of a run.
    pub start: Option<StartRow>,
    /// Set when the run becomes final; written again when a final run is changed by a later compensation.
    pub finish: Option<DoneRow>,
    /// Breaker states that changed with it, by service.
    pub breakers: Vec<(String, Vec<u8>)>,
}

/// What a starting run adds beside its records.
#[derive(Clone, Debug)]
pub struct StartRow {
    /// The run's id; refused with [`StoreError::IdTaken`] if another run has it.
    pub id: String,
    /// The summary for lists.
    pub live: LiveRow,
    /// The pinned definition, stored once per fingerprint.
    pub definition: ([u8; 32], Arc<[u8]>),
}

/// The summary of a run that is not final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRow {
    /// The run's id.
    pub id: String,
    /// The workflow's name.
    pub workflow: String,
    /// When it was started.
    pub started_at: Timestamp,
}

/// The summary of a final run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneRow {
    /// The run's id.
    pub id: String,
    /// The workflow's name.
    pub workflow: String,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it became final.
    pub finished_at: Timestamp,
    /// Its final status.
    pub status: Status,
    /// What became of its undos.
    pub compensation: Compensation,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunRow {
    /// Not final.
    Live(LiveRow),
    /// Final.
    Done(DoneRow),
}

/// Why a store could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum StoreError {
    /// The id belongs to another run.
    #[error("the id `{id}` belongs to another run")]
    IdTaken {
        /// The id.
        id: String,
        /// The run that has it.
        run: RunKey,
    },
    /// The disk failed, is full, or a commit failed before: nothing more is written by this process.
    #[error("{path}: {message}")]
    Io {
        /// The store's file.
        path: String,
        /// What the system said.
        message: String,
    },
    /// What is at the path is no store, and none can be made there.
    #[error("{path} {message}")]
    NoStore {
        /// The path.
        path: String,
        /// What is there, and what to do about it.
        message: String,
    },
    /// What was read is not what was written.
    #[error("{path}: {message}")]
    Corrupt {
        /// The store's file.
        path: String,
        /// What is damaged, by run and event where known.
        message: String,
    },
    /// The store was written by a newer flowrun.
    #[error(
        "{path} needs flowrun >= {}: it has format {found}, and this one knows {known}",
        needs.as_deref().unwrap_or("the one that wrote it")
    )]
    Newer {
        /// The store's file.
        path: String,
        /// The format it has.
        found: u32,
        /// The newest format known.
        known: u32,
        /// The first flowrun that knows it, if the store says so.
        needs: Option<String>,
    },
    /// Another process has the store open.
    #[error("{path} is in use by another process")]
    Busy {
        /// The store's file.
        path: String,
    },
    /// There is no file at the path.
    #[error("there is no store at {path}")]
    Absent {
        /// Where it was looked for.
        path: String,
    },
    /// The commit would have broken the journal: a bug of ours. Only this commit is lost.
    #[error("run {run}: {message}")]
    Refused {
        /// The run.
        run: RunKey,
        /// What is wrong with the commit.
        message: String,
    },
    /// A run or definition that must be there is not.
    #[error("the store has no {what}")]
    Missing {
        /// What is missing.
        what: String,
    },
}

/// The store, as the engine sees it.
pub trait Journal: Send + Sync + 'static {
    /// Writes `commit`; it is durable when the future is done. After an error nothing more can be written, except that
    /// [`StoreError::IdTaken`] and [`StoreError::Refused`] concern this commit only.
    ///
    /// The commits of a run are written in the order of the calls. Dropping the future does not take the commit back.
    fn commit(&self, commit: Commit) -> Committed;

    /// Returns what makes this store different from every other: random bytes made when it was created.
    fn store_id(&self) -> [u8; 16];

    /// Returns the encoded records of a run, in order; none for a run that does not exist.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn records(&self, run: RunKey) -> Result<Vec<Vec<u8>>, StoreError>;

    /// Returns encoded records of a run in order, from number `from` on: at least one if there are more, and no more
    /// than about `bytes`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn records_from(&self, run: RunKey, from: u64, bytes: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut room = Some(bytes);
        let wanted = self.records(run)?.into_iter().skip(usize::try_from(from).unwrap_or(usize::MAX));
        Ok(wanted
            .take_while(|record| {
                let fits = room.is_some();
                room = room.and_then(|room| room.checked_sub(record.len()));
                fits
            })
            .collect())
    }

    /// Returns the last records of a run below number `before`, in order, and the number of the first of them: at least
    /// one if there are any, and no more than were committed together where the store knows.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn records_back(&self, run: RunKey, before: u64) -> Result<(u64, Vec<Vec<u8>>), StoreError> {
        let mut records = self.records(run)?;
        records.truncate(usize::try_from(before).unwrap_or(usize::MAX));
        Ok((0, records))
    }

    /// Returns the pinned definition with this fingerprint.
    ///
    /// # Errors
    /// When the store cannot be read or has no such definition.
    fn definition(&self, fingerprint: [u8; 32]) -> Result<Arc<[u8]>, StoreError>;

    /// Returns the run that has this id.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn run_by_id(&self, id: &str) -> Result<Option<RunKey>, StoreError>;

    /// Returns the runs whose id or key begins with `prefix`, newest first, at most `most`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn runs_by_prefix(&self, prefix: &str, most: usize) -> Result<Vec<RunKey>, StoreError>;

    /// Returns all runs that are not final, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn live(&self) -> Result<Vec<(RunKey, LiveRow)>, StoreError>;

    /// Returns one run's summary.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn run(&self, run: RunKey) -> Result<Option<RunRow>, StoreError>;

    /// Returns runs, live and final, newest first: at most `most` of those older than `before`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn runs(&self, before: Option<RunKey>, most: usize) -> Result<Vec<(RunKey, RunRow)>, StoreError>;

    /// Returns the newest run older than `before`, whatever is known of it.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn run_before(&self, before: Option<RunKey>) -> Result<Option<RunKey>, StoreError> {
        Ok(self.runs(before, 1)?.first().map(|(run, _)| *run))
    }

    /// Returns the recorded breaker state of every service.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn breakers(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Waits until everything is on disk and lets the file go.
    ///
    /// # Errors
    /// When the store cannot be closed in order.
    fn close(&self) -> Result<(), StoreError>;
}
