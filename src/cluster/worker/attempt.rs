//! Attempts: a handler is called at most once for each, and what became of it is told to the run.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use restate_sdk::context::RequestTarget;
use restate_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::hall::{Doing, Hall};
use crate::cluster::message::{Job, Message, RUN};
use crate::engine::EngineError;
use crate::engine::executor::{self, AttemptEnd};
use crate::failure::{ErrorKind, Failure};
use crate::machine::table::crashed;
use crate::plan::Plan;

/// How long a handler may go on after its attempt was given up, before it is dropped.
const LATE_GRACE: Duration = Duration::from_secs(60);

/// How long an attempt goes on before it is asked for the first time whether it is to end early.
const ASKED_FIRST: Duration = Duration::from_secs(1);

/// How long it is at most before it is asked again.
const ASKED_AGAIN: Duration = Duration::from_secs(5);

/// The service `flowrun.Attempt`.
pub(super) struct Attempts(pub(super) Arc<Hall>);

/// What became of an attempt.
#[derive(Debug, Serialize, Deserialize)]
enum Became {
    /// It ended; whether its handler still goes on.
    Ended(AttemptEnd, bool),
    /// It was begun before, and whoever did it is gone.
    Lost,
}

#[restate_sdk::service(name = "flowrun.Attempt")]
impl Attempts {
    /// Carries an attempt out.
    #[handler]
    async fn carry_out(&self, ctx: Context<'_>, job: Json<Job>) -> Result<(), HandlerError> {
        self.0.note(Doing::Receives);
        let job = job.into_inner();
        // A worker without the handler must not begin it: another one, or this one after an upgrade, will.
        let known = self.0.plan(job.definition).await?;
        if let Some((_, message)) = self.0.executor.obstacle(&known.plan) {
            tracing::warn!(run = job.run, "{message}; the attempt waits for a worker that can");
            return Err(EngineError::Definition(message).into());
        }
        let mine = self.0.beginning();
        let begun = ctx.run(move || async move { Ok(Json(mine)) }).name("begin").await;
        // Nothing was called yet, so being cancelled by the cluster's operator here changes nothing.
        let begun = begun.map_or(mine, Json::into_inner);
        let (call, attempt, serial, run) = (job.call, job.attempt, job.serial, job.run.clone());
        let left: Arc<Mutex<Option<JoinHandle<AttemptEnd>>>> = Arc::default();
        let (hall, rest, id) = (Arc::clone(&self.0), Arc::clone(&left), run.clone());
        let became = ctx.run(async move || {
            // Restate calls a handler again whose result it did not get. The call before may have acted.
            if begun != mine {
                return Ok::<_, HandlerError>(Json(Became::Lost));
            }
            let (end, goes_on) = carry_out(&hall, &id, job, known.plan).await;
            let still = goes_on.is_some();
            *rest.lock() = goes_on;
            Ok(Json(Became::Ended(end, still)))
        });
        let (message, goes_on) = match became.name("attempt").await {
            Ok(Json(Became::Ended(end, goes_on))) => (Message::Ended { call, attempt, serial, end }, goes_on),
            Ok(Json(Became::Lost)) => {
                let died = !self.0.has_begun(begun);
                (Message::Lost { call, attempt, serial, worker: begun.worker, died }, false)
            }
            // The cluster's operator cancelled it, and the handler may have acted all the same.
            Err(error) => {
                let message = format!("the attempt was cut off by the cluster: {}", error.message());
                let end = AttemptEnd::Returned(Err(Failure::new("crashed", ErrorKind::Unknown, message)));
                (Message::Ended { call, attempt, serial, end }, false)
            }
        };
        let target = || {
            self.0.note(Doing::Sends);
            RequestTarget::object(RUN, run.clone(), "tell")
        };
        ctx.request::<_, ()>(target(), Json(message)).send();
        if !goes_on {
            return Ok(());
        }
        let hall = Arc::clone(&self.0);
        let late = ctx.run(async move || {
            // None is there where the process that waited for it is gone.
            let left = left.lock().take();
            Ok::<_, HandlerError>(Json(late_answer(&hall, left).await))
        });
        if let Ok(Json(Some(end))) = late.name("late").await {
            ctx.request::<_, ()>(target(), Json(Message::Ended { call, attempt, serial, end })).send();
        }
        Ok(())
    }
}

/// Calls the handler of an attempt, and gives it up when its time is over; then the handler goes on in the task returned.
async fn carry_out(hall: &Hall, run: &str, job: Job, plan: Arc<Plan>) -> (AttemptEnd, Option<JoinHandle<AttemptEnd>>) {
    let _noted = hall.under(Doing::Performs, Doing::Performed);
    let (call, until, serial, token) = (job.call, job.until, job.serial, CancellationToken::new());
    let (work, input) = job.in_plan(Arc::clone(&plan), token.clone());
    let executor = Arc::clone(&hall.executor);
    // A task of its own, so that it goes on while Restate is told that it was given up.
    let mut task = tokio::spawn(async move { executor.perform(work, input).await });
    tokio::select! {
        biased;
        done = &mut task => (done.unwrap_or_else(|_| AttemptEnd::Returned(Err(crashed()))), None),
        () = hall.executor.clock.sleep_until(until) => {
            token.cancel();
            (AttemptEnd::Returned(Err(executor::timeout(&plan, call))), Some(task))
        }
        () = stopped(hall, run, serial, &token) => unreachable!("it only passes a wish on"),
    }
}

/// Waits for the answer of a handler whose attempt was given up; nothing if there is none in time.
async fn late_answer(hall: &Hall, left: Option<JoinHandle<AttemptEnd>>) -> Option<AttemptEnd> {
    let mut task = left?;
    let _noted = hall.under(Doing::Performs, Doing::Performed);
    let clock = &hall.executor.clock;
    tokio::select! {
        done = &mut task => done.ok(),
        () = clock.sleep_until(clock.now().after(LATE_GRACE)) => {
            task.abort();
            None
        }
    }
}

/// Asks the handler to end early once its run wants that. Never ends: the handler may take its time.
async fn stopped(hall: &Hall, run: &str, serial: u64, token: &CancellationToken) {
    let mut pause = ASKED_FIRST;
    loop {
        let clock = &hall.executor.clock;
        clock.sleep_until(clock.now().after(pause)).await;
        pause = (pause * 2).min(ASKED_AGAIN);
        let stops = {
            let _noted = hall.under(Doing::Asks, Doing::Answered);
            hall.source.stops(run).await
        };
        match stops {
            Ok(serials) if serials.contains(&serial) => token.cancel(),
            Ok(_) => {}
            // It is asked again.
            Err(error) => tracing::debug!(run, %error, "it cannot be read whether an attempt is to end early"),
        }
    }
}
