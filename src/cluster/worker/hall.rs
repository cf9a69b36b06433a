//! What the handlers of one worker share: the registered handlers, compiled definitions, and records that were read.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use restate_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::source::Source;
use crate::cluster::life::Head;
use crate::definition::Definition;
use crate::engine::executor::Executor;
use crate::engine::library::{Known, Plans};
use crate::engine::{EngineError, Workflow};
use crate::handlers::contract::Contracts;
use crate::limits::Limits;
use crate::names::RunKey;
use crate::time::Timestamp;

/// Bytes of records that are kept in memory.
const RECORDS_MAX: usize = 64 << 20;

/// Looks on at a worker that lives in a time of its own, and keeps its alarms, which the cluster's own would ring in ours.
pub(crate) trait Onlooker: Send + Sync {
    /// Keeps the alarm of a run.
    fn alarm(&self, run: &str, at: Timestamp);

    /// Is told what the worker is about.
    fn note(&self, what: Doing);
}

/// What a worker is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// It sends a message to another part of the cluster.
    Sends,
    /// Such a message has come.
    Receives,
    /// It waits for a handler.
    Performs,
    /// It does not wait for it any more.
    Performed,
    /// It asks the cluster aside.
    Asks,
    /// It has the answer.
    Answered,
}

/// Notes the end of something when it is dropped.
pub(super) struct Under<'a>(&'a Hall, Doing);

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.0.note(self.1);
    }
}

/// What the handlers of one worker share.
pub(super) struct Hall {
    pub(super) executor: Arc<Executor>,
    pub(super) onlooker: Option<Arc<dyn Onlooker>>,
    pub(super) contracts: Contracts,
    pub(super) limits: Limits,
    pub(super) source: Source,
    plans: Plans,
    workflows: Mutex<HashMap<[u8; 32], Arc<Workflow>>>,
    /// Definitions that the cluster was seen to keep; it never forgets one.
    kept: Mutex<HashSet<[u8; 32]>>,
    records: Mutex<Records>,
    /// Tells this process from all others.
    boot: u64,
    /// Numbers what it begins.
    begun: AtomicU64,
}

/// Records of runs that had a turn here, with how many bytes they are.
#[derive(Default)]
struct Records {
    of: HashMap<RunKey, Vec<Vec<u8>>>,
    bytes: usize,
}

impl Records {
    /// Takes the records of a run out.
    fn take(&mut self, run: RunKey) -> Option<Vec<Vec<u8>>> {
        let records = self.of.remove(&run)?;
        self.bytes -= size(&records);
        Some(records)
    }
}

/// Tells one beginning of an attempt from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beginning {
    pub(super) worker: u64,
    number: u64,
}

impl Hall {
    pub(super) fn new(
        executor: Executor,
        contracts: Contracts,
        source: Source,
        onlooker: Option<Arc<dyn Onlooker>>,
    ) -> Self {
        let limits = executor.options.limits.clone();
        let (boot, _) = Uuid::new_v4().as_u64_pair();
        Self {
            executor: Arc::new(executor),
            onlooker,
            plans: Plans::new(contracts.clone(), limits.clone()),
            contracts,
            limits,
            source,
            workflows: Mutex::default(),
            kept: Mutex::default(),
            records: Mutex::default(),
            // JSON of other programs may keep no more of a number.
            boot: boot >> 11,
            begun: AtomicU64::new(0),
        }
    }

    /// Tells the onlooker, if there is one.
    pub(super) fn note(&self, what: Doing) {
        if let Some(onlooker) = &self.onlooker {
            onlooker.note(what);
        }
    }

    /// Tells the onlooker that something begins, and that it ends when what is returned is dropped.
    pub(super) fn under(&self, begins: Doing, ends: Doing) -> Under<'_> {
        self.note(begins);
        Under(self, ends)
    }

    /// Returns what no other beginning has.
    pub(super) fn beginning(&self) -> Beginning {
        Beginning { worker: self.boot, number: self.begun.fetch_add(1, Ordering::Relaxed) }
    }

    /// Tells whether it was this process that began something.
    pub(super) fn has_begun(&self, beginning: Beginning) -> bool {
        beginning.worker == self.boot
    }

    /// Returns the workflow of a definition that somebody hands in, checked with the handlers of this worker.
    pub(super) fn workflow(&self, definition: Definition) -> Result<Arc<Workflow>, EngineError> {
        let fingerprint = definition.fingerprint();
        if let Some(known) = self.workflows.lock().get(&fingerprint) {
            return Ok(Arc::clone(known));
        }
        let path = definition.path.clone();
        let workflow = Workflow::accept(definition, &self.contracts, &self.limits).map_err(|errors| {
            EngineError::Definition(format!(
                "{path} is not valid for the workers of the cluster: {}",
                errors.join("; ")
            ))
        })?;
        let workflow = Arc::new(workflow);
        self.plans.keep(&workflow);
        self.workflows.lock().insert(fingerprint, Arc::clone(&workflow));
        Ok(workflow)
    }

    /// Returns the plan of a run's pinned definition.
    pub(super) async fn plan(&self, fingerprint: [u8; 32]) -> Result<Known, EngineError> {
        if let Some(known) = self.plans.known(fingerprint) {
            return Ok(known);
        }
        let pinned = self.source.definition(fingerprint).await?;
        self.plans.get(fingerprint, || Ok(pinned.into()))
    }

    /// Tells whether the cluster keeps a definition.
    pub(super) async fn has_definition(&self, fingerprint: [u8; 32]) -> Result<bool, EngineError> {
        if self.kept.lock().contains(&fingerprint) {
            return Ok(true);
        }
        let kept = self.source.has_definition(fingerprint).await?;
        if kept {
            self.kept.lock().insert(fingerprint);
        }
        Ok(kept)
    }

    /// Returns the records that a run had before its turn. They never change, so it does not matter where they come from.
    /// Whoever has the turn has them for itself until [`Hall::remember`].
    pub(super) async fn records(&self, id: &str, head: &Head) -> Result<Vec<Vec<u8>>, EngineError> {
        if let Some(records) = self.records.lock().take(head.run).filter(|records| head.is_of(records)) {
            return Ok(records);
        }
        head.cut(self.source.records(id).await?)
    }

    /// Remembers what a run's records are after a turn.
    pub(super) fn remember(&self, run: RunKey, before: Vec<Vec<u8>>, new: &[Vec<u8>], is_final: bool) {
        if is_final {
            return;
        }
        let mut records = self.records.lock();
        let mut all = before;
        all.extend_from_slice(new);
        if records.bytes + size(&all) > RECORDS_MAX {
            // What is wanted again is read again.
            *records = Records::default();
        }
        records.bytes += size(&all);
        if let Some(old) = records.of.insert(run, all) {
            records.bytes -= size(&old);
        }
    }
}

fn size(records: &[Vec<u8>]) -> usize {
    records.iter().map(|record| record.len() + size_of::<Vec<u8>>()).sum()
}

/// What is recorded of something that is done outside.
type Recorded<T> = Pin<Box<dyn Future<Output = HandlerResult<Json<T>>> + Send>>;

/// Reads the clock so that the same time is read when the handler is called again.
pub(super) async fn now(ctx: &ObjectContext<'_>, hall: &Arc<Hall>) -> Timestamp {
    loop {
        let hall = Arc::clone(hall);
        let read = move || -> Recorded<Timestamp> { Box::pin(async move { Ok(Json(hall.executor.clock.now())) }) };
        // An operator of the cluster may cancel a turn, but what it was told must not be lost: it is a turn of its own that
        // cancels a run.
        if let Ok(Json(now)) = ctx.run(read).name("now").await {
            return now;
        }
    }
}
