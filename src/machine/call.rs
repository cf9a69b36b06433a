//! How what happens changes one call: the attempts, the waits between them, and the end.

use super::state::{CallState, Progress};
use crate::failure::Failure;
use crate::payload::Payload;
use crate::teeth::{Bug, awake, reach};
use crate::time::Timestamp;

/// Why a change is impossible, before it is known which event it came from.
pub(super) type Why = &'static str;

/// What happens to a call.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Started {
        attempt: u32,
        probe: bool,
        input: Option<Payload>,
        at: Timestamp,
    },
    Succeeded {
        attempt: u32,
    },
    Failed {
        attempt: u32,
        error: Failure,
        retry_at: Option<Timestamp>,
    },
    CutOff {
        attempt: u32,
    },
    /// Nothing will be tried any more; what was reported last stands.
    GivenUp,
}

impl Change {
    fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { attempt: 0, .. } => "refused",
            Self::Failed { .. } => "failed",
            Self::CutOff { .. } => "cut off",
            Self::GivenUp => "given up",
        }
    }
}

impl Progress {
    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running { .. } => "running",
            Self::BackingOff { .. } => "backing off",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

impl CallState {
    /// The transitions of a call. Rows are what it does now, columns what happens.
    pub(super) fn apply(&mut self, change: Change) -> Result<(), Why> {
        let (before, what) = (self.progress, change.name());
        let progress = match (self.progress, change) {
            (Progress::Idle | Progress::BackingOff { .. }, Change::Started { attempt, probe, input, at }) => {
                if attempt != self.attempts + 1 {
                    return Err("attempts are numbered without gaps");
                }
                self.attempts = attempt;
                self.counted += 1;
                self.first_at.get_or_insert(at);
                self.input = input.or_else(|| self.input.take());
                Progress::Running { attempt, probe }
            }
            // Refused before the handler was called.
            (Progress::Idle | Progress::BackingOff { .. }, Change::Failed { attempt: 0, error, retry_at }) => {
                self.error = Some(error);
                retry_at.map_or(Progress::Failed, |until| Progress::BackingOff { until })
            }
            (Progress::Running { attempt: now, .. }, Change::Failed { attempt, error, retry_at }) if now == attempt => {
                self.error = Some(error);
                retry_at.map_or(Progress::Failed, |until| Progress::BackingOff { until })
            }
            (Progress::Running { attempt: now, .. }, Change::Succeeded { attempt }) if now == attempt => {
                self.error = None;
                Progress::Succeeded
            }
            (Progress::Running { attempt: now, .. }, Change::CutOff { attempt }) if now == attempt => {
                if awake(Bug::CrashUsesUpAnAttempt) {
                    self.counted += 1;
                }
                self.counted -= 1;
                if awake(Bug::CounterLostOnRestart) {
                    (self.counted, self.first_at) = (0, None);
                }
                Progress::Idle
            }
            (Progress::Idle | Progress::BackingOff { .. } | Progress::Failed, Change::GivenUp) => Progress::Failed,
            (Progress::Running { .. }, Change::Started { .. }) => return Err("an attempt is under way already"),
            (Progress::Running { .. }, Change::GivenUp) => return Err("an attempt is under way"),
            (Progress::Running { .. }, Change::Failed { .. } | Change::Succeeded { .. } | Change::CutOff { .. }) => {
                return Err("another attempt is under way");
            }
            (
                Progress::Idle | Progress::BackingOff { .. },
                Change::Failed { .. } | Change::Succeeded { .. } | Change::CutOff { .. },
            ) => return Err("no attempt is under way"),
            (Progress::Succeeded | Progress::Failed, Change::Started { .. })
            | (
                Progress::Succeeded | Progress::Failed,
                Change::Failed { .. } | Change::Succeeded { .. } | Change::CutOff { .. },
            )
            | (Progress::Succeeded, Change::GivenUp) => return Err("the call is over"),
        };
        self.progress = progress;
        reach(|| format!("call {} on {what}: {}", before.name(), progress.name()));
        Ok(())
    }
}
