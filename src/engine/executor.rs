//! One attempt: the handler is called under its timeout, and whatever comes of it becomes an outcome.
//!
//! Here the engine's own errors are made (SPEC 6.4): `timeout`, `panic`, `bad_output`.

use std::any::Any;
use std::future::Future as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::driver::{AttemptEnd, Mailbox, Message};
use super::{Inner, Moment, secrets};
use crate::failure::ErrorKind;
use crate::failure::Failure;
use crate::faults::{Action, CallFacts};
use crate::handlers::context::StepCtx;
use crate::handlers::outcome::{Confirmation, Reply, StepError};
use crate::handlers::registry::Handler;
use crate::limits::raised_by;
use crate::machine::event::{Answer, CallKind};
use crate::machine::state::CallIx;
use crate::names::{MemberName, PRIMARY};
use crate::payload::Payload;
use crate::plan::Plan;
use crate::teeth::{Bug, awake};
use crate::time::Timestamp;

/// Bytes of an error's message that are kept.
const MESSAGE_MAX: usize = 16 << 10;

/// What an attempt needs to know.
pub(super) struct Job {
    pub(super) call: CallIx,
    pub(super) attempt: u32,
    pub(super) serial: u64,
    pub(super) until: Timestamp,
    pub(super) key: String,
    pub(super) previous: Option<Failure>,
    pub(super) token: CancellationToken,
    pub(super) plan: Arc<Plan>,
    pub(super) run_id: Arc<str>,
    pub(super) run_started_at: Timestamp,
    pub(super) salt: [u8; 32],
}

/// Carries an attempt out and tells the driver how it ended.
pub(super) async fn carry_out(inner: Arc<Inner>, job: Job, input: Payload, mailbox: Mailbox) {
    let (call_ix, attempt, serial) = (job.call, job.attempt, job.serial);
    let mut calling = pin!(call(inner, job, input));
    // A panic stays inside.
    let end = std::future::poll_fn(|context| {
        let poll = AssertUnwindSafe(|| calling.as_mut().poll(context));
        catch_unwind(poll).unwrap_or_else(|panic| Poll::Ready(panicked(&*panic)))
    });
    let end = end.await;
    // A driver that is gone has put its run down; nobody waits for the answer.
    let _ = mailbox.send(Message::Ended { call: call_ix, attempt, serial, end });
}

/// Returns what is said of an attempt whose handler gave no answer in time.
pub(super) fn timeout(plan: &Plan, call: CallIx) -> Failure {
    let planned = call.in_plan(plan).map_or_else(String::new, |c| format!(" after {:?}", c.timeout));
    Failure::new("timeout", ErrorKind::Unknown, format!("the handler gave no answer{planned}"))
}

fn panicked(panic: &(dyn Any + Send)) -> AttemptEnd {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let message = format!("the handler panicked: {}", text.unwrap_or("without a message"));
    AttemptEnd::Returned(Err(Failure::new("panic", ErrorKind::Unknown, message)))
}

async fn call(inner: Arc<Inner>, job: Job, input: Payload) -> AttemptEnd {
    let Some(planned) = job.call.in_plan(&job.plan) else {
        return failed(StepError::permanent("handler_missing", "the plan does not know this call"));
    };
    let Some(handler) = inner.handlers.get(planned.handler.as_str()) else {
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
        elapsed: inner.clock.now().since(job.run_started_at),
    };
    let dies = |moment| inner.options.watch.as_ref().is_some_and(|watch| watch(&facts, moment));
    if dies(Moment::Before) {
        die(&inner).await
    }
    let fault = inner.options.faults.as_ref().and_then(|faults| faults.find(&facts));
    let does = || {
        // A fault that is carried out is not a death of the test's own.
        let _ = dies(Moment::Fault);
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
            die(&inner).await
        }
        Some(Action::Delay(delay)) => {
            does();
            inner.clock.sleep_until(inner.clock.now().after(*delay)).await;
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
        clock: Arc::clone(&inner.clock),
        lockstep: inner.options.lockstep,
    };
    let again = (fault == Some(&Action::Repeat)).then(|| (ctx.clone(), input.clone()));
    let mut end = reply_of(&inner, &job, handler, ctx, input).await;
    if let Some((ctx, input)) = again
        && !matches!(end, AttemptEnd::Returned(Err(_)))
    {
        does();
        end = reply_of(&inner, &job, handler, ctx, input).await;
    }
    if dies(Moment::After) {
        die(&inner).await
    }
    match fault {
        Some(Action::ActThenHang) => {
            does();
            std::future::pending().await
        }
        Some(Action::KillAfter) => {
            does();
            die(&inner).await
        }
        Some(Action::Error { .. } | Action::Hang | Action::KillBefore | Action::Repeat | Action::Delay(_)) | None => {
            end
        }
    }
}

async fn reply_of(inner: &Inner, job: &Job, handler: &Handler, ctx: StepCtx, input: Payload) -> AttemptEnd {
    let secrets = match secrets::Filled::of(&job.plan, &job.salt, inner.options.secrets.as_deref()) {
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
        (_, Err(error)) => AttemptEnd::Returned(Err(secrets.hide_in_failure(bounded(inner, error.into())))),
        (CallKind::Confirm, Ok(Reply::Confirmation(confirmation))) => confirmed(inner, job, &secrets, confirmation),
        (CallKind::Confirm, Ok(Reply::Output(_))) => {
            failed(StepError::unknown("bad_output", "the handler in `confirm` must answer with a confirmation"))
        }
        (CallKind::Forward | CallKind::Undo | CallKind::Finally, Ok(Reply::Output(output))) => {
            AttemptEnd::Returned(checked(inner, handler, secrets.hide(output)))
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
fn confirmed(inner: &Inner, job: &Job, secrets: &secrets::Filled, confirmation: Confirmation<Payload>) -> AttemptEnd {
    let output = match confirmation {
        Confirmation::NotDone => return AttemptEnd::Answered(Answer::NotDone, None),
        Confirmation::Unknown => return AttemptEnd::Answered(Answer::Unknown, None),
        Confirmation::Done(output) => secrets.hide(output),
    };
    let asked_about = CallIx { kind: CallKind::Forward, ..job.call };
    let original = asked_about.in_plan(&job.plan).and_then(|c| inner.handlers.get(c.handler.as_str()));
    match original.map_or(Ok(output.clone()), |handler| checked(inner, handler, output)) {
        Ok(output) => AttemptEnd::Answered(Answer::Done, Some(output)),
        Err(failure) => AttemptEnd::Returned(Err(failure)),
    }
}

fn checked(inner: &Inner, handler: &Handler, output: Payload) -> Result<Payload, Failure> {
    let bytes = output.text().len() as u64;
    let limit = inner.options.limits.payload_bytes;
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
fn bounded(inner: &Inner, mut failure: Failure) -> Failure {
    if failure.message.len() > MESSAGE_MAX {
        let mut end = MESSAGE_MAX;
        while !failure.message.is_char_boundary(end) {
            end -= 1;
        }
        failure.message.truncate(end);
        failure.message.push('\u{2026}');
    }
    let limit = inner.options.limits.payload_bytes;
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

/// Ends the process, as the fault wants. Where that is only pretended, nothing more is heard of the attempt.
async fn die<T>(inner: &Inner) -> T {
    match &inner.options.killer {
        Some(kill) => kill(),
        None => {
            // Nothing after this line runs in this process.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
    std::future::pending().await
}
