//! Answers requests about runs that are on a cluster.

use std::sync::Arc;

use uuid::Uuid;

use super::desk::{Desk, Sink};
use super::request::{Answer, Happened, Notice, Request, Rested, Stay, Task};
use crate::cli::app::App;
use crate::cli::exit_code::ExitCode;
use crate::cli::problem::Problem;
use crate::cluster::{Cluster, ClusterError, ClusterJournal, Wish};
use crate::engine::report::RunReport;
use crate::engine::{EngineError, Known, Patience, check_id};
use crate::names::RunKey;
use crate::payload::Payload;
use crate::store::format;
use crate::store::journal::Journal;

/// Answers requests about runs that are on a cluster. What is read is read like a store; what is done is done by the
/// cluster's workers, whether this process stays or not.
pub(super) struct ClusterDesk {
    cluster: Cluster,
    journal: Arc<dyn Journal>,
    reading: Desk,
}

impl ClusterDesk {
    /// Finds the cluster.
    pub(super) async fn open(app: &App, url: &str) -> Result<Self, Problem> {
        let cluster = Cluster::reach(url).await?;
        let journal: Arc<dyn Journal> = Arc::new(ClusterJournal::new(cluster.clone()));
        let reading = Desk::reading(Arc::clone(&journal), app.contracts.clone(), &app.limits);
        Ok(Self { cluster, journal, reading })
    }

    /// Answers a request.
    pub(super) async fn ask(&self, request: Request, sink: Sink<'_>) -> Result<Answer, Problem> {
        match request {
            Request::Run { task, stay, watch } => {
                let (id, was_final) = self.start(task).await?;
                sink(Notice::Taken(id.clone()));
                let report = self.stay(&id, stay, watch, sink).await?;
                Ok(Answer::Rested(Box::new(Rested { report, was_final, put_down: false })))
            }
            Request::ResumeAll { stay, watch } => {
                let mut rested = Vec::new();
                // All are under way already; they are waited for one after the other.
                for id in self.cluster.live().await? {
                    let report = self.stay(&id, stay, watch, sink).await?;
                    rested.push(Rested { report, was_final: false, put_down: false });
                }
                Ok(Answer::AllRested { rested, left_alone: Vec::new() })
            }
            reading => self.reading.ask(reading, sink).await,
        }
    }

    /// Does what is asked, and returns the run's id once it is durable, and whether the run was final before.
    async fn start(&self, task: Task) -> Result<(String, bool), Problem> {
        let (run, wish) = match task {
            Task::Submit { definition, input, id } => {
                let run = RunKey(Uuid::now_v7());
                let (id, run) = match id {
                    Some(id) => {
                        check_id(&id)?;
                        (id, None)
                    }
                    None => (run.to_string(), Some(run)),
                };
                let known = self.cluster.submit(&id, run, *definition, Payload::of(input)).await?;
                return Ok((id, known == Known::Final));
            }
            Task::Resume { run } => {
                let report = self.reading.report(&run)?;
                return Ok((report.run_id, report.finished_at.is_some()));
            }
            Task::Signal { run, id, name, data } => (run, Wish::Signal { id, name, data: Payload::of(data) }),
            Task::Cancel { run, reason, compensate } => (run, Wish::Cancel { reason, compensate }),
            Task::Retry { run, from } => (run, Wish::Retry { from: from.map(Into::into) }),
            Task::Compensate { run } => (run, Wish::Compensate),
            Task::MarkDone { run, step, item, reason } => (run, Wish::MarkDone { step: step.into(), item, reason }),
        };
        let id = self.reading.report(&run)?.run_id;
        self.cluster.wish(&id, wish).await?;
        Ok((id, false))
    }

    /// Stays with a run, and tells what happens to it meanwhile.
    async fn stay(&self, id: &str, stay: Stay, watch: bool, sink: Sink<'_>) -> Result<RunReport, Problem> {
        let patience = match stay {
            Stay::No => return self.reading.report(id),
            Stay::UntilWaits => Patience::None,
            Stay::UntilIdle => Patience::Timers,
        };
        let mut told = 0;
        let seen = |run: RunKey| {
            if watch {
                told = self.tell(run, id, told, sink)?;
            }
            Ok(())
        };
        self.cluster.rest(id, patience, seen).await?;
        self.reading.report(id)
    }

    /// Tells of the events of a run from number `from` on, and returns the number of the next.
    fn tell(&self, run: RunKey, id: &str, from: u64, sink: Sink<'_>) -> Result<u64, ClusterError> {
        let records = self.journal.records(run).map_err(EngineError::from)?;
        let new = records.iter().skip(usize::try_from(from).unwrap_or(usize::MAX));
        for entry in new.filter_map(|record| format::decode(record).ok()) {
            sink(Notice::Happened(Box::new(Happened { run, id: id.to_owned(), entry })));
        }
        Ok(records.len() as u64)
    }
}

impl From<ClusterError> for Problem {
    fn from(error: ClusterError) -> Self {
        let message = error.to_string();
        let of_store = |help: &str| Self::new(ExitCode::Store, &message).help(help);
        match error {
            ClusterError::Unreachable { .. } => {
                of_store("Name the cluster's ingress with --url or FLOWRUN_URL. What was recorded is safe.")
            }
            ClusterError::NoWorker { .. } => {
                of_store("Start one: `flowrun worker --listen ADDRESS --register ADMIN-URL`.")
            }
            ClusterError::Silent { .. } => of_store(
                "Is a worker running, and can the servers reach it? What was asked may still be done once one answers: \
                 `flowrun list` shows it.",
            ),
            ClusterError::Version { .. } => {
                Self::conflict(message).help("Use the flowrun that the workers are made of.")
            }
            ClusterError::Answer { .. } => of_store("The server's log says more."),
            ClusterError::Engine(error) => error.into(),
        }
    }
}
