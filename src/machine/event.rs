//! What is recorded of a run: the events whose fold is the run's state.
//!
//! Events name steps as the workflow does, so that a journal can be read without the plan it was written under.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::names::{Code, MemberName, StepName};
use crate::payload::Payload;
use crate::time::Timestamp;

/// One record of a run's journal: when it was decided, and what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was decided.
    pub at: Timestamp,
    /// What was decided.
    pub event: Event,
}

/// A step, or one item of a step with `foreach`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The step; in a call of kind [`CallKind::Finally`], the `finally` step.
    pub step: StepName,
    /// The index of the item, from 0; absent for the step as a whole.
    pub item: Option<u32>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.item {
            Some(item) => write!(f, "{}[{item}]", self.step),
            None => write!(f, "{}", self.step),
        }
    }
}

/// Why a handler is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CallKind {
    /// To do the step.
    Forward,
    /// To ask whether a call with an unknown outcome was done.
    Confirm,
    /// To undo what a member did or may have done.
    Undo,
    /// To do a `finally` step.
    Finally,
}

/// One call of a handler under its policies: all its attempts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId {
    /// For which step and item.
    pub place: Place,
    /// For which member: 0 is the step's own call, 1 its first fallback.
    pub member: u16,
    /// Why.
    pub kind: CallKind,
}

/// What a run was started with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    /// The run's id: the user's own, or the key as text.
    pub id: String,
    /// The workflow's name.
    pub workflow: String,
    /// The fingerprint of the definition (workflow, referenced files, effective configuration), kept in the store.
    pub definition: [u8; 32],
    /// The input.
    pub input: Payload,
    /// What idempotency keys, jitter and secret placeholders of this run are derived from.
    pub salt: [u8; 32],
    /// When the run's deadline is.
    pub deadline: Option<Timestamp>,
}

/// Why a step was not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// Its `when` was false.
    When,
    /// Every step it needs was skipped, and it says `on_skip: skip`.
    Needs,
}

/// How a step, or an item of one, ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was done. No output is recorded where it follows from the items'.
    Succeeded {
        /// What it returned.
        output: Option<Payload>,
    },
    /// It was not done.
    Failed {
        /// Why.
        error: Failure,
    },
    /// It may have been done.
    Unknown {
        /// What the last attempt reported.
        error: Failure,
    },
}

/// What a confirm handler answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was done.
    Done,
    /// It was not done.
    NotDone,
    /// It cannot be said.
    Unknown,
}

/// Why a run stops going forward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Cause {
    /// A step, or the output, failed for good.
    Failed {
        /// The step and item; absent when the `output` template or a limit of the run failed.
        place: Option<Place>,
        /// Why.
        error: Failure,
    },
    /// An operator cancelled it.
    Cancelled {
        /// Why, in the operator's words.
        reason: Option<String>,
        /// Whether what was done is undone.
        compensate: bool,
    },
    /// The run's deadline passed.
    Deadline {
        /// An error with the code `deadline`.
        error: Failure,
    },
}

/// A run's final status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Every step ended and the output was made.
    Completed,
    /// A step failed for good, or the deadline passed.
    Failed,
    /// An operator cancelled it.
    Cancelled,
}

/// What became of all the undos of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compensation {
    /// There was nothing to undo.
    #[default]
    NoneNeeded,
    /// Everything that had to be undone was.
    Complete,
    /// Something is left, and needs a person.
    Incomplete,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conclusion {
    /// Its final status.
    pub status: Status,
    /// What became of its undos.
    pub compensation: Compensation,
    /// The output of a completed run.
    pub output: Option<Payload>,
    /// The first cause of a failure or the reason of a cancel.
    pub error: Option<Failure>,
}

/// What happened to a run. The order of the variants is part of the record format: new ones go to the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The run was accepted.
    RunStarted(Box<RunStarted>),
    /// A process took the run over from the store.
    RunResumed {
        /// Whether the process before had put it down in order.
        clean: bool,
    },
    /// The process put the run down in order.
    RunInterrupted,
    /// Nothing can go on without a person.
    RunParked {
        /// Why: a code such as `step`, `pivot`, `handler_missing`, `handler_changed`, `secret_missing`, `recovery`, and a sentence.
        code: Code,
        /// The sentence.
        message: String,
    },
    /// A message for the run arrived.
    SignalReceived {
        /// The sender's own id, by which a repeated message is known.
        id: Option<String>,
        /// The signal's name.
        name: String,
        /// Its data.
        data: Payload,
    },
    /// A step is not run.
    StepSkipped {
        /// Which.
        step: StepName,
        /// Why.
        reason: SkipReason,
    },
    /// The items of a `foreach` are known.
    ItemsListed {
        /// The step.
        step: StepName,
        /// The list.
        items: Payload,
    },
    /// A step began to wait.
    WaitStarted {
        /// The step.
        step: StepName,
        /// Until when; absent for a signal without a limit.
        until: Option<Timestamp>,
        /// For which signal; absent for a wait for time.
        signal: Option<String>,
    },
    /// An attempt begins; its handler is called once this is durable.
    CallStarted {
        /// Which call.
        call: CallId,
        /// The name of the member, for readers of the journal.
        via: MemberName,
        /// The number of the attempt, from 1, counting those cut off by a crash.
        attempt: u32,
        /// When the attempt times out.
        until: Timestamp,
        /// The handler's input, with placeholders for secrets; recorded with the first attempt.
        input: Option<Payload>,
        /// Whether the attempt is the one probe of a half-open breaker.
        probe: bool,
    },
    /// An attempt worked. For a forward call this ends the item, and the step if it has no items.
    CallSucceeded {
        /// Which call.
        call: CallId,
        /// The number of the attempt.
        attempt: u32,
        /// What the handler returned.
        output: Payload,
    },
    /// An attempt failed, or was refused before the handler was called.
    CallFailed {
        /// Which call.
        call: CallId,
        /// The number of the attempt; 0 when the handler was not called.
        attempt: u32,
        /// Why.
        error: Failure,
        /// When the next attempt is due; absent when there is none.
        retry_at: Option<Timestamp>,
    },
    /// An attempt was cut off by the death of the process and will be repeated.
    CallCutOff {
        /// Which call.
        call: CallId,
        /// The number of the attempt.
        attempt: u32,
    },
    /// The confirm handler answered, or was given up on.
    Confirmed {
        /// The call that was asked about; its kind is [`CallKind::Confirm`].
        call: CallId,
        /// The number of the confirm's attempt.
        attempt: u32,
        /// The answer.
        answer: Answer,
    },
    /// A step, or an item of one, has ended in a way that no attempt says by itself.
    Settled {
        /// Which.
        place: Place,
        /// How.
        outcome: Outcome,
    },
    /// The run stops going forward: nothing new starts, what runs ends.
    DrainStarted {
        /// Why.
        cause: Cause,
    },
    /// Everything has ended; what was done is undone from here on.
    UndoStarted,
    /// How the run ends is decided; the `finally` steps follow.
    RunEnding(Box<Conclusion>),
    /// The run is final.
    RunFinished(Box<Conclusion>),
    /// An operator wants the failed and unknown steps of a parked run tried again.
    RetryRequested {
        /// Only this one.
        from: Option<StepName>,
    },
    /// An operator wants the undos that are left tried again.
    CompensateRequested,
    /// An operator repaired by hand what an undo could not.
    MarkedDone {
        /// Which.
        place: Place,
        /// How, in the operator's words.
        reason: String,
    },
    /// A handler answered after its attempt had been given up; the answer changes nothing.
    LateResult {
        /// Which call.
        call: CallId,
        /// The number of the attempt.
        attempt: u32,
        /// The output or the error, as JSON.
        result: Payload,
    },
}
