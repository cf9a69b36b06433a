//! A run as it is shown: by `exec`, `resume` and `show`.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::Failure;
use crate::machine::event::{Cause, Compensation, Conclusion, Place, Status};
use crate::machine::state::{ItemState, RunState, Stage};
use crate::plan::{Action, Plan, StepIx};

/// What can be said of a run. Its JSON is part of flowrun's interface: `"v": 1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The version of this shape.
    pub v: u32,
    /// The run's id.
    pub run_id: String,
    /// The workflow's name.
    pub workflow: String,
    /// `running`, `waiting`, `parked`, `completed`, `failed` or `cancelled`.
    pub status: String,
    /// What has become of its undos.
    pub compensation: Compensation,
    /// The output of a completed run.
    pub output: Option<Value>,
    /// The first cause of a failure.
    pub error: Option<ErrorReport>,
    /// The steps in file order.
    pub steps: IndexMap<String, StepReport>,
    /// When it was started, in RFC 3339.
    pub started_at: String,
    /// When it became final.
    pub finished_at: Option<String>,
    /// Why nothing can go on without a person.
    pub parked: Option<ParkedReport>,
    /// What it waits for.
    pub waiting_for: Vec<WaitReport>,
    /// When something is due next.
    pub next_timer_at: Option<String>,
    /// The steps that were undone, in the order in which they were.
    pub undone: Vec<String>,
    /// What is left for a person to undo.
    pub owed: Vec<OwedReport>,
}

/// An error, and where it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// The dotted code.
    pub code: String,
    /// `retryable`, `permanent` or `unknown`.
    pub kind: String,
    /// What happened.
    pub message: String,
    /// The step.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub step: Option<String>,
    /// The index of the item.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub item: Option<u32>,
    /// Whatever else the handler said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub details: Option<Value>,
}

/// A step in a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Its status.
    pub status: String,
    /// The member by which it succeeded.
    pub via: Option<String>,
    /// How many times a handler was called to do it.
    pub attempts: u32,
    /// Its error.
    pub error: Option<ErrorReport>,
}

/// Why a run is parked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedReport {
    /// A code such as `step`, `pivot`, `handler_missing`, `handler_changed`, `secret_missing`, `recovery`.
    pub code: String,
    /// The reason in a sentence.
    pub message: String,
}

/// Something a run waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitReport {
    /// The step.
    pub step: String,
    /// The signal.
    pub signal: Option<String>,
    /// Until when, in RFC 3339.
    pub until: Option<String>,
}

/// Something that a person has to undo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedReport {
    /// The step.
    pub step: String,
    /// The index of the item.
    pub item: Option<u32>,
    /// The handler that would undo it.
    pub handler: String,
    /// The code of the undo's last error.
    pub code: Option<String>,
    /// Its message.
    pub message: Option<String>,
}

impl RunReport {
    /// Makes the report of a state.
    #[must_use]
    pub fn new(plan: &Plan, state: &RunState) -> Self {
        let indexes = || (0..plan.steps.len()).map(|n| StepIx(u32::try_from(n).unwrap_or(u32::MAX)));
        let steps = indexes().map(|ix| {
            let error = state.step_error(ix).map(|e| ErrorReport::new(e, None));
            let report = StepReport {
                status: state.step_status(ix).to_owned(),
                via: state.via(plan, ix).map(ToString::to_string),
                attempts: state.attempts(ix),
                error,
            };
            (plan.step(ix).name.to_string(), report)
        });
        let conclusion = state.conclusion.as_ref();
        let waiting_for = state.waiting.iter().filter_map(|ix| match &state.step(*ix).stage {
            Stage::Waiting { until, signal } => Some(WaitReport {
                step: plan.step(*ix).name.to_string(),
                signal: signal.clone(),
                until: until.map(|u| u.to_string()),
            }),
            Stage::Pending | Stage::Running | Stage::Ended(_) => None,
        });
        Self {
            v: 1,
            run_id: state.started.id.clone(),
            workflow: state.started.workflow.clone(),
            status: state.status().to_owned(),
            compensation: conclusion.map_or_else(|| state.compensation_so_far(plan), |c| c.compensation),
            output: conclusion.and_then(|c| c.output.as_ref()).map(|o| Value::clone(o.value())),
            error: error_of(state, conclusion),
            steps: steps.collect(),
            started_at: state.started_at.to_string(),
            finished_at: state.finished_at.map(|at| at.to_string()),
            parked: state
                .parked
                .as_ref()
                .map(|p| ParkedReport { code: p.code.to_string(), message: p.message.clone() }),
            waiting_for: waiting_for.collect(),
            next_timer_at: state.next_alarm().map(|at| at.to_string()),
            undone: state.undone.iter().map(ToString::to_string).collect(),
            owed: if conclusion.is_some_and(|c| c.compensation == Compensation::Incomplete) {
                indexes().flat_map(|ix| owed_by(plan, state, ix)).collect()
            } else {
                Vec::new()
            },
        }
    }

    /// Returns the status as a word that lives as long as the program.
    #[must_use]
    pub fn status_word(&self) -> &'static str {
        match self.status.as_str() {
            "waiting" => "waiting",
            "parked" => "parked",
            "completed" => "completed",
            "failed" => "failed",
            "cancelled" => "cancelled",
            _ => "running",
        }
    }

    /// Returns the exit code that the run's state stands for (SPEC section 9).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match (self.status.as_str(), self.compensation) {
            ("completed" | "failed" | "cancelled", Compensation::Incomplete) => 5,
            ("completed", _) => 0,
            ("failed", Compensation::NoneNeeded) => 1,
            ("failed", Compensation::Complete) => 4,
            ("cancelled", _) => 6,
            _ => 7,
        }
    }
}

impl ErrorReport {
    fn new(failure: &Failure, place: Option<&Place>) -> Self {
        let kind = match failure.kind {
            crate::failure::ErrorKind::Retryable => "retryable",
            crate::failure::ErrorKind::Permanent => "permanent",
            crate::failure::ErrorKind::Unknown => "unknown",
        };
        Self {
            code: failure.code.to_string(),
            kind: kind.to_owned(),
            message: failure.message.clone(),
            step: place.map(|p| p.step.to_string()),
            item: place.and_then(|p| p.item),
            details: failure.details.as_ref().map(|d| Value::clone(d.value())),
        }
    }
}

fn error_of(state: &RunState, conclusion: Option<&Conclusion>) -> Option<ErrorReport> {
    match &state.cause {
        Some(Cause::Failed { place, error }) => Some(ErrorReport::new(error, place.as_ref())),
        Some(Cause::Deadline { error }) => Some(ErrorReport::new(error, None)),
        Some(Cause::Cancelled { .. }) | None => {
            conclusion.and_then(|c| c.error.as_ref()).map(|e| ErrorReport::new(e, None))
        }
    }
}

fn owed_by(plan: &Plan, state: &RunState, ix: StepIx) -> Vec<OwedReport> {
    let step = plan.step(ix);
    let Action::Call(members) = &step.action else { return Vec::new() };
    let mut owed = Vec::new();
    for (n, item) in state.step(ix).items.iter() {
        for tried in ItemState::tried(item) {
            let Some(member) = members.get(usize::from(tried.member)) else { continue };
            let (true, Some(undo)) = (state.is_left(member, tried), &member.compensate) else { continue };
            let error = tried.undo.as_ref().and_then(|u| u.error.as_ref());
            owed.push(OwedReport {
                step: step.name.to_string(),
                item: step.foreach.is_some().then_some(*n),
                handler: undo.handler.to_string(),
                code: error.map(|e| e.code.to_string()),
                message: error.map(|e| e.message.clone()),
            });
        }
    }
    owed
}

/// Returns a final status in a word.
#[must_use]
pub fn word(status: Status) -> &'static str {
    match status {
        Status::Completed => "completed",
        Status::Failed => "failed",
        Status::Cancelled => "cancelled",
    }
}
