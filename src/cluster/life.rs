//! One turn of a run, without anything of Restate: what is kept of a run between two turns, and what a message makes of it.
//!
//! It is to a run on a cluster what the driver is to one in this process: it decides by the machine and hands out what is
//! to be recorded and done. It owns nothing that outlives the turn; what does is in [`Head`] and in the run's records.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::message::{Job, Message, Wish};
use crate::engine::executor::AttemptEnd;
use crate::engine::{EngineError, Standing, Workflow, check_input, differs};
use crate::limits::Limits;
use crate::machine::event::{Compensation, Entry, RunStarted, Status};
use crate::machine::policy::breaker::{Admission, Health};
use crate::machine::state::CallIx;
use crate::machine::{Advance, Asked, Command, Input, Machine, Stuck};
use crate::names::{RunKey, ServiceName};
use crate::payload::Payload;
use crate::plan::{Plan, Service};
use crate::store::format;
use crate::store::journal::StoreError;
use crate::time::Timestamp;

/// How many workers whose death was counted are remembered.
const DEAD_MAX: usize = 16;

/// What is kept of a run beside its records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Head {
    /// The run's key.
    pub(super) run: RunKey,
    /// The fingerprint of its pinned definition.
    pub(super) definition: [u8; 32],
    /// How many records it has.
    pub(super) events: u64,
    /// The checksum of all of them, one after the other.
    seal: u32,
    /// Calls that asked their service and have no answer yet.
    asked: Vec<(CallIx, Option<Payload>)>,
    /// Attempts under way.
    attempts: Vec<Attempt>,
    /// The serials of those that are to end early.
    stops: Vec<u64>,
    /// Numbers attempts, whatever the steps make of theirs.
    serial: u64,
    /// When the next message `Wake` comes.
    wake: Option<Timestamp>,
    /// Workers whose death the run has heard of, so that it counts once for all its attempts.
    dead: Vec<u64>,
}

/// An attempt under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Attempt {
    call: CallIx,
    serial: u64,
    probe: bool,
}

impl Head {
    /// Tells whether these are the run's records.
    pub(super) fn is_of(&self, records: &[Vec<u8>]) -> bool {
        records.len() as u64 == self.events && sealed(0, records) == self.seal
    }

    /// Cuts off what a turn that was not finished may have left behind the run's records.
    ///
    /// # Errors
    /// When records are missing or damaged.
    pub(super) fn cut(&self, mut records: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, EngineError> {
        let found = records.len();
        records.truncate(usize::try_from(self.events).unwrap_or(usize::MAX));
        if self.is_of(&records) {
            return Ok(records);
        }
        let message = format!("run {} has {} records, and {found} were read that do not fit", self.run, self.events);
        Err(EngineError::Store(StoreError::Corrupt { path: "the cluster".to_owned(), message }))
    }
}

/// Goes on with a checksum over records.
fn sealed(before: u32, records: &[Vec<u8>]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(before);
    records.iter().for_each(|record| hasher.update(record));
    hasher.finalize()
}

/// A run in a list, and where it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    /// The run's key; the first field, so that rows sort by their age as text.
    pub(super) run: RunKey,
    pub(super) id: String,
    pub(super) workflow: String,
    pub(super) status: String,
    /// How it ended, if it did.
    pub(super) end: Option<Status>,
    pub(super) compensation: Compensation,
    pub(super) started_at: Timestamp,
    pub(super) finished_at: Option<Timestamp>,
    /// How many records there are.
    pub(super) events: u64,
    pub(super) standing: Standing,
}

/// What has to be done outside once a turn is recorded.
#[derive(Debug)]
pub(super) enum Order {
    /// Carry an attempt out.
    Attempt(Box<Job>),
    /// Ask the attempts with these serials, and no others, to end early.
    Stop(Vec<u64>),
    /// Ask a service whether a call may pass.
    Admit { service: ServiceName, policy: Service, call: CallIx },
    /// Tell a service how a call ended that it had let in.
    Leave { service: ServiceName, policy: Service, probe: bool, health: Health },
    /// Send `Wake` at this time.
    Wake(Timestamp),
}

/// A run during a turn.
pub(super) struct Life {
    head: Head,
    machine: Machine,
    entries: Vec<Entry>,
    commands: Vec<Command>,
    orders: Vec<Order>,
}

/// What a turn came to.
pub(super) struct Turned {
    pub(super) head: Head,
    pub(super) row: Row,
    /// The new records, encoded.
    pub(super) records: Vec<Vec<u8>>,
    pub(super) orders: Vec<Order>,
}

/// What a new run is made of.
pub(super) struct Birth<'a> {
    pub(super) id: String,
    pub(super) run: RunKey,
    pub(super) salt: [u8; 32],
    pub(super) workflow: &'a Workflow,
    pub(super) input: Payload,
}

impl Life {
    /// Takes a new run in.
    ///
    /// # Errors
    /// When its input does not fit.
    pub(super) fn begin(birth: Birth<'_>, limits: &Limits, now: Timestamp) -> Result<Self, EngineError> {
        let Birth { id, run, salt, workflow, input } = birth;
        check_input(workflow, &input)?;
        let plan = Arc::clone(&workflow.plan);
        let started = RunStarted {
            id,
            workflow: plan.name.clone(),
            definition: workflow.fingerprint,
            input,
            salt,
            deadline: plan.deadline.map(|deadline| now.after(deadline)),
        };
        let (machine, entry) = Machine::accept(run, plan, limits.clone(), started, now);
        let head = Head {
            run,
            definition: workflow.fingerprint,
            events: 0,
            seal: 0,
            asked: Vec::new(),
            attempts: Vec::new(),
            stops: Vec::new(),
            serial: 0,
            wake: None,
            dead: Vec::new(),
        };
        let mut life = Self::over(head, machine);
        life.entries.push(entry);
        life.decide(now, Input::Begin)?;
        Ok(life)
    }

    /// Takes a run up for its next turn.
    ///
    /// # Errors
    /// When its records do not fit together.
    pub(super) fn take_up(
        head: Head,
        plan: Arc<Plan>,
        records: &[Vec<u8>],
        limits: &Limits,
    ) -> Result<Self, EngineError> {
        let run = head.run;
        let bug = |why: String| EngineError::Bug(format!("run {run}: {why}"));
        let entries = records.iter().map(|record| format::decode(record)).collect::<Result<Vec<_>, _>>();
        let entries = entries.map_err(|error| bug(error.to_string()))?;
        let asked: Asked = head.asked.iter().cloned().collect();
        let in_flight = head.attempts.iter().map(|attempt| attempt.call);
        let machine = Machine::go_on(run, plan, limits.clone(), entries, in_flight, asked)
            .map_err(|error| bug(error.to_string()))?;
        Ok(Self::over(head, machine))
    }

    fn over(head: Head, machine: Machine) -> Self {
        Self { head, machine, entries: Vec::new(), commands: Vec::new(), orders: Vec::new() }
    }

    /// Says whether an order with the id of this run is another order.
    pub(super) fn conflict(&self, workflow: &Workflow, input: &Payload) -> Option<EngineError> {
        differs(self.machine.state(), workflow, input)
    }

    /// Tells whether the run is final.
    pub(super) fn is_final(&self) -> bool {
        self.machine.state().is_final()
    }

    /// Takes a message.
    ///
    /// # Errors
    /// When a wish is refused; the run is as it was then.
    pub(super) fn take(&mut self, message: Message, now: Timestamp) -> Result<(), EngineError> {
        match message {
            Message::Wake => {
                self.head.wake = self.head.wake.filter(|at| *at > now);
                self.decide(now, Input::Wake)
            }
            Message::Wish(wish) => self.decide(now, wish.into()),
            Message::Admission { call, answer } => self.admission(call, answer, now),
            Message::Ended { call, attempt, serial, end } => {
                let in_time = self.attempt_ended(call, serial, &end);
                let input = match end {
                    AttemptEnd::Returned(result) if in_time => Input::Ended { call, attempt, result },
                    AttemptEnd::Answered(answer, output) if in_time => {
                        Input::Answered { call, attempt, answer, output }
                    }
                    AttemptEnd::Lost if in_time => Input::Lost { call, attempt, died: true },
                    late => Input::Late { call, attempt, result: late.late() },
                };
                self.decide(now, input)
            }
            Message::Lost { call, attempt, serial, worker, died } => {
                let gone = AttemptEnd::Returned(Err(crate::machine::table::crashed()));
                if !self.attempt_ended(call, serial, &gone) {
                    return Ok(());
                }
                let died = died && !self.head.dead.contains(&worker);
                if died {
                    self.head.dead.push(worker);
                    let too_many = self.head.dead.len().saturating_sub(DEAD_MAX);
                    self.head.dead.drain(..too_many);
                }
                self.decide(now, Input::Lost { call, attempt, died })
            }
        }
    }

    fn decide(&mut self, now: Timestamp, input: Input) -> Result<(), EngineError> {
        let Advance { entries, commands } = self.machine.advance(now, input).map_err(|stuck| match stuck {
            Stuck::Refused(refusal) => EngineError::Refused(refusal),
            Stuck::Bug(bug) => EngineError::Bug(format!("run {}: {bug}", self.head.run)),
        })?;
        self.entries.extend(entries);
        self.commands.extend(commands);
        Ok(())
    }

    fn admission(&mut self, call: CallIx, answer: Admission, now: Timestamp) -> Result<(), EngineError> {
        let probe = match answer {
            Admission::Refused(until) => return self.decide(now, Input::Refused { call, until }),
            Admission::Pass => false,
            Admission::Probe => true,
        };
        let before = self.commands.len();
        self.decide(now, Input::Admitted { call, probe })?;
        let begun =
            self.commands[before..].iter().any(|c| matches!(c, Command::Call { call: begun, .. } if *begun == call));
        if !begun {
            // The run stopped while the call waited for its place.
            self.leave(call, probe, Health::Silent);
        }
        Ok(())
    }

    /// Takes an attempt off the list and frees its place. Returns false for one that had been given up before.
    fn attempt_ended(&mut self, call: CallIx, serial: u64, end: &AttemptEnd) -> bool {
        let Some(at) = self.head.attempts.iter().position(|a| a.call == call && a.serial == serial) else {
            return false;
        };
        let attempt = self.head.attempts.swap_remove(at);
        self.leave(call, attempt.probe, end.health());
        true
    }

    fn leave(&mut self, call: CallIx, probe: bool, health: Health) {
        let plan = self.machine.plan();
        let service = call.in_plan(plan).and_then(|planned| plan.guard_of(planned));
        if let Some((service, policy)) = service.and_then(|name| Some((name.clone(), plan.services.get(name)?.clone())))
        {
            self.orders.push(Order::Leave { service, policy, probe, health });
        }
    }

    /// Ends the turn.
    pub(super) fn end(mut self, now: Timestamp) -> Turned {
        // Who asks whether to end early does so now and then: what was said before must still be there.
        let under_way = &self.head.attempts;
        self.head.stops.retain(|serial| under_way.iter().any(|attempt| attempt.serial == *serial));
        let stopped_before = self.head.stops.len();
        for command in std::mem::take(&mut self.commands) {
            self.order(command);
        }
        if self.head.stops.len() > stopped_before {
            self.orders.push(Order::Stop(self.head.stops.clone()));
        }
        let state = self.machine.state();
        self.head.events += self.entries.len() as u64;
        self.head.asked = self.machine.asked().iter().map(|(call, input)| (*call, input.clone())).collect();
        if let Some(alarm) = state.next_alarm().filter(|alarm| self.head.wake.is_none_or(|wake| *alarm < wake)) {
            self.head.wake = Some(alarm);
            self.orders.push(Order::Wake(alarm));
        }
        let conclusion = state.conclusion.as_ref().filter(|_| state.is_final());
        let row = Row {
            run: self.head.run,
            id: state.started.id.clone(),
            workflow: state.started.workflow.clone(),
            status: state.status().to_owned(),
            end: conclusion.map(|c| c.status),
            compensation: conclusion.map_or(Compensation::NoneNeeded, |c| c.compensation),
            started_at: state.started_at,
            finished_at: state.finished_at.filter(|_| state.is_final()),
            events: self.head.events,
            standing: Standing::of(&self.machine, now),
        };
        let records: Vec<Vec<u8>> = self.entries.iter().map(format::encode).collect();
        self.head.seal = sealed(self.head.seal, &records);
        Turned { head: self.head, row, records, orders: self.orders }
    }

    fn order(&mut self, command: Command) {
        let plan = self.machine.plan();
        match command {
            Command::Admit { call, service } => {
                if let Some(policy) = plan.services.get(&service).cloned() {
                    self.orders.push(Order::Admit { service, policy, call });
                }
            }
            Command::Stop { call } => {
                let serials = self.head.attempts.iter().filter(|a| a.call == call).map(|a| a.serial);
                self.head.stops.extend(serials);
            }
            Command::Call { call, attempt, until, input, key, previous, probe } => {
                self.head.serial += 1;
                let serial = self.head.serial;
                self.head.attempts.push(Attempt { call, serial, probe });
                let started = &self.machine.state().started;
                self.orders.push(Order::Attempt(Box::new(Job {
                    run: started.id.clone(),
                    run_started_at: self.machine.state().started_at,
                    definition: self.head.definition,
                    salt: started.salt,
                    call,
                    attempt,
                    serial,
                    until,
                    input,
                    key,
                    previous,
                })));
            }
        }
    }
}

impl From<Wish> for Input {
    fn from(wish: Wish) -> Self {
        match wish {
            Wish::Signal { id, name, data } => Self::Signal { id, name, data },
            Wish::Cancel { reason, compensate } => Self::Cancel { reason, compensate },
            Wish::Retry { from } => Self::Retry { from },
            Wish::Compensate => Self::Compensate,
            Wish::MarkDone { step, item, reason } => Self::MarkDone { step, item, reason },
        }
    }
}

impl Job {
    /// Makes of what was sent what an executor needs.
    pub(super) fn in_plan(self, plan: Arc<Plan>, token: CancellationToken) -> (crate::engine::executor::Job, Payload) {
        let Self { run, run_started_at, definition: _, salt, call, attempt, serial: _, until, input, key, previous } =
            self;
        let run_id = run.as_str().into();
        let job = crate::engine::executor::Job {
            call,
            attempt,
            until,
            key,
            previous,
            token,
            plan,
            run_id,
            run_started_at,
            salt,
        };
        (job, input)
    }
}
