//! What a disk gives: durable steps a second, beside what the same disk gives without an engine.
//!
//! It runs a workflow through the engine, the journal and every check that a user's runs go through, in a store of its
//! own beside the user's. It knows nothing of how results are shown.

mod floor;
mod order6;

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub use self::floor::floor;
pub use self::order6::{Order6, STEPS};
#[doc(hidden)]
pub use self::order6::{order, order6};

use crate::definition::Definition;
use crate::diag::Finding;
use crate::engine::{EngineError, Workflow};
use crate::handlers::registry::Handlers;
use crate::limits::Limits;
use crate::store::journal::StoreError;
use crate::store::open::OpenOptions;
use crate::store::redb::RedbStore;

/// So many runs follow one another on each place unless somebody says otherwise.
const RUNS_PER_PLACE: u64 = 20;

/// With fewer runs than this a lone place says nothing.
const RUNS_MIN: u64 = 300;

/// For how long the floor is measured, before the runs and again after them.
const FLOOR: Duration = Duration::from_millis(500);

/// What was measured with so many runs in flight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Row {
    /// How many runs were in flight.
    pub concurrency: u32,
    /// How many runs there were.
    pub runs: u64,
    /// Durable steps a second.
    pub steps_per_s: f64,
    /// Half of the runs took no longer from their submission to their result, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 runs took no longer, in milliseconds.
    pub p99_ms: f64,
    /// Durable writes a second of an append-only log with group fdatasync, with as many writers.
    pub floor_per_s: f64,
    /// Steps for each write of the log.
    pub ratio: f64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A run failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The log or its folder could not be written.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A run did not end as it must.
    #[error("a run of the benchmark ended `{0}`")]
    Wrong(String),
}

/// Makes a workflow of a text that is no file.
///
/// # Errors
/// That it is no workflow.
#[doc(hidden)]
pub fn compile(path: &str, text: &str, limits: &Limits, handlers: &Handlers) -> Result<Workflow, BenchError> {
    let definition = Definition {
        path: path.to_owned(),
        text: text.to_owned(),
        files: indexmap::IndexMap::new(),
        config: serde_json::json!({}),
    };
    let bug = |findings: &[Finding]| {
        let first = findings.first().map_or("it says nothing", |finding| finding.message.as_str());
        EngineError::Bug(format!("the workflow {path} of the benchmark: {first}"))
    };
    let (loaded, findings) = definition.reopen(limits);
    let loaded = loaded.filter(|_| findings.is_empty()).ok_or_else(|| bug(&findings))?;
    Ok(Workflow::compile(&loaded, &handlers.contracts()).map_err(|findings| bug(&findings))?)
}

/// Returns how long so many of a hundred took at most, in milliseconds; the shortest is the first of `took`.
#[doc(hidden)]
#[must_use]
pub fn percentile_ms(took: &[Duration], percent: usize) -> f64 {
    let at = (took.len() * percent).div_ceil(100).max(1) - 1;
    took.get(at).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
}

/// A folder that is removed with everything in it.
struct Scratch(PathBuf);

impl Scratch {
    fn within(folder: &Path) -> Result<Self, BenchError> {
        let path = folder.join(format!(".flowrun-bench-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&path).map_err(|error| BenchError::Io { path: folder.to_owned(), error })?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, "{} is left; it can be removed", self.0.display());
        }
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Measures one number of runs in flight on the disk of `folder`: the floor, the engine, the floor again. Breaks off
/// when `interrupted` says so. Nothing is left in the folder, whatever comes of it.
///
/// Each level has a store of its own, so that one does not pay for what another has written.
///
/// # Errors
/// When the disk fails, or a run does not complete.
pub async fn measure<T>(
    folder: &Path,
    handlers: &Handlers,
    concurrency: u32,
    runs: Option<u64>,
    interrupted: impl Future<Output = T>,
) -> Result<ControlFlow<T, Row>, BenchError> {
    let mut interrupted = std::pin::pin!(interrupted);
    let scratch = Scratch::within(folder)?;
    let runs = runs.unwrap_or_else(|| RUNS_MIN.max(RUNS_PER_PLACE * u64::from(concurrency)));
    let (before, after) = (scratch.0.join("before.log"), scratch.0.join("after.log"));
    let before = tokio::select! {
        before = floor(&before, concurrency, FLOOR) => before?,
        why = &mut interrupted => return Ok(ControlFlow::Break(why)),
    };
    let journal = Arc::new(RedbStore::open(scratch.0.join("bench.redb"), OpenOptions { create: true })?);
    let order6 = Order6::new(journal, handlers.clone())?;
    let level = tokio::select! {
        level = order6.run(concurrency, runs) => Ok(level),
        why = &mut interrupted => Err(why),
    };
    // Runs that are still under way must not find their store gone.
    order6.stop().await;
    drop(order6);
    let level = match level {
        Ok(level) => level?,
        Err(why) => return Ok(ControlFlow::Break(why)),
    };
    let after = tokio::select! {
        after = floor(&after, concurrency, FLOOR) => after?,
        why = &mut interrupted => return Ok(ControlFlow::Break(why)),
    };
    let floor_per_s = f64::midpoint(before, after);
    let steps_per_s = (runs * STEPS) as f64 / level.elapsed.as_secs_f64();
    Ok(ControlFlow::Continue(Row {
        concurrency,
        runs,
        steps_per_s,
        p50_ms: level.percentile_ms(50),
        p99_ms: level.percentile_ms(99),
        floor_per_s,
        ratio: steps_per_s / floor_per_s,
    }))
}
