//! One attempt: the handler is called under its timeout, and whatever comes of it becomes an outcome.
//!
//! Here the engine's own errors are made (SPEC 6.4): `timeout`, `panic`, `bad_output`.

use std::any::Any;
use std::future::Future as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::driver::{Mailbox, Message};
use super::{EngineOptions, Fate, Moment, secrets};
use crate::failure::ErrorKind;
use crate::failure::Failure;
use crate::faults::{Action, CallFacts};
use crate::handlers::context::StepCtx;
use crate::handlers::outcome::{Confirmation, Reply, StepError};
use crate::handlers::registry::{Handler, Handlers};
use crate::limits::raised_by;
use crate::machine::event::{Answer, CallKind};
use crate::machine::policy::breaker::Health;
use crate::machine::state::CallIx;
use crate::machine::table::crashed;
use crate::names::{MemberName, PRIMARY};
use crate::payload::Payload;
use crate::plan::Plan;
use crate::teeth::{Bug, awake};
use crate::time::{Clock, Timestamp};

/// Bytes of an error's message that are kept.
const MESSAGE_MAX: usize = 16 << 10;

/// How an attempt came to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum AttemptEnd {
    Returned(Result<Payload, Failure>),
    Answered(Answer, Option<Payload>),
    /// Whoever carried it out is gone.
    Lost,
}

impl AttemptEnd {
    /// Says what it tells of the health of the service that was called.
    pub(crate) fn health(&self) -> Health {
        match self {
            Self::Returned(Err(failure)) => Health::of(failure),
            Self::Returned(Ok(_)) | Self::Answered(..) => Health::Answered,
            Self::Lost => Health::Silent,
        }
    }

    /// Returns it as the end of an attempt that had been given up before.
    pub(crate) fn late(self) -> Result<Payload, Failure> {
        match self {
            Self::Returned(result) => result,
            Self::Answered(answer, _) => Ok(Payload::of(json!(answer))),
            Self::Lost => Err(crashed()),
        }
    }
}

/// What an attempt needs to know.
pub(crate) struct Job {
    pub(crate) call: CallIx,
    pub(crate) attempt: u32,
    pub(crate) until: Timestamp,
    pub(crate) key: String,
    pub(crate) previous: Option<Failure>,
    pub(crate) token: CancellationToken,
    pub(crate) plan: Arc<Plan>,
    pub(crate) run_id: Arc<str>,
    pub(crate) run_started_at: Timestamp,
    pub(crate) salt: [u8; 32],
}

/// Calls handlers: what it takes besides the run itself.
pub(crate) struct Executor {
    pub(crate) handlers: Handlers,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: EngineOptions,
}

impl Executor {
    /// Says why a run with this plan cannot go on in this process.
    pub(crate) fn obstacle(&self, plan: &Plan) -> Option<(&'static str, String)> {
        let missing = plan.handlers().find(|name| self.handlers.get(name.as_str()).is_none());
        if let Some(name) = missing {
            let message = format!("handler `{name}` is not registered in this program; resume the run where it is");
            return Some(("handler_missing", message));
        }
        let missing = secrets::missing(plan, self.options.secrets.as_deref());
        if missing.is_empty() {
            return None;
        }
        Some(("secret_missing", format!("missing in the environment: {}", missing.join(", "))))
    }

    /// Calls the handler of an attempt, and returns what comes of it, however long that takes.
    pub(crate) async fn perform(&self, job: Job, input: Payload) -> AttemptEnd {
        let mut calling = pin!(call(self, &job, input));
        // A panic stays inside.
        let end = std::future::poll_fn(|context| {
            let poll = AssertUnwindSafe(|| calling.as_mut().poll(context));
            catch_unwind(poll).unwrap_or_else(|panic| Poll::Ready(panicked(&*panic)))
        });
        end.await
    }
}

/// Carries an attempt out and tells the driver how it ended.
pub(super) async fn carry_out(executor: Arc<Executor>, job: Job, serial: u64, input: Payload, mailbox: Mailbox) {
    let (call, attempt) = (job.call, job.attempt);
    let end = executor.perform(job, input).await;
    // A driver that is gone has put its run down; nobody waits for the answer.
    let _ = mailbox.send(Message::Ended { call, attempt, serial, end });
}

/// Returns what is said of an attempt whose handler gave no answer in time.
pub(crate) fn timeout(plan: &Plan, call: CallIx) -> Failure {
    let planned = call.in_plan(plan).map_or_else(String::new, |c| format!(" after {:?}", c.timeout));
    Failure::new("timeout", ErrorKind::Unknown, format!("the handler gave no answer{planned}"))
}

fn panicked(panic: &(dyn Any + Send)) -> AttemptEnd {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let message = format!("the handler panicked: {}", text.unwrap_or("without a message"));
    AttemptEnd::Returned(Err(Failure::new("panic", ErrorKind::Unknown, message)))
}

async fn call(executor: &Executor, job: &Job, input: Payload) -> AttemptEnd {
    let Some(planned) = job.call.in_plan(&job.plan) else {
        return failed(StepError::permanent("handler_missing", "the plan does not know this call"));
    };
    let Some(handler) = executor.handlers.get(planned.handler.as_str()) else {
        let message = format!("handler `{}` is not registered", planned.handler);
        return failed(StepError::permanent("handler_missing", message));
    };
    let id = job.call.id(&job.plan);
    let primary = MemberName::from(PRIMARY);
    let facts = CallFacts {
        step: &id.place.step,
        handler: &planned.handler,
        member: job.call.member_in(&job.plan).map_or(&primary, |m| &m.name),
        item: id.place.item,
        kind: job.call.kind,
        attempt: job.attempt,
        key: &job.key,
        elapsed: executor.clock.now().since(job.run_started_at),
    };
    let fate = |moment| executor.options.watch.as_ref().map_or(Fate::GoesOn, |watch| watch(&facts, moment));
    if let Some(end) = meet(executor, fate(Moment::Before)).await {
        return end;
    }
    let fault = executor.options.faults.as_ref().and_then(|faults| faults.find(&facts));
    let does = || {
        // A fault that is carried out is not a death of the test's own.
        let _ = fate(Moment::Fault);
    };
    match fault {
        Some(Action::Error { code, kind, message }) => {
            does();
            return AttemptEnd::Returned(Err(Failure::new(code.as_str(), *kind, message.clone())));
        }
        Some(Action::Hang) => {
            does();
            std::future::pending().await
        }
        Some(Action::KillBefore) => {
            does();
            die(executor).await
        }
        Some(Action::Delay(delay)) => {
            does();
            executor.clock.sleep_until(executor.clock.now().after(*delay)).await;
        }
        Some(Action::ActThenHang | Action::KillAfter | Action::Repeat) | None => {}
    }
    let ctx = StepCtx {
        run_id: Arc::clone(&job.run_id),
        workflow: job.plan.name.as_str().into(),
        step: id.place.step.clone(),
        item: id.place.item,
        attempt: job.attempt,
        key: job.key.as_str().into(),
        deadline: job.until,
        cancellation: job.token.clone(),
        previous_error: job.previous.clone(),
        clock: Arc::clone(&executor.clock),
        lockstep: executor.options.lockstep,
    };
    let again = (fault == Some(&Action::Repeat)).then(|| (ctx.clone(), input.clone()));
    let mut end = reply_of(executor, job, handler, ctx, input).await;
    if let Some((ctx, input)) = again
        && !matches!(end, AttemptEnd::Returned(Err(_)))
    {
        does();
        end = reply_of(executor, job, handler, ctx, input).await;
    }
    if let Some(end) = meet(executor, fate(Moment::After)).await {
        return end;
    }
    match fault {
        Some(Action::ActThenHang) => {
            does();
            std::future::pending().await
        }
        Some(Action::KillAfter) => {
            does();
            die(executor).await
        }
        Some(Action::Error { .. } | Action::Hang | Action::KillBefore | Action::Repeat | Action::Delay(_)) | None => {
            end
        }
    }
}

async fn reply_of(executor: &Executor, job: &Job, handler: &Handler, ctx: StepCtx, input: Payload) -> AttemptEnd {
    let secrets = match secrets::Filled::of(&job.plan, &job.salt, executor.options.secrets.as_deref()) {
        Ok(secrets) => secrets,
        Err(missing) => {
            let message = format!("missing in the environment: {}", missing.join(", "));
            return failed(StepError::permanent("secret_missing", message));
        }
    };
    let input = secrets.fill(input.into_value());
    if let Err(error) = handler.check_input(&input) {
        return AttemptEnd::Returned(Err(secrets.hide_in_failure(error.into())));
    }
    let reply = handler.call(ctx, input).await;
    match (job.call.kind, reply) {
        (_, Err(error)) => AttemptEnd::Returned(Err(secrets.hide_in_failure(bounded(executor, error.into())))),
        (CallKind::Confirm, Ok(Reply::Confirmation(confirmation))) => confirmed(executor, job, &secrets, confirmation),
        (CallKind::Confirm, Ok(Reply::Output(_))) => {
            failed(StepError::unknown("bad_output", "the handler in `confirm` must answer with a confirmation"))
        }
        (CallKind::Forward | CallKind::Undo | CallKind::Finally, Ok(Reply::Output(output))) => {
            AttemptEnd::Returned(checked(executor, handler, secrets.hide(output)))
        }
        (CallKind::Forward | CallKind::Undo | CallKind::Finally, Ok(Reply::Confirmation(confirmation))) => {
            let output = match confirmation {
                Confirmation::Done(output) => json!({ "answer": "done", "output": **output.value() }),
                Confirmation::NotDone => json!({ "answer": "not_done" }),
                Confirmation::Unknown => json!({ "answer": "unknown" }),
            };
            AttemptEnd::Returned(Ok(secrets.hide(Payload::of(output))))
        }
    }
}

/// Reads a confirm handler's answer. What `Done` carries becomes the step's output, so it has to fit that.
fn confirmed(
    executor: &Executor,
    job: &Job,
    secrets: &secrets::Filled,
    confirmation: Confirmation<Payload>,
) -> AttemptEnd {
    let output = match confirmation {
        Confirmation::NotDone => return AttemptEnd::Answered(Answer::NotDone, None),
        Confirmation::Unknown => return AttemptEnd::Answered(Answer::Unknown, None),
        Confirmation::Done(output) => secrets.hide(output),
    };
    let asked_about = CallIx { kind: CallKind::Forward, ..job.call };
    let original = asked_about.in_plan(&job.plan).and_then(|c| executor.handlers.get(c.handler.as_str()));
    match original.map_or(Ok(output.clone()), |handler| checked(executor, handler, output)) {
        Ok(output) => AttemptEnd::Answered(Answer::Done, Some(output)),
        Err(failure) => AttemptEnd::Returned(Err(failure)),
    }
}

fn checked(executor: &Executor, handler: &Handler, output: Payload) -> Result<Payload, Failure> {
    let bytes = output.text().len() as u64;
    let limit = executor.options.limits.payload_bytes;
    if bytes > limit && !awake(Bug::PayloadLimitNotChecked) {
        let message = format!("the output has {bytes} bytes, and the limit `payload_bytes` is {limit}")
            + &raised_by("payload_bytes");
        return Err(Failure::new("bad_output", ErrorKind::Unknown, message));
    }
    match handler.check_output(&output) {
        Ok(()) => Ok(output),
        Err(why) => {
            let message = format!("the output does not fit the handler's schema: {why}");
            Err(Failure::new("bad_output", ErrorKind::Unknown, message))
        }
    }
}

/// Cuts what a handler says of an error down to what may be recorded; the error itself counts all the same.
fn bounded(executor: &Executor, mut failure: Failure) -> Failure {
    if failure.message.len() > MESSAGE_MAX {
        let mut end = MESSAGE_MAX;
        while !failure.message.is_char_boundary(end) {
            end -= 1;
        }
        failure.message.truncate(end);
        failure.message.push('\u{2026}');
    }
    let limit = executor.options.limits.payload_bytes;
    if let Some(details) = &failure.details
        && details.text().len() as u64 > limit
    {
        failure.details = None;
        failure.message.push_str(&format!(" (its details have more bytes than the limit `payload_bytes`, {limit})"));
    }
    failure
}

fn failed(error: StepError) -> AttemptEnd {
    AttemptEnd::Returned(Err(error.into()))
}

/// Whoever carries an attempt out meets its fate. Returns how the attempt ends, if it ends by that.
async fn meet(executor: &Executor, fate: Fate) -> Option<AttemptEnd> {
    match fate {
        Fate::GoesOn => None,
        Fate::Dies => die(executor).await,
        Fate::IsLost => Some(AttemptEnd::Lost),
    }
}

/// Ends the process, as the fault wants. Where that is only pretended, nothing more is heard of the attempt.
async fn die<T>(executor: &Executor) -> T {
    match &executor.options.killer {
        Some(kill) => kill(),
        None => {
            // Nothing after this line runs in this process.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
    std::future::pending().await
}
