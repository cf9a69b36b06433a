//! The runs of a cluster as something to be read like a store, so that everything that shows runs works on both.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::client::{Cluster, ClusterError};
use super::life::Row;
use super::reading::{ALL, Which};
use crate::engine::EngineError;
use crate::names::{RunKey, is_run_id};
use crate::store::journal::{Commit, Committed, DoneRow, Journal, LiveRow, RunRow, StoreError};

/// The journal of a cluster. It only reads: what is recorded there is recorded by the turns of runs.
pub(crate) struct ClusterJournal {
    cluster: Cluster,
    /// Runs that were looked for, so that their ids need not be.
    ids: Mutex<HashMap<RunKey, String>>,
}

impl ClusterJournal {
    /// Reads from a cluster.
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self { cluster, ids: Mutex::default() }
    }

    /// Waits on the spot: whoever reads a store does not wait for anything else meanwhile.
    fn wait<T>(&self, read: impl Future<Output = Result<T, ClusterError>>) -> Result<T, StoreError> {
        let read = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(read));
        read.map_err(|error| match error {
            ClusterError::Engine(EngineError::Store(error)) => error,
            other => StoreError::Io { path: "the cluster".to_owned(), message: other.to_string() },
        })
    }

    fn rows(&self, which: Which, most: usize) -> Result<Vec<(RunKey, RunRow)>, StoreError> {
        // What cannot be an id is none.
        if matches!(&which, Which::Id(text) | Which::Prefix(text) if !is_run_id(text)) {
            return Ok(Vec::new());
        }
        let rows = self.wait(self.cluster.rows(which, most))?;
        let mut ids = self.ids.lock();
        ids.extend(rows.iter().map(|row| (row.run, row.id.clone())));
        Ok(rows.into_iter().map(|row| (row.run, row.into())).collect())
    }

    fn id(&self, run: RunKey) -> Result<Option<String>, StoreError> {
        let known = self.ids.lock().get(&run).cloned();
        if known.is_some() {
            return Ok(known);
        }
        self.rows(Which::Key(run), 1)?;
        Ok(self.ids.lock().get(&run).cloned())
    }
}

impl Journal for ClusterJournal {
    fn commit(&self, commit: Commit) -> Committed {
        let message = "the runs of a cluster are recorded by its workers".to_owned();
        Box::pin(async move { Err(StoreError::Refused { run: commit.run, message }) })
    }

    fn store_id(&self) -> [u8; 16] {
        [0; 16]
    }

    fn records(&self, run: RunKey) -> Result<Vec<Vec<u8>>, StoreError> {
        match self.id(run)? {
            Some(id) => self.wait(self.cluster.records(id)),
            None => Ok(Vec::new()),
        }
    }

    fn definition(&self, fingerprint: [u8; 32]) -> Result<Arc<[u8]>, StoreError> {
        self.wait(self.cluster.definition(fingerprint)).map(Into::into)
    }

    fn run_by_id(&self, id: &str) -> Result<Option<RunKey>, StoreError> {
        Ok(self.rows(Which::Id(id.to_owned()), 1)?.first().map(|(run, _)| *run))
    }

    fn runs_by_prefix(&self, prefix: &str, most: usize) -> Result<Vec<RunKey>, StoreError> {
        Ok(self.rows(Which::Prefix(prefix.to_owned()), most)?.into_iter().map(|(run, _)| run).collect())
    }

    fn live(&self) -> Result<Vec<(RunKey, LiveRow)>, StoreError> {
        let mut rows = self.rows(Which::Live, ALL)?;
        rows.reverse();
        let live = |(run, row)| match row {
            RunRow::Live(row) => Some((run, row)),
            RunRow::Done(_) => None,
        };
        Ok(rows.into_iter().filter_map(live).collect())
    }

    fn run(&self, run: RunKey) -> Result<Option<RunRow>, StoreError> {
        Ok(self.rows(Which::Key(run), 1)?.pop().map(|(_, row)| row))
    }

    fn runs(&self, before: Option<RunKey>, most: usize) -> Result<Vec<(RunKey, RunRow)>, StoreError> {
        self.rows(Which::Before(before), most)
    }

    fn breakers(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        // They are asked by runs, and nothing that reads shows them.
        Ok(Vec::new())
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl From<Row> for RunRow {
    fn from(row: Row) -> Self {
        let Row { id, workflow, end, compensation, started_at, finished_at, .. } = row;
        match (finished_at, end) {
            (Some(finished_at), Some(status)) => {
                Self::Done(DoneRow { id, workflow, started_at, finished_at, status, compensation })
            }
            _ => Self::Live(LiveRow { id, workflow, started_at }),
        }
    }
}
