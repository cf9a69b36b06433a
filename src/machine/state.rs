//! The state of a run: the fold of its events, and nothing else.
//!
//! Here is what is remembered and what can be read off it; how events change it is in `table`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{
    Answer, CallId, CallKind, Cause, Compensation, Conclusion, Outcome, Place, RunStarted, SkipReason, Status,
};
use crate::failure::Failure;
use crate::names::{Code, MemberName, RunKey};
use crate::ordered::Ordered;
use crate::payload::Payload;
use crate::plan::{Action, Call, Member, Plan, Step, StepIx};
use crate::teeth::{Bug, awake};
use crate::time::Timestamp;

/// A call, by indexes into the plan: small, ordered as the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallIx {
    /// The step; for [`CallKind::Finally`] the index among the `finally` steps.
    pub step: StepIx,
    /// The item.
    pub item: Option<u32>,
    /// The member.
    pub member: u16,
    /// Why.
    pub kind: CallKind,
}

impl CallIx {
    /// Returns the call's name for records.
    #[must_use]
    pub fn id(self, plan: &Plan) -> CallId {
        let step = match self.kind {
            CallKind::Finally => &plan.finally[self.step.0 as usize].name,
            CallKind::Forward | CallKind::Confirm | CallKind::Undo => &plan.step(self.step).name,
        };
        CallId { place: Place { step: step.clone(), item: self.item }, member: self.member, kind: self.kind }
    }

    /// Finds the call that a record names.
    #[must_use]
    pub fn of(id: &CallId, plan: &Plan) -> Option<Self> {
        let step = match id.kind {
            CallKind::Finally => {
                let place = plan.finally.iter().position(|f| f.name == id.place.step)?;
                StepIx(u32::try_from(place).ok()?)
            }
            CallKind::Forward | CallKind::Confirm | CallKind::Undo => plan.find(&id.place.step)?,
        };
        let call = Self { step, item: id.place.item, member: id.member, kind: id.kind };
        call.in_plan(plan).map(|_| call)
    }

    /// Returns what the plan says of the call, if it knows it.
    #[must_use]
    pub fn in_plan(self, plan: &Plan) -> Option<&Call> {
        if self.kind == CallKind::Finally {
            return plan.finally.get(self.step.0 as usize).map(|f| &f.call);
        }
        let member = self.member_in(plan)?;
        match self.kind {
            CallKind::Forward | CallKind::Finally => Some(&member.call),
            CallKind::Confirm => member.confirm.as_ref(),
            CallKind::Undo => member.compensate.as_ref(),
        }
    }

    /// Returns the member that the call belongs to.
    #[must_use]
    pub fn member_in(self, plan: &Plan) -> Option<&Member> {
        match &plan.steps.get(self.step.0 as usize)?.action {
            Action::Call(members) => members.get(usize::from(self.member)),
            Action::Wait(_) => None,
        }
    }

    /// Returns the same member's call of another kind.
    #[must_use]
    pub fn with_kind(self, kind: CallKind) -> Self {
        Self { kind, ..self }
    }
}

/// Where a run stands between its start and its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Going forward.
    Running,
    /// Nothing new starts; what runs ends.
    Draining,
    /// What was done is being undone.
    Undoing,
    /// How it ends is decided; the `finally` steps run.
    Ending,
    /// Final.
    Finished,
}

/// Why nothing can go on without a person.
#[derive(Clone, Debug, PartialEq)]
pub struct Parked {
    /// A code such as `step` or `handler_missing`.
    pub code: Code,
    /// The reason in a sentence.
    pub message: String,
    /// Since when.
    pub at: Timestamp,
}

/// A message that has arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// The sender's own id.
    pub id: Option<String>,
    /// The signal's name.
    pub name: String,
    /// Its data.
    pub data: Payload,
    /// Whether a wait has taken it.
    pub used: bool,
}

/// What is due at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// The run's deadline.
    Deadline,
    /// The end of a wait.
    Wait(StepIx),
    /// The next attempt of a call.
    Call(CallIx),
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// No attempt is under way; the next one may start at once.
    #[default]
    Idle,
    /// An attempt is under way.
    Running {
        /// Its number.
        attempt: u32,
        /// Whether it is a breaker's probe.
        probe: bool,
    },
    /// The next attempt starts later.
    BackingOff {
        /// Then.
        until: Timestamp,
    },
    /// It worked.
    Succeeded,
    /// It did not, and no attempt is left or allowed.
    Failed,
}

/// A call under its policies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallState {
    /// How far it has come.
    pub progress: Progress,
    /// How many times the handler was called.
    pub attempts: u32,
    /// How many of these count against `attempts` of the retry policy.
    pub counted: u32,
    /// When the first attempt began.
    pub first_at: Option<Timestamp>,
    /// The handler's input, as recorded.
    pub input: Option<Payload>,
    /// What the last attempt reported.
    pub error: Option<Failure>,
}

/// A member that was tried for an item.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberState {
    /// Which.
    pub member: u16,
    /// The call that does the step.
    pub forward: CallState,
    /// The call that asks whether it was done.
    pub confirm: Option<Box<CallState>>,
    /// The confirm handler's answer.
    pub answer: Option<Answer>,
    /// The call that undoes it.
    pub undo: Option<Box<CallState>>,
    /// Whether an operator repaired it by hand.
    pub marked_done: bool,
    /// Whether some attempt ended without a clear answer.
    pub unclear: bool,
    /// What it returned.
    pub output: Option<Payload>,
}

impl MemberState {
    /// Tells whether the member's outcome is unknown, once its call is over.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.unclear && self.output.is_none() && self.answer != Some(Answer::NotDone)
    }

    /// Tells whether the member did, or may have done, something outside (SPEC 6.5).
    #[must_use]
    pub fn may_have_acted(&self, member: &Member) -> bool {
        let denied = self.answer == Some(Answer::NotDone)
            && member.confirm.as_ref().and_then(|c| c.contract.as_ref()).is_some_and(|c| c.blocks_late);
        self.output.is_some() || (self.unclear && !denied && !awake(Bug::ForgetUnknown))
    }

    /// Tells whether the member has been undone, by its undo or by hand.
    #[must_use]
    pub fn is_undone(&self) -> bool {
        self.marked_done || self.undo.as_ref().is_some_and(|u| u.progress == Progress::Succeeded)
    }

    /// Tells whether the member's undo has failed for good.
    #[must_use]
    pub fn undo_failed(&self) -> bool {
        !self.marked_done && self.undo.as_ref().is_some_and(|u| u.progress == Progress::Failed)
    }

    /// Tells whether something has to be undone: it may have acted, it can be undone, and has not been.
    #[must_use]
    pub fn is_owed(&self, member: &Member) -> bool {
        member.compensate.is_some() && self.may_have_acted(member) && !self.is_undone()
    }
}

/// How a step or an item ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It was not run.
    Skipped(SkipReason),
    /// It was done.
    Succeeded(Payload),
    /// It was not done.
    Failed(Failure),
    /// It may have been done.
    Unknown(Failure),
}

impl End {
    /// Tells whether it succeeded or may have.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Self::Succeeded(_) | Self::Unknown(_))
    }

    /// Returns what was recorded as an end.
    #[must_use]
    pub fn of(outcome: Outcome, output: impl FnOnce() -> Payload) -> Self {
        match outcome {
            Outcome::Succeeded { output: Some(output) } => Self::Succeeded(output),
            Outcome::Succeeded { output: None } => Self::Succeeded(output()),
            Outcome::Failed { error } => Self::Failed(error),
            Outcome::Unknown { error } => Self::Unknown(error),
        }
    }

    /// Returns the error of an end that is not a success.
    #[must_use]
    pub fn error(&self) -> Option<&Failure> {
        match self {
            Self::Failed(error) | Self::Unknown(error) => Some(error),
            Self::Skipped(_) | Self::Succeeded(_) => None,
        }
    }
}

/// One item of a step, or the whole of a step without `foreach`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ItemState {
    /// The members tried since the step last started afresh; the last one is the current one.
    pub members: Vec<MemberState>,
    /// Members of which an earlier try, before an operator's retry, may have acted.
    pub unsure: BTreeSet<u16>,
    /// How often each member's key was renewed.
    pub generations: BTreeMap<u16, u32>,
    /// How it ended.
    pub end: Option<End>,
}

impl ItemState {
    /// Returns the member that is being tried or was tried last.
    #[must_use]
    pub fn current(&self) -> Option<&MemberState> {
        self.members.last()
    }

    /// Returns every member that was ever tried, latest first.
    pub fn tried(&self) -> impl Iterator<Item = &MemberState> {
        self.members.iter().rev()
    }
}

/// What a step does now.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Stage {
    /// It has not begun.
    #[default]
    Pending,
    /// Its calls are under way.
    Running,
    /// It waits.
    Waiting {
        /// Until then.
        until: Option<Timestamp>,
        /// For this signal.
        signal: Option<String>,
    },
    /// It has ended.
    Ended(End),
}

/// A step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepState {
    /// How many of the steps it needs have not ended.
    pub unmet: u32,
    /// How many of the steps it needs were skipped.
    pub skipped_needs: u32,
    /// What it does now.
    pub stage: Stage,
    /// Its items, by index; a step without `foreach` has one at most.
    pub items: Ordered<u32, ItemState>,
    /// The list of a `foreach`.
    pub list: Option<Payload>,
    /// How many items have ended.
    pub ended_items: u32,
    /// The items that have ended without success.
    pub failed_items: BTreeSet<u32>,
    /// The item that was the first to end without success.
    pub culprit: Option<u32>,
    /// Whether the run went past it: the steps that need it may start.
    pub passed: bool,
}

impl StepState {
    /// Tells whether it, or an item of it, succeeded or stays unknown: if it is a pivot, the run is past it.
    #[must_use]
    pub fn is_past_pivot(&self) -> bool {
        let ended = matches!(&self.stage, Stage::Ended(end) if end.may_have_happened());
        ended || self.items.values().any(|item| item.end.as_ref().is_some_and(End::may_have_happened))
    }
}

/// The order of undoing: which steps still wait for others to be undone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UndoOrder {
    /// For each step, how many of the steps that need it are not through.
    pub unmet: Vec<u32>,
    /// For each step, how many of its members are still to be undone.
    pub owed: Vec<u32>,
    /// Steps whose turn it is.
    pub ready: BTreeSet<StepIx>,
    /// How many members are still to be undone in all.
    pub left: u32,
}

/// What follows from the rest of the state, made when it is first wanted. It is no part of what the state is.
#[derive(Clone, Default)]
pub(super) struct Derived(pub(super) OnceLock<Arc<Value>>);

impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("_")
    }
}

/// The state of a run.
#[derive(Clone, Debug)]
pub struct RunState {
    /// The run's key in the store.
    pub key: RunKey,
    /// What it was started with.
    pub started: Box<RunStarted>,
    /// When it was started.
    pub started_at: Timestamp,
    /// Where it stands.
    pub phase: Phase,
    /// Whether and why nothing can go on.
    pub parked: Option<Parked>,
    /// Why it stopped going forward; the first cause is kept.
    pub cause: Option<Cause>,
    /// The steps, in file order.
    pub steps: Vec<StepState>,
    /// The `finally` steps, in file order.
    pub finally: Vec<CallState>,
    /// The messages that have arrived, oldest first.
    pub signals: Vec<Signal>,
    /// Whether a point of no return was passed.
    pub pivoted: bool,
    /// Whether something was undone of which only this is remembered, because the step started afresh.
    pub undone_before: bool,
    /// When the deadline is, if it has one that still counts.
    pub deadline: Option<Timestamp>,
    /// How many times in a row a process died with this run under way.
    pub deaths: u32,
    /// Whether the last process that had it put it down in order.
    pub put_down: bool,
    /// How many events it has.
    pub events: u64,
    /// How it ends, once that is decided.
    pub conclusion: Option<Conclusion>,
    /// When it became final, the last time that it did.
    pub finished_at: Option<Timestamp>,
    /// What was undone, by a handler or by a person, in that order.
    pub undone: Vec<Place>,
    /// The steps that have not been passed.
    pub open: usize,
    /// Steps whose needs have all ended and that have not begun.
    pub ready: BTreeSet<StepIx>,
    /// Calls that are under way or will be tried again.
    pub active: BTreeSet<CallIx>,
    /// Steps that wait.
    pub waiting: BTreeSet<StepIx>,
    /// Steps whose items are being gone through.
    pub lists: BTreeSet<StepIx>,
    /// What is due when.
    pub alarms: BTreeSet<(Timestamp, Alarm)>,
    /// The order of undoing, from the moment it begins.
    pub undo: UndoOrder,
    /// `run` as templates see it, once one has.
    pub(super) run_scope: Derived,
}

impl RunState {
    /// Returns the state of a run that has just been accepted.
    #[must_use]
    pub fn new(key: RunKey, plan: &Plan, started: RunStarted, at: Timestamp) -> Self {
        let steps = plan
            .steps
            .iter()
            .map(|step| StepState { unmet: count(step.needs.len()), ..StepState::default() })
            .collect::<Vec<_>>();
        let ready = plan.order.iter().copied().filter(|ix| plan.step(*ix).needs.is_empty()).collect();
        Self {
            key,
            started_at: at,
            phase: Phase::Running,
            parked: None,
            cause: None,
            open: steps.len(),
            steps,
            finally: vec![CallState::default(); plan.finally.len()],
            signals: Vec::new(),
            pivoted: false,
            undone_before: false,
            finished_at: None,
            undone: Vec::new(),
            deadline: started.deadline,
            deaths: 0,
            put_down: false,
            events: 1,
            conclusion: None,
            ready,
            active: BTreeSet::new(),
            waiting: BTreeSet::new(),
            lists: BTreeSet::new(),
            alarms: started.deadline.map(|at| (at, Alarm::Deadline)).into_iter().collect(),
            undo: UndoOrder::default(),
            run_scope: Derived::default(),
            started: Box::new(started),
        }
    }

    /// Returns the state of a step.
    #[must_use]
    pub fn step(&self, ix: StepIx) -> &StepState {
        &self.steps[ix.0 as usize]
    }

    /// Returns the state of an item, if it has begun.
    #[must_use]
    pub fn item(&self, step: StepIx, item: Option<u32>) -> Option<&ItemState> {
        self.step(step).items.get(&item.unwrap_or(0))
    }

    /// Returns the state of the member that `call` is about, if it was tried.
    #[must_use]
    pub fn member(&self, call: CallIx) -> Option<&MemberState> {
        self.item(call.step, call.item)?.tried().find(|m| m.member == call.member)
    }

    /// Returns the state of a call, if it has begun.
    #[must_use]
    pub fn call(&self, call: CallIx) -> Option<&CallState> {
        if call.kind == CallKind::Finally {
            return self.finally.get(call.step.0 as usize);
        }
        let member = self.member(call)?;
        match call.kind {
            CallKind::Forward | CallKind::Finally => Some(&member.forward),
            CallKind::Confirm => member.confirm.as_deref(),
            CallKind::Undo => member.undo.as_deref(),
        }
    }

    /// Returns how often the key of the call's member was renewed.
    #[must_use]
    pub fn generation(&self, call: CallIx) -> u32 {
        // The number of a `finally` step is not that of a step.
        if call.kind == CallKind::Finally {
            return 0;
        }
        self.item(call.step, call.item).and_then(|i| i.generations.get(&call.member)).copied().unwrap_or(0)
    }

    /// Returns when something is due next; nothing while parked or final.
    #[must_use]
    pub fn next_alarm(&self) -> Option<Timestamp> {
        if self.parked.is_some() || self.phase == Phase::Finished {
            return None;
        }
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Tells whether the run is final.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// Tells whether the last process that had the run left an attempt under way.
    #[must_use]
    pub fn has_running_call(&self) -> bool {
        self.active.iter().any(|call| matches!(self.call(*call).map(|c| c.progress), Some(Progress::Running { .. })))
    }

    /// Returns the run's status in a word: `running`, `waiting`, `parked`, or its final status.
    #[must_use]
    pub fn status(&self) -> &'static str {
        match (&self.phase, &self.conclusion) {
            (Phase::Finished, Some(conclusion)) => match conclusion.status {
                Status::Completed => "completed",
                Status::Failed => "failed",
                Status::Cancelled => "cancelled",
            },
            _ if self.parked.is_some() => "parked",
            (Phase::Running, _) if self.active.is_empty() && !self.waiting.is_empty() => "waiting",
            _ => "running",
        }
    }

    /// Tells whether what a member did has to be undone. A completed run keeps what its steps did; of it undos that were
    /// begun are left, and what may have acted although it did not succeed.
    #[must_use]
    pub fn is_left(&self, member: &Member, state: &MemberState) -> bool {
        state.is_owed(member) && (self.cause.is_some() || state.undo.is_some() || state.output.is_none())
    }

    /// Returns what has become of the run's undos so far.
    #[must_use]
    pub fn compensation(&self, plan: &Plan) -> Compensation {
        let mut undone = self.undone_before;
        for (member, state) in self.members(plan) {
            if self.is_left(member, state) {
                return Compensation::Incomplete;
            }
            undone |= state.is_undone();
        }
        if undone { Compensation::Complete } else { Compensation::NoneNeeded }
    }

    /// Returns what has become of the undos of a run that is not final: nothing is owed before it is decided to be.
    #[must_use]
    pub fn compensation_so_far(&self, plan: &Plan) -> Compensation {
        let undone = self.undone_before || self.members(plan).any(|(_, state)| state.is_undone());
        let failed = self.members(plan).any(|(_, state)| state.undo_failed());
        match (failed, undone) {
            (true, _) => Compensation::Incomplete,
            (false, true) => Compensation::Complete,
            (false, false) => Compensation::NoneNeeded,
        }
    }

    /// Returns every member that was tried, with what the plan says of it.
    pub fn members<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = (&'a Member, &'a MemberState)> {
        self.steps.iter().zip(&plan.steps).flat_map(|(state, step)| members_of(state, step))
    }

    /// Returns a step's status in a word (SPEC 6.1).
    #[must_use]
    pub fn step_status(&self, ix: StepIx) -> &'static str {
        let state = self.step(ix);
        let undos = || state.items.values().filter_map(ItemState::current);
        let undoing = |m: &MemberState| {
            m.undo.as_ref().is_some_and(|u| {
                matches!(u.progress, Progress::Running { .. } | Progress::BackingOff { .. } | Progress::Idle)
            })
        };
        if undos().any(undoing) {
            return "compensating";
        }
        if undos().any(MemberState::undo_failed) {
            return "compensation_failed";
        }
        if undos().any(MemberState::is_undone) {
            return "compensated";
        }
        match &state.stage {
            Stage::Pending => "pending",
            Stage::Running => {
                let backing_off = |m: &MemberState| matches!(m.forward.progress, Progress::BackingOff { .. });
                let open = || state.items.values().filter(|i| i.end.is_none()).filter_map(ItemState::current);
                if open().next().is_some() && open().all(backing_off) { "backing_off" } else { "running" }
            }
            Stage::Waiting { .. } => "waiting",
            Stage::Ended(end) => end.word(),
        }
    }

    /// Returns the name of the member by which a step succeeded.
    #[must_use]
    pub fn via<'a>(&self, plan: &'a Plan, ix: StepIx) -> Option<&'a MemberName> {
        let state = self.step(ix);
        if !matches!(state.stage, Stage::Ended(End::Succeeded(_))) || plan.step(ix).foreach.is_some() {
            return None;
        }
        let current = state.items.get(&0)?.current()?;
        match &plan.step(ix).action {
            Action::Call(members) => members.get(usize::from(current.member)).map(|m| &m.name),
            Action::Wait(_) => None,
        }
    }

    /// Returns how many times a handler was called to do the step, over all members and items.
    #[must_use]
    pub fn attempts(&self, ix: StepIx) -> u32 {
        self.step(ix).items.values().flat_map(ItemState::tried).map(|m| m.forward.attempts).sum()
    }

    /// Returns the error that a step ended with, or was last heard of.
    #[must_use]
    pub fn step_error(&self, ix: StepIx) -> Option<&Failure> {
        match &self.step(ix).stage {
            Stage::Ended(end) => end.error(),
            Stage::Pending | Stage::Running | Stage::Waiting { .. } => {
                self.step(ix).items.values().filter_map(ItemState::current).find_map(|m| m.forward.error.as_ref())
            }
        }
    }
}

impl End {
    /// Returns the end in a word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Skipped(_) => "skipped",
            Self::Succeeded(_) => "succeeded",
            Self::Failed(_) => "failed",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// Returns every member of a step that was tried, with what the plan says of it.
pub(super) fn members_of<'a>(
    state: &'a StepState,
    step: &'a Step,
) -> impl Iterator<Item = (&'a Member, &'a MemberState)> {
    let members: &[Member] = match &step.action {
        Action::Call(members) => members,
        Action::Wait(_) => &[],
    };
    state
        .items
        .values()
        .flat_map(ItemState::tried)
        .filter_map(|tried| members.get(usize::from(tried.member)).map(|m| (m, tried)))
}

/// Converts a count that a limit keeps small.
pub(super) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
