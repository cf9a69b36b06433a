//! The machine: what a run does next, decided from its events alone.
//!
//! It owns every policy of SPEC section 6 and refuses to know the time, the disk, randomness and the handlers: times
//! come inside inputs, luck is derived from the run's salt, and what has to be done outside leaves as commands.
//!
//! An [`Input`] says what happened outside. [`Machine::advance`] answers with the events that follow from it, which
//! the engine makes durable, and with the commands to carry out once they are. The state is the fold of the events
//! (see [`state`] for what is remembered and [`table`] for how it changes, call by call in `call`), so recovery is the same fold.
//!
//! Where a rule of SPEC section 6 lives:
//!
//! | rule | place |
//! |---|---|
//! | 1 states | `state` |
//! | 2, 5 order within a member, unknown outcomes | `forward` |
//! | 3 attempts, 4 errors | `policy::retry`; `engine::executor` makes the engine's own errors |
//! | 6, 17 crash and recovery counter | `recover` |
//! | 7 keys, 15 placeholders | `key` |
//! | 8 skipped, 19 foreach, 18 signals | `forward` |
//! | 9, 10, 12 drain, undo, pivot | `backward` |
//! | 11, 13 cancel, park, retry | `operator` |
//! | 14 breaker | `policy::breaker`; `engine::services` keeps its state |
//! | 16 ids | `engine::submit` |
//! | 20 ends | `backward` |

mod backward;
mod call;
pub mod event;
mod forward;
pub mod history;
pub mod key;
mod operator;
pub mod policy;
pub(crate) mod recover;
mod scope;
pub mod state;
pub mod table;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::event::{Answer, CallKind, Cause, Entry, Event, Place};
use self::state::{Alarm, CallIx, Phase, Progress, RunState};
use self::table::IllegalTransition;
use crate::failure::Failure;
use crate::limits::Limits;
use crate::names::{RunKey, ServiceName, StepName};
use crate::payload::Payload;
use crate::plan::{Plan, StepIx};
use crate::teeth::{Bug, awake};
use crate::time::Timestamp;

/// What happened outside the machine.
#[derive(Clone, Debug)]
pub enum Input {
    /// The run was accepted; take its first steps.
    Begin,
    /// A process took the run over from the store.
    Recovered {
        /// Why it must be parked at once: a code and a sentence.
        obstacle: Option<(&'static str, String)>,
    },
    /// Whoever carried an attempt out is gone, and nothing is known of how it ended. A process that dies takes the machine
    /// with it, so this is for a run that is gone on with turn by turn ([`Machine::go_on`]), or pretended to be.
    Lost {
        /// The call.
        call: CallIx,
        /// The number of the attempt.
        attempt: u32,
        /// Whether this is the first that is heard of the death of a process.
        died: bool,
    },
    /// The service lets a call pass.
    Admitted {
        /// The call.
        call: CallIx,
        /// Whether it is the breaker's probe.
        probe: bool,
    },
    /// The service's breaker is open.
    Refused {
        /// The call.
        call: CallIx,
        /// When asking again makes sense.
        until: Timestamp,
    },
    /// An attempt ended.
    Ended {
        /// The call.
        call: CallIx,
        /// The number of the attempt.
        attempt: u32,
        /// What the handler returned.
        result: Result<Payload, Failure>,
    },
    /// A confirm handler answered.
    Answered {
        /// The call, of kind [`CallKind::Confirm`].
        call: CallIx,
        /// The number of the confirm's attempt.
        attempt: u32,
        /// The answer.
        answer: Answer,
        /// The output that [`Answer::Done`] carries.
        output: Option<Payload>,
    },
    /// An attempt that had been given up has answered after all.
    Late {
        /// The call.
        call: CallIx,
        /// The number of the attempt.
        attempt: u32,
        /// What the handler returned.
        result: Result<Payload, Failure>,
    },
    /// A time that was asked for has come.
    Wake,
    /// The process will put the run down.
    Interrupted,
    /// A message for the run.
    Signal {
        /// The sender's own id.
        id: Option<String>,
        /// The signal's name.
        name: String,
        /// Its data.
        data: Payload,
    },
    /// An operator cancels the run.
    Cancel {
        /// Why.
        reason: Option<String>,
        /// Whether what was done is undone.
        compensate: bool,
    },
    /// An operator wants a parked run to go on.
    Retry {
        /// Only with this step.
        from: Option<StepName>,
    },
    /// An operator wants what is left undone.
    Compensate,
    /// An operator repaired a step by hand.
    MarkDone {
        /// The step.
        step: StepName,
        /// The item; all of them if absent.
        item: Option<u32>,
        /// How.
        reason: String,
    },
}

/// What has to be done outside, once the events are durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Ask the service whether a call may pass; the answer comes back as an input.
    Admit {
        /// The call.
        call: CallIx,
        /// The service.
        service: ServiceName,
    },
    /// Call a handler.
    Call {
        /// The call.
        call: CallIx,
        /// The number of the attempt.
        attempt: u32,
        /// When it times out.
        until: Timestamp,
        /// Its input, with placeholders for secrets.
        input: Payload,
        /// The idempotency key.
        key: String,
        /// What the attempt before reported.
        previous: Option<Failure>,
        /// Whether it is the breaker's probe.
        probe: bool,
    },
    /// Ask an attempt to end early.
    Stop {
        /// The call.
        call: CallIx,
    },
}

/// What follows from an input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advance {
    /// The events to record, in order.
    pub entries: Vec<Entry>,
    /// The commands to carry out when they are durable.
    pub commands: Vec<Command>,
}

/// Why an operator's wish is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// The run is final.
    #[error("run {run} is final: {status}")]
    Final {
        /// The run's id.
        run: String,
        /// Its status.
        status: Cow<'static, str>,
    },
    /// A point of no return was passed.
    #[error("run {run} is past its point of no return; it cannot be undone")]
    Pivot {
        /// The run's id.
        run: String,
    },
    /// The run is not in a state in which this makes sense.
    #[error("{message}")]
    Conflict {
        /// Why.
        message: String,
    },
    /// No such step, or no step that waits for this signal.
    #[error("{message}")]
    Unknown {
        /// What is not known, and what is.
        message: String,
    },
    /// The data of a signal does not fit its schema.
    #[error("{message}")]
    Invalid {
        /// Where and why.
        message: String,
    },
}

/// Why the machine did not advance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stuck {
    /// The wish is refused; the run is as it was.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A mistake of flowrun's own.
    #[error(transparent)]
    Bug(#[from] IllegalTransition),
}

/// Calls that asked their service for admission, with their rendered input if it is their first attempt.
pub type Asked = BTreeMap<CallIx, Option<Payload>>;

/// A run, and what it does next.
#[derive(Debug)]
pub struct Machine {
    plan: Arc<Plan>,
    limits: Limits,
    state: RunState,
    asked: Asked,
    /// Attempts under way in this process.
    in_flight: BTreeSet<CallIx>,
    /// Items whose next move has to be decided.
    todo: BTreeSet<(StepIx, Option<u32>)>,
    /// Where each `foreach` stands: the next item to begin, and how many are under way.
    cursors: BTreeMap<StepIx, forward::Cursor>,
    /// Whether steps have begun in this turn. What stops the run from here on does so when all that may begin has, whatever
    /// its place in the file.
    begins: bool,
    /// What stops the run at the end of this turn.
    stop: Option<(Place, Failure)>,
    /// Whether nothing new may start, because the process will put the run down.
    held: bool,
    /// The time by the clock.
    now: Timestamp,
    /// The time that is recorded.
    at: Timestamp,
    out: Advance,
}

impl Refusal {
    /// Refuses what nobody can ask of a run that has ended.
    pub(crate) fn of_final(state: &RunState) -> Self {
        Self::Final { run: state.started.id.clone(), status: state.status().into() }
    }
}

impl Machine {
    /// Accepts a run: its first event is recorded, and [`Input::Begin`] takes it from there.
    #[must_use]
    pub fn accept(
        key: RunKey,
        plan: Arc<Plan>,
        limits: Limits,
        started: event::RunStarted,
        at: Timestamp,
    ) -> (Self, Entry) {
        let entry = Entry { at, event: Event::RunStarted(Box::new(started.clone())) };
        let state = RunState::new(key, &plan, started, at);
        (Self::over(plan, limits, state, at), entry)
    }

    /// Takes up a run from its recorded events.
    ///
    /// # Errors
    /// When the events do not fit together.
    pub fn replay(
        key: RunKey,
        plan: Arc<Plan>,
        limits: Limits,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<Self, IllegalTransition> {
        let mut last = Timestamp(i64::MIN);
        let state = fold(key, &plan, entries.into_iter().inspect(|entry| last = last.max(entry.at)))?;
        Ok(Self::over(plan, limits, state, last))
    }

    /// Takes up a run between two turns: the attempts of `in_flight` are under way elsewhere, and the calls in `asked` wait
    /// for an answer of their service. Nothing counts as cut off.
    ///
    /// # Errors
    /// When the events do not fit together.
    pub fn go_on(
        key: RunKey,
        plan: Arc<Plan>,
        limits: Limits,
        entries: impl IntoIterator<Item = Entry>,
        in_flight: impl IntoIterator<Item = CallIx>,
        asked: Asked,
    ) -> Result<Self, IllegalTransition> {
        let mut machine = Self::replay(key, plan, limits, entries)?;
        machine.in_flight = in_flight.into_iter().collect();
        // A call that has asked needs no alarm to ask again.
        let alarms = &mut machine.state.alarms;
        alarms.retain(|(_, alarm)| !matches!(alarm, Alarm::Call(call) if asked.contains_key(call)));
        machine.asked = asked;
        Ok(machine)
    }

    /// Returns the calls that wait for an answer of their service.
    #[must_use]
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// Tells whether attempts are under way.
    #[must_use]
    pub fn has_attempts(&self) -> bool {
        !self.in_flight.is_empty()
    }

    fn over(plan: Arc<Plan>, limits: Limits, state: RunState, at: Timestamp) -> Self {
        Self {
            plan,
            limits,
            state,
            asked: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            todo: BTreeSet::new(),
            cursors: BTreeMap::new(),
            begins: false,
            stop: None,
            held: false,
            now: at,
            at,
            out: Advance::default(),
        }
    }

    /// Returns the state of the run.
    #[must_use]
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// Lets nothing new start from here on. What ends is still taken note of; what would follow is decided by the
    /// process that takes the run over.
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Lets start again what may, from the next input on.
    pub fn let_go(&mut self) {
        self.held = false;
    }

    /// Tells whether a call has asked its service for a place and waits for the answer.
    #[must_use]
    pub fn waits_for_a_place(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Returns the plan of the run.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Decides what follows from `input`, which happened at `at`.
    ///
    /// # Errors
    /// [`Stuck::Refused`] leaves the run as it was; after [`Stuck::Bug`] it must be left alone.
    pub fn advance(&mut self, at: Timestamp, input: Input) -> Result<Advance, Stuck> {
        self.now = at;
        // The clock may have been set back; the recorded time of a run never goes backwards. What is due is a matter of
        // the clock: one that was a year ahead for a moment must not hold the run up for a year.
        self.at = self.at.max(at);
        (self.begins, self.stop) = (false, None);
        match input {
            Input::Begin => self.rescan(),
            Input::Recovered { obstacle } => self.recover(obstacle)?,
            Input::Lost { call, attempt, died } => self.lost(call, attempt, died)?,
            Input::Admitted { call, probe } => self.admitted(call, probe)?,
            Input::Refused { call, until } => self.refused(call, until)?,
            Input::Ended { call, attempt, result } => self.ended(call, attempt, result)?,
            Input::Answered { call, attempt, answer, output } => self.answered(call, attempt, answer, output)?,
            Input::Late { call, attempt, result } => self.late(call, attempt, &result)?,
            Input::Wake => self.wake()?,
            Input::Interrupted => self.emit(Event::RunInterrupted)?,
            Input::Signal { id, name, data } => self.signal(id, name, data)?,
            Input::Cancel { reason, compensate } => self.cancel(reason, compensate)?,
            Input::Retry { from } => self.retry(from)?,
            Input::Compensate => self.compensate()?,
            Input::MarkDone { step, item, reason } => self.mark_done(&step, item, &reason)?,
        }
        self.follow()?;
        Ok(std::mem::take(&mut self.out))
    }

    /// Records an event and changes the state by it.
    fn emit(&mut self, event: Event) -> Result<(), IllegalTransition> {
        let entry = Entry { at: self.at, event };
        self.state.apply(&self.plan, &entry)?;
        self.out.entries.push(entry);
        Ok(())
    }

    /// Does everything that follows from the state until nothing more does.
    fn follow(&mut self) -> Result<(), IllegalTransition> {
        loop {
            if self.held || self.state.parked.is_some() || self.state.is_final() {
                return Ok(());
            }
            let full = self.state.events >= self.limits.events && !awake(Bug::EventsWithoutEnd);
            if self.state.phase == Phase::Running && full {
                let (events, limit) = (self.state.events, self.limits.events);
                let error =
                    forward::over("events", format!("the run has {events} events, and the limit `events` is {limit}"));
                self.start_drain(Cause::Failed { place: None, error })?;
            }
            if let Some((step, item)) = self.todo.pop_first() {
                self.pursue(step, item)?;
                continue;
            }
            let moved = match self.state.phase {
                Phase::Running => self.go_forward()?,
                Phase::Draining => self.finish_drain()?,
                Phase::Undoing => self.go_backward()?,
                Phase::Ending => self.go_to_end()?,
                Phase::Finished => false,
            };
            if !moved {
                return Ok(());
            }
        }
    }

    /// Looks at the whole run again, as after a recovery: nothing that can go on is missed.
    fn rescan(&mut self) {
        self.cursors.clear();
        self.todo = self
            .state
            .steps
            .iter()
            .enumerate()
            .flat_map(|(ix, step)| {
                let step_ix = StepIx(state::count(ix));
                let foreach = self.plan.step(step_ix).foreach.is_some();
                step.items
                    .iter()
                    .filter(|(_, item)| item.end.is_none() && !awake(Bug::PrefixSkipsAStep))
                    .map(move |(item, _)| (step_ix, foreach.then_some(*item)))
            })
            .collect();
    }

    /// Handles what has become due.
    pub(super) fn wake(&mut self) -> Result<(), IllegalTransition> {
        while let Some((due, alarm)) = self.state.alarms.first().copied() {
            if due > self.now || self.state.parked.is_some() || self.state.is_final() {
                break;
            }
            match alarm {
                Alarm::Deadline => {
                    let error = Failure::new(
                        "deadline",
                        crate::failure::ErrorKind::Permanent,
                        format!("the run was not done by its deadline, {due}"),
                    );
                    self.start_drain(Cause::Deadline { error })?;
                }
                Alarm::Wait(step) => self.wait_is_over(step)?,
                Alarm::Call(call) => {
                    // The call stays `backing_off` until its next attempt begins; it only asks once.
                    self.state.alarms.remove(&(due, alarm));
                    self.due(call)?;
                }
            }
        }
        Ok(())
    }

    fn due(&mut self, call: CallIx) -> Result<(), IllegalTransition> {
        match call.kind {
            CallKind::Forward | CallKind::Confirm => {
                self.todo.insert((call.step, call.item));
                Ok(())
            }
            CallKind::Undo if self.state.phase != Phase::Undoing => {
                self.todo.insert((call.step, call.item));
                Ok(())
            }
            CallKind::Undo | CallKind::Finally => self.request(call),
        }
    }
}

/// Folds recorded events into the state they led to.
///
/// # Errors
/// When the events do not fit together.
pub fn fold(key: RunKey, plan: &Plan, entries: impl IntoIterator<Item = Entry>) -> Result<RunState, IllegalTransition> {
    let mut entries = entries.into_iter();
    let (at, started) = match entries.next() {
        Some(Entry { at, event: Event::RunStarted(started) }) => (at, started),
        _ => {
            return Err(IllegalTransition {
                number: 0,
                event: "the first event".into(),
                why: "a run begins with `run_started`",
            });
        }
    };
    let mut state = RunState::new(key, plan, *started, at);
    for entry in entries {
        state.apply(plan, &entry)?;
    }
    Ok(state)
}

/// Tells whether a call's progress lets a new attempt begin at `at`.
fn may_begin(progress: Progress, at: Timestamp) -> bool {
    match progress {
        Progress::Idle => true,
        Progress::BackingOff { until } => until <= at || awake(Bug::BackOffNotWaited),
        Progress::Running { .. } | Progress::Succeeded | Progress::Failed => false,
    }
}
