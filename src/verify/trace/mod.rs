//! The model of one run: what SPEC section 6 allows to be recorded, event by event.
//!
//! It owns a second reading of the rules. It knows the plan and the events, and never calls the machine, whose judge it
//! is: a journal that the machine wrote must be one that the model allows. Where a rule leaves something open (how an
//! attempt ends, which of two branches is first, how long a spread delay is) the model allows every choice; everything
//! else is pinned. What it holds true of services is only that they may refuse, and of templates only that a constant
//! has its value.

mod attempts;
mod ends;
mod forward;
mod retries;
mod state;
mod wishes;

use std::fmt;
use std::sync::Arc;

use crate::limits::Limits;
use crate::machine::event::{CallId, CallKind, Event};
use crate::names::{Code, StepName};
use crate::payload::Payload;
use crate::plan::{Action, Call, Member, Plan};
use crate::time::Timestamp;

use state::{Phase, Signal, Step, Tries};

/// Something that the rules do not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says why something is not allowed.
fn wrong<T>(why: impl Into<String>) -> Result<T, Violation> {
    Err(Violation(why.into()))
}

/// Demands something of an event.
fn demand(holds: bool, why: &str) -> Result<(), Violation> {
    if holds { Ok(()) } else { wrong(why) }
}

/// A run as the rules see it.
#[derive(Clone, Debug)]
pub struct Model {
    plan: Arc<Plan>,
    limits: Limits,
    phase: Phase,
    /// The time of the last event.
    now: Timestamp,
    /// Since when the run has been at work without a break: no timer is served before it.
    since: Timestamp,
    /// How many processes have taken the run up. An attempt of an earlier one is cut off.
    life: u32,
    /// The process put the run down in order.
    down: bool,
    /// Resumes after unclean deaths without an outcome between them.
    deaths: u32,
    /// Why the run is parked, and since when.
    parked: Option<(Code, Timestamp)>,
    deadline: Option<Timestamp>,
    /// Why the run does not go forward any more.
    cause: Option<crate::machine::event::Cause>,
    /// The operator wants left what was done.
    leave: bool,
    /// The output could not be made, or a limit of the run was reached.
    steps: Vec<Step>,
    finally: Vec<Tries>,
    signals: Vec<Signal>,
    /// Whether anything was ever undone.
    undid: bool,
    /// How the run ends, once that is decided.
    conclusion: Option<crate::machine::event::Conclusion>,
    events: u64,
    /// Timers are served in the very millisecond, as they are in virtual time.
    punctual: bool,
}

impl Model {
    /// Makes the model of a run that has not begun.
    #[must_use]
    pub fn new(plan: Arc<Plan>, limits: Limits) -> Self {
        let steps = plan.steps.iter().map(Step::new).collect();
        let finally = plan.finally.iter().map(|_| Tries::default()).collect();
        Self {
            plan,
            limits,
            phase: Phase::New,
            now: Timestamp(i64::MIN),
            since: Timestamp(i64::MIN),
            life: 0,
            down: false,
            deaths: 0,
            parked: None,
            deadline: None,
            cause: None,
            leave: false,
            steps,
            finally,
            signals: Vec::new(),
            undid: false,
            conclusion: None,
            events: 0,
            punctual: false,
        }
    }

    /// Demands that timers are served in the very millisecond, which only virtual time can promise.
    #[must_use]
    pub fn punctual(self) -> Self {
        Self { punctual: true, ..self }
    }

    /// Takes an event that was recorded at `at`.
    ///
    /// # Errors
    /// When the rules do not allow it; the model is of no use afterwards.
    pub fn allow(&mut self, event: &Event, at: Timestamp) -> Result<(), Violation> {
        demand(at >= self.now, "the time of a run goes backwards")?;
        demand(
            (self.phase == Phase::New) == matches!(event, Event::RunStarted(_)),
            "a run begins once, with its start",
        )?;
        self.now = at;
        self.events += 1;
        match event {
            Event::RunStarted(started) => self.begin(started),
            Event::RunResumed { clean } => self.resume(*clean),
            Event::RunInterrupted => self.interrupt(),
            Event::RunParked { code, .. } => self.park(code),
            Event::SignalReceived { id, name, data } => self.signal(id.as_deref(), name, data),
            Event::StepSkipped { step, reason } => self.skip(step, *reason),
            Event::ItemsListed { step, items } => self.list(step, items),
            Event::WaitStarted { step, until, signal } => self.wait(step, *until, signal.as_deref()),
            Event::CallStarted { call, via, attempt, until, input, probe } => {
                self.call_started(call, via, *attempt, *until, input.is_some(), *probe)
            }
            Event::CallSucceeded { call, attempt, .. } => self.call_succeeded(call, *attempt),
            Event::CallFailed { call, attempt, error, retry_at } => self.call_failed(call, *attempt, error, *retry_at),
            Event::CallCutOff { call, attempt } => self.call_cut_off(call, *attempt),
            Event::Confirmed { call, attempt, answer } => self.confirmed(call, *attempt, *answer),
            Event::Settled { place, outcome } => self.settle(place, outcome),
            Event::DrainStarted { cause } => self.drain(cause),
            Event::UndoStarted => self.start_undo(),
            Event::RunEnding(conclusion) => self.end(conclusion),
            Event::RunFinished(conclusion) => self.finish(conclusion),
            Event::RetryRequested { from } => self.retry(from.as_ref()),
            Event::CompensateRequested => self.compensate(),
            Event::MarkedDone { place, .. } => self.mark_done(place),
            Event::LateResult { call, attempt, .. } => self.late(call, *attempt),
        }
    }

    /// Judges a run that rests although timers are waited for: it is final, parked, or waits for a signal, and nothing
    /// that had to happen is missing.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn rest(&self) -> Result<(), Violation> {
        if self.phase == Phase::Final || self.parked.is_some() {
            return Ok(());
        }
        demand(self.phase == Phase::Forward, "the run rests on its way back")?;
        self.nothing_can_go_on(true)
    }

    /// Returns which generation of a member's key its next call has.
    #[must_use]
    pub fn generation(&self, call: &CallId) -> u32 {
        self.member_of(call).map_or(0, |member| member.generation)
    }

    /// Returns the data of the signal that a step took.
    #[must_use]
    pub fn signal_taken(&self, step: &StepName) -> Option<&Payload> {
        self.steps[self.step_ix(step).ok()?].data.as_ref()
    }

    /// Returns the call of the plan that an event speaks of.
    fn planned<'a>(plan: &'a Plan, id: &CallId) -> Result<(&'a Call, Option<&'a Member>), Violation> {
        if id.kind == CallKind::Finally {
            let step = plan.finally.iter().find(|step| step.name == id.place.step);
            return step.map(|step| (&step.call, None)).ok_or_else(|| Violation("no such `finally` step".into()));
        }
        let step = plan.find(&id.place.step).map(|ix| plan.step(ix));
        let Some(Action::Call(members)) = step.map(|step| &step.action) else { return wrong("no such call") };
        let Some(member) = members.get(usize::from(id.member)) else { return wrong("no such member") };
        let call = match id.kind {
            CallKind::Forward => Some(&member.call),
            CallKind::Confirm => member.confirm.as_ref(),
            CallKind::Undo => member.compensate.as_ref(),
            CallKind::Finally => None,
        };
        call.map(|call| (call, Some(member))).ok_or_else(|| Violation("the member has no such call".into()))
    }
}
