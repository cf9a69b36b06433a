//! One run under way: a loop that decides, records, then acts.
//!
//! It holds join handles, mailboxes and permits, and no second copy of a status: what a run is, its machine says.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::attempts::{Attempt, Attempts};
use super::executor::{self, AttemptEnd, Job};
use super::report::RunReport;
use super::services::Asker;
use super::{EngineError, Inner, Patience, Recorded, Running, Standing};
use crate::machine::event::Entry;
use crate::machine::policy::breaker::{Admission, Health};
use crate::machine::state::CallIx;
use crate::machine::{Advance, Command, Input, Machine, Refusal, Stuck};
use crate::names::{RunKey, ServiceName};
use crate::store::format;
use crate::store::journal::{Commit, DoneRow, StartRow, StoreError};
use crate::teeth::{Bug, awake};
use crate::time::{Due, Timestamp};

/// How many messages are decided on before what follows is recorded.
const TURN_MESSAGES_MAX: usize = 256;

/// Where the answer to a wish goes.
pub(super) type Reply = oneshot::Sender<Result<(), EngineError>>;

/// What a driver is told.
#[derive(Debug)]
pub(super) enum Message {
    /// Something happened.
    Input(Input),
    /// The run is taken over from a process that is gone, by somebody who wants something or not.
    TakeOver { obstacle: Option<(&'static str, String)>, wish: Option<(Input, Reply)> },
    /// Somebody wants something, and wants to know whether it was done.
    Operate(Input, Reply),
    /// Somebody wants to know how the run stands.
    Report(oneshot::Sender<RunReport>),
    /// A service answers a call that wanted to pass.
    Admission { call: CallIx, answer: Admission },
    /// The time of an attempt may be over.
    Overdue,
    /// An attempt ended.
    Ended { call: CallIx, attempt: u32, serial: u64, end: AttemptEnd },
    /// Nothing new is to start; put the run down when its attempts have ended.
    Hold,
    /// Put the run down now.
    PutDown,
}

/// Where a driver is told. Messages are boxed: a channel has room for 32 of what it carries from the start, and thousands
/// of runs may do nothing but wait.
#[derive(Clone, Debug)]
pub(super) struct Mailbox(mpsc::UnboundedSender<Box<Message>>);

impl Mailbox {
    /// Tells the driver something; it may have ended.
    pub(super) fn send(&self, message: Message) -> Result<(), mpsc::error::SendError<Box<Message>>> {
        self.0.send(Box::new(message))
    }
}

/// Where a run stands, for those who wait for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Position {
    /// What became of it, once it is final.
    pub(super) report: Option<Arc<RunReport>>,
    /// What it waits for.
    pub(super) standing: Standing,
    /// This process has recorded an outcome of it.
    pub(super) heard: bool,
    /// It was put down.
    pub(super) down: bool,
    /// What broke it.
    pub(super) broken: Option<String>,
}

impl Position {
    pub(super) fn is_resting(&self, patience: Patience) -> bool {
        self.report.is_some() || self.down || self.standing.is_resting(patience)
    }
}

/// What one turn decided.
#[derive(Default)]
struct Turn {
    entries: Vec<Entry>,
    commands: Vec<Command>,
    replies: Vec<(Reply, Result<(), EngineError>)>,
    asked: Vec<oneshot::Sender<RunReport>>,
    touched: BTreeSet<ServiceName>,
}

/// Drives one run.
pub(super) struct Driver {
    inner: Arc<Inner>,
    machine: Machine,
    /// How many records of the run are durable.
    recorded: u64,
    /// What the first commit of a new run carries besides.
    start: Option<(Entry, StartRow)>,
    inbox: mpsc::UnboundedReceiver<Box<Message>>,
    mailbox: Mailbox,
    position: watch::Sender<Position>,
    attempts: Attempts,
    /// How many attempts this driver has begun.
    begun: u64,
    held: bool,
    /// Putting the run down is not recorded: it was not taken over either.
    passing: bool,
    heard: bool,
}

impl Driver {
    pub(super) fn new(inner: Arc<Inner>, machine: Machine) -> (Box<Self>, Running) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let mailbox = Mailbox(sender);
        let (position, watched) = watch::channel(Position::default());
        let running = Running { mailbox: mailbox.clone(), position: watched };
        let recorded = machine.state().events;
        let driver = Box::new(Self {
            inner,
            machine,
            recorded,
            start: None,
            inbox,
            mailbox,
            position,
            attempts: Attempts::default(),
            begun: 0,
            held: false,
            passing: false,
            heard: false,
        });
        (driver, running)
    }

    /// Returns the key of the run.
    pub(super) fn key(&self) -> RunKey {
        self.machine.state().key
    }

    /// Says that the run is new: its first event is recorded together with what follows from it.
    pub(super) fn starting(mut self: Box<Self>, entry: Entry, row: StartRow) -> Box<Self> {
        self.recorded = 0;
        self.start = Some((entry, row));
        self
    }

    /// Says that the run is not taken over: whether the last process put it down in order stays as it was.
    pub(super) fn passing(mut self: Box<Self>) -> Box<Self> {
        self.passing = true;
        self
    }

    /// Decides, records and acts until the run is final, put down, or the store fails. It is boxed because a future holds
    /// its arguments twice, and many runs may do nothing but wait.
    pub(super) async fn run(mut self: Box<Self>) {
        let key = self.machine.state().key;
        if let Err(error) = self.go_on().await {
            match error {
                EngineError::Store(error) => self.inner.halt(error),
                // Another submission was faster with the same id; this run was never written.
                EngineError::Conflict { message } => self.position.send_modify(|p| p.broken = Some(message)),
                other => {
                    tracing::error!(run = %key, error = %other, "the run is left alone");
                    self.position.send_modify(|p| p.broken = Some(other.to_string()));
                }
            }
        }
        self.give_back();
        self.inner.runs.lock().remove(&key);
        self.position.send_modify(|p| p.down = true);
    }

    async fn go_on(&mut self) -> Result<(), EngineError> {
        let mut halted = self.inner.halted.subscribe();
        loop {
            let alarm = self.machine.state().next_alarm();
            let message = tokio::select! {
                biased;
                _ = halted.wait_for(Option::is_some) => return Ok(()),
                message = self.inbox.recv() => message.map_or(Message::PutDown, |message| *message),
                () = self.attempts.due(&*self.inner.executor.clock) => Message::Overdue,
                () = wait_until(&self.inner, alarm) => Message::Input(Input::Wake),
            };
            let put_down = self.turn(message).await?;
            if put_down || self.machine.state().is_final() {
                return Ok(());
            }
        }
    }

    /// Ends what is under way, and frees every place that nobody will leave any more.
    fn give_back(&mut self) {
        for attempt in self.attempts.end(&self.inner.executor.clock) {
            if let Some(service) = attempt.service {
                self.leave(&service, attempt.probe, Health::Silent);
            }
        }
        // A place may have been given in the moment in which the run ended.
        self.inbox.close();
        while let Ok(message) = self.inbox.try_recv() {
            let Message::Admission { call, answer: answer @ (Admission::Pass | Admission::Probe) } = *message else {
                continue;
            };
            if let Some(service) = self.service_of(call) {
                self.leave(&service, answer == Admission::Probe, Health::Silent);
            }
        }
    }

    /// Frees the places of calls that were let in and are not made.
    fn withdraw(&self, commands: &mut Vec<Command>) {
        for command in commands.drain(..) {
            if let Command::Call { call, probe, .. } = command
                && let Some(service) = self.service_of(call)
            {
                self.leave(&service, probe, Health::Silent);
            }
        }
    }

    /// Returns the service that has a say in a call.
    fn service_of(&self, call: CallIx) -> Option<ServiceName> {
        let plan = self.machine.plan();
        plan.guard_of(call.in_plan(plan)?).cloned()
    }

    /// Takes what has arrived, decides, records and acts. Returns whether the run was put down.
    async fn turn(&mut self, first: Message) -> Result<bool, EngineError> {
        let mut turn = Turn::default();
        let mut put_down = false;
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(message) = next {
            match message {
                Message::Hold => {
                    self.held = true;
                    self.machine.hold();
                }
                Message::PutDown => put_down = true,
                other => self.take(other, &mut turn)?,
            }
            taken += 1;
            next = if taken < TURN_MESSAGES_MAX { self.inbox.try_recv().ok().map(|message| *message) } else { None };
        }
        // What was decided before the run was held may still begin, and end within the grace period.
        let begins = turn.commands.iter().any(|command| matches!(command, Command::Call { .. }));
        put_down |= self.held && self.attempts.is_empty() && !begins;
        if put_down && !self.passing && !awake(Bug::SigtermCountsAsDeath) && !self.machine.state().is_final() {
            self.decide(Input::Interrupted, &mut turn)?;
            self.withdraw(&mut turn.commands);
        }
        if awake(Bug::StartNotDurableBeforeCall) {
            turn.commands.drain(..).for_each(|command| self.act(command));
        }
        if let Err(error) = self.record(&mut turn).await {
            self.withdraw(&mut turn.commands);
            return Err(error);
        }
        for command in turn.commands {
            self.act(command);
        }
        // Before the replies: whoever asked may wait for the run to rest at once, and must not see it rest as before.
        self.show_position();
        for (reply, result) in turn.replies {
            // Whoever asked may have gone.
            let _ = reply.send(result);
        }
        for asked in turn.asked {
            let _ = asked.send(RunReport::new(self.machine.plan(), self.machine.state()));
        }
        Ok(put_down)
    }

    fn take(&mut self, message: Message, turn: &mut Turn) -> Result<(), EngineError> {
        match message {
            Message::Input(input) => self.decide(input, turn),
            Message::TakeOver { obstacle, wish } => self.take_over(obstacle, wish, turn),
            Message::Operate(input, reply) => self.answer(input, reply, turn),
            Message::Report(asked) => {
                turn.asked.push(asked);
                Ok(())
            }
            Message::Admission { call, answer } => self.admission(call, answer, turn),
            Message::Overdue => {
                for (call, over) in self.attempts.give_up(&*self.inner.executor.clock) {
                    let attempt = over.attempt;
                    let result = Err(executor::timeout(self.machine.plan(), call));
                    self.leave_for(over, &AttemptEnd::Returned(result.clone()), turn);
                    self.heard = true;
                    self.decide(Input::Ended { call, attempt, result }, turn)?;
                }
                Ok(())
            }
            Message::Ended { call, attempt, serial, end } => {
                let ended = self.attempts.answered(call, serial);
                let in_time = ended.is_some();
                ended.into_iter().for_each(|ended| self.leave_for(ended, &end, turn));
                self.heard = true;
                let input = match end {
                    AttemptEnd::Returned(result) if in_time => Input::Ended { call, attempt, result },
                    AttemptEnd::Answered(answer, output) if in_time => {
                        Input::Answered { call, attempt, answer, output }
                    }
                    AttemptEnd::Lost if in_time => Input::Lost { call, attempt, died: true },
                    late => Input::Late { call, attempt, result: late.late() },
                };
                self.decide(input, turn)
            }
            Message::Hold | Message::PutDown => Ok(()),
        }
    }

    /// Takes the run over. What is to be cancelled begins nothing more before it is.
    fn take_over(
        &mut self,
        obstacle: Option<(&'static str, String)>,
        wish: Option<(Input, Reply)>,
        turn: &mut Turn,
    ) -> Result<(), EngineError> {
        let Some((input, reply)) = wish else { return self.decide(Input::Recovered { obstacle }, turn) };
        let first = matches!(input, Input::Cancel { .. }) && !self.held && !awake(Bug::BeginsBeforeItLooks);
        if first {
            self.machine.hold();
        }
        self.decide(Input::Recovered { obstacle }, turn)?;
        self.answer(input, reply, turn)?;
        if first {
            self.machine.let_go();
            self.decide(Input::Wake, turn)?;
        }
        Ok(())
    }

    fn answer(&mut self, input: Input, reply: Reply, turn: &mut Turn) -> Result<(), EngineError> {
        let answer = match self.operate(input, turn) {
            Err(EngineError::Refused(refusal)) => Err(refusal.into()),
            Err(other) => return Err(other),
            Ok(()) => Ok(()),
        };
        turn.replies.push((reply, answer));
        Ok(())
    }

    fn operate(&mut self, input: Input, turn: &mut Turn) -> Result<(), EngineError> {
        // Going on without a handler or a secret would turn its absence into a failure of the run.
        if matches!(input, Input::Retry { .. })
            && let Some((_, message)) = self.inner.obstacle_to(&self.machine)
        {
            return Err(Refusal::Conflict { message }.into());
        }
        self.decide(input, turn)
    }

    /// Lets the machine decide, and answers at once what the services can answer at once.
    fn decide(&mut self, input: Input, turn: &mut Turn) -> Result<(), EngineError> {
        let now = self.inner.executor.clock.now();
        let Advance { entries, commands } = self.machine.advance(now, input).map_err(|stuck| match stuck {
            Stuck::Refused(refusal) => EngineError::Refused(refusal),
            Stuck::Bug(bug) => EngineError::Bug(format!("run {}: {bug}", self.machine.state().key)),
        })?;
        if turn.entries.is_empty() {
            turn.entries = entries;
        } else {
            turn.entries.extend(entries);
        }
        for command in commands {
            match command {
                Command::Admit { call, service } => {
                    let Some(policy) = self.machine.plan().services.get(&service).cloned() else { continue };
                    let asker = Asker { call, mailbox: self.mailbox.clone() };
                    if let Some(answer) = self.inner.services.admit(&service, &policy, asker, now) {
                        self.admission(call, answer, turn)?;
                    }
                }
                other => turn.commands.push(other),
            }
        }
        Ok(())
    }

    fn admission(&mut self, call: CallIx, answer: Admission, turn: &mut Turn) -> Result<(), EngineError> {
        let service = self.service_of(call);
        let probe = match answer {
            Admission::Refused(until) => return self.decide(Input::Refused { call, until }, turn),
            Admission::Pass => false,
            Admission::Probe => true,
        };
        let before = turn.commands.len();
        self.decide(Input::Admitted { call, probe }, turn)?;
        let begun =
            turn.commands[before..].iter().any(|c| matches!(c, Command::Call { call: begun, .. } if *begun == call));
        if let Some(service) = service {
            if !begun {
                // The run stopped, or is to be put down, while the call waited for its place.
                self.leave(&service, probe, Health::Silent);
            }
            if probe {
                turn.touched.insert(service);
            }
        }
        Ok(())
    }

    /// Frees the place that an attempt had, and tells its service how it ended.
    fn leave_for(&self, attempt: Attempt, end: &AttemptEnd, turn: &mut Turn) {
        let Some(service) = attempt.service else { return };
        self.leave(&service, attempt.probe, end.health());
        turn.touched.insert(service);
    }

    fn leave(&self, service: &ServiceName, probe: bool, health: Health) {
        if let Some(policy) = self.machine.plan().services.get(service) {
            self.inner.services.leave(service, policy, probe, health, &*self.inner.executor.clock);
        }
    }

    /// Makes what was decided durable.
    async fn record(&mut self, turn: &mut Turn) -> Result<(), EngineError> {
        let start = self.start.take();
        if turn.entries.is_empty() && start.is_none() {
            return Ok(());
        }
        let mut entries = std::mem::take(&mut turn.entries);
        let row = start.map(|(first, row)| {
            entries.insert(0, first);
            row
        });
        let state = self.machine.state();
        let finish = state.is_final().then(|| {
            let conclusion = state.conclusion.as_ref().expect("a final run has a conclusion");
            DoneRow {
                id: state.started.id.clone(),
                workflow: state.started.workflow.clone(),
                started_at: state.started_at,
                finished_at: state.finished_at.unwrap_or(state.started_at),
                status: conclusion.status,
                compensation: conclusion.compensation,
            }
        });
        let commit = Commit {
            run: state.key,
            first: self.recorded,
            records: format::encode_all(&entries),
            start: row,
            finish,
            breakers: Vec::new(),
        };
        let touched = std::mem::take(&mut turn.touched);
        let committed = if touched.is_empty() {
            self.inner.journal.commit(commit)
        } else {
            self.inner
                .services
                .with_states(touched, |breakers| self.inner.journal.commit(Commit { breakers, ..commit }))
        };
        committed.await.map_err(|error| match error {
            // Another submission was faster with the same id; nothing of this run was written.
            StoreError::IdTaken { .. } => EngineError::Conflict { message: error.to_string() },
            StoreError::Refused { .. } => EngineError::Bug(error.to_string()),
            other => EngineError::Store(other),
        })?;
        if let Some(observer) = &self.inner.executor.options.observer {
            let state = self.machine.state();
            for (n, entry) in (self.recorded..).zip(&entries) {
                let plan = self.machine.plan();
                observer(&Recorded { run: state.key, id: &state.started.id, seq: n, entry, state, plan });
            }
        }
        self.recorded += entries.len() as u64;
        Ok(())
    }

    fn act(&mut self, command: Command) {
        match command {
            Command::Call { call, attempt, until, input, key, previous, probe } => {
                let token = CancellationToken::new();
                self.begun += 1;
                let serial = self.begun;
                let job = Job {
                    call,
                    attempt,
                    until,
                    key,
                    previous,
                    token: token.clone(),
                    plan: Arc::clone(self.machine.plan()),
                    run_id: self.machine.state().started.id.as_str().into(),
                    run_started_at: self.machine.state().started_at,
                    salt: self.machine.state().started.salt,
                };
                let mailbox = self.mailbox.clone();
                let executor = Arc::clone(&self.inner.executor);
                let task = tokio::spawn(executor::carry_out(executor, job, serial, input, mailbox)).abort_handle();
                let service = self.service_of(call);
                let until = Due::new(&*self.inner.executor.clock, until);
                self.attempts.begin(call, Attempt { serial, attempt, until, token, task, service, probe });
            }
            Command::Stop { call } => {
                if let Some(attempt) = self.attempts.get(call) {
                    attempt.token.cancel();
                }
            }
            Command::Admit { .. } => {}
        }
    }

    fn show_position(&self) {
        let standing = Standing::of(&self.machine, self.inner.executor.clock.now());
        // Whoever waits for the end need not read it back from the store.
        let state = self.machine.state();
        let report = state.is_final().then(|| Arc::new(RunReport::new(self.machine.plan(), state)));
        self.position.send_if_modified(|position| {
            let before = (position.heard, position.standing);
            position.heard = self.heard;
            position.standing = standing;
            position.report = report;
            // Nobody is woken to find everything as it was.
            position.report.is_some() || before != (position.heard, position.standing)
        });
    }
}

async fn wait_until(inner: &Inner, alarm: Option<Timestamp>) {
    match alarm {
        Some(at) => inner.executor.clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}
