//! A run as a virtual object: one invocation is one turn.

use std::sync::Arc;

use restate_sdk::context::RequestTarget;
use restate_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::hall::{Doing, Hall, now};
use crate::cluster::life::{Birth, Head, Life, Order, Row, Turned};
use crate::cluster::message::{
    ATTEMPT, DEFINITION, Job, Message, RUN, Reply, SERVICE, Submit, Taken, ToService, VERSION, Wish,
};
use crate::engine::{EngineError, Known, Workflow};
use crate::names::RunKey;
use crate::store::bundle::Bundle;
use crate::time::Timestamp;

/// The state's key for what is kept of a run beside its records.
pub(super) const HEAD: &str = "head";
/// The state's key for what lists show of a run.
pub(super) const ROW: &str = "row";
/// The state's key for attempts that are to end early.
pub(super) const STOPS: &str = "stops";
/// What the keys begin with under which records are kept: those of one turn under one key, by the number of the first.
pub(super) const RECORDS: &str = "records/";

/// The virtual object `flowrun.Run`.
pub(super) struct Run(pub(super) Arc<Hall>);

/// What a new run needs of the world.
#[derive(Debug, Serialize, Deserialize)]
struct Moment {
    now: Timestamp,
    run: RunKey,
    salt: [u8; 32],
    /// Whether its definition has to be kept.
    keep: bool,
    /// What keeps it from being begun here.
    refused: Option<EngineError>,
}

#[restate_sdk::object(name = "flowrun.Run")]
impl Run {
    /// Takes a new run in, or finds the one that has the id.
    #[handler]
    async fn submit(&self, ctx: ObjectContext<'_>, submit: Json<Submit>) -> Result<Json<Reply<Taken>>, HandlerError> {
        let Submit { flowrun, run, definition, input } = submit.into_inner();
        if flowrun != VERSION {
            return Ok(Json(Err(other_version(flowrun))));
        }
        // All workers behind one address are the same build, so this is the same wherever it is called again.
        let workflow = match self.0.workflow(*definition) {
            Ok(workflow) => workflow,
            Err(error) => return Ok(Json(Err(error))),
        };
        if let Some(Json(head)) = ctx.get::<Json<Head>>(HEAD).await? {
            let (life, _) = self.take_up(ctx.key(), head).await?;
            let known = if life.is_final() { Known::Final } else { Known::Attached };
            return Ok(Json(life.conflict(&workflow, &input).map_or(Ok(Taken { known }), Err)));
        }
        let (hall, ready) = (Arc::clone(&self.0), Arc::clone(&workflow));
        let moment = async move || Ok::<_, HandlerError>(Json(moment(&hall, &ready, run).await?));
        let Json(moment) = ctx.run(moment).name("moment").await?;
        if let Some(refused) = moment.refused {
            return Ok(Json(Err(refused)));
        }
        let id = ctx.key().to_owned();
        let birth = Birth { id, run: moment.run, salt: moment.salt, workflow: &workflow, input };
        let life = match Life::begin(birth, &self.0.limits, moment.now) {
            Ok(life) => life,
            Err(error) => return Ok(Json(Err(error))),
        };
        if moment.keep {
            let target = RequestTarget::object(DEFINITION, hex(&workflow.fingerprint), "keep");
            let text = String::from_utf8_lossy(&workflow.pinned).into_owned();
            ctx.request::<_, ()>(target, text).send();
        }
        self.end(&ctx, moment.now, life.end(moment.now), Vec::new());
        Ok(Json(Ok(Taken { known: Known::New })))
    }

    /// Takes a message of another part of the cluster.
    #[handler]
    async fn tell(&self, ctx: ObjectContext<'_>, message: Json<Message>) -> Result<(), HandlerError> {
        self.0.note(Doing::Receives);
        if let Err(error) = self.turn(&ctx, message.into_inner()).await? {
            tracing::error!(run = ctx.key(), %error, "a message to the run came to nothing");
        }
        Ok(())
    }

    /// Does what somebody wants.
    #[handler]
    async fn wish(&self, ctx: ObjectContext<'_>, wish: Json<Wish>) -> Result<Json<Reply<()>>, HandlerError> {
        Ok(Json(self.turn(&ctx, Message::Wish(wish.into_inner())).await?))
    }

    /// Says where the run stands.
    #[handler]
    async fn standing(&self, ctx: SharedObjectContext<'_>) -> Result<Json<Option<Row>>, HandlerError> {
        Ok(Json(ctx.get::<Json<Row>>(ROW).await?.map(Json::into_inner)))
    }
}

impl Run {
    async fn turn(&self, ctx: &ObjectContext<'_>, message: Message) -> Result<Reply<()>, HandlerError> {
        let Some(Json(head)) = ctx.get::<Json<Head>>(HEAD).await? else {
            return Ok(Err(EngineError::NotFound { message: format!("there is no run `{}`", ctx.key()) }));
        };
        let now = now(ctx, &self.0).await;
        let (mut life, records) = self.take_up(ctx.key(), head).await?;
        if let Err(error) = life.take(message, now) {
            return Ok(Err(error));
        }
        self.end(ctx, now, life.end(now), records);
        Ok(Ok(()))
    }

    async fn take_up(&self, id: &str, head: Head) -> Result<(Life, Vec<Vec<u8>>), HandlerError> {
        let known = self.0.plan(head.definition).await?;
        let records = self.0.records(id, &head).await?;
        Ok((Life::take_up(head, known.plan, &records, &self.0.limits)?, records))
    }

    /// Records a turn and sends what follows from it.
    fn end(&self, ctx: &ObjectContext<'_>, now: Timestamp, turned: Turned, before: Vec<Vec<u8>>) {
        let Turned { head, row, records, orders } = turned;
        if !records.is_empty() {
            let first = head.events - records.len() as u64;
            ctx.set(&format!("{RECORDS}{first:010}"), records.iter().collect::<Bundle>().bytes().to_vec());
        }
        self.0.remember(head.run, before, &records, row.finished_at.is_some());
        ctx.set(HEAD, Json(head));
        let id = ctx.key().to_owned();
        ctx.set(ROW, Json(row));
        for order in orders {
            if matches!(order, Order::Attempt(_) | Order::Admit { .. } | Order::Leave { .. }) {
                self.0.note(Doing::Sends);
            }
            match order {
                Order::Attempt(job) => {
                    ctx.request::<Json<Job>, ()>(RequestTarget::service(ATTEMPT, "carry_out"), Json(*job)).send();
                }
                Order::Stop(serials) => ctx.set(STOPS, Json(serials)),
                Order::Admit { service, policy, call } => {
                    let asked = ToService::Admit { policy, run: id.clone(), call };
                    let target = RequestTarget::object(SERVICE, service.to_string(), "tell");
                    ctx.request::<_, ()>(target, Json(asked)).send();
                }
                Order::Leave { service, policy, probe, health } => {
                    let target = RequestTarget::object(SERVICE, service.to_string(), "tell");
                    ctx.request::<_, ()>(target, Json(ToService::Leave { policy, probe, health })).send();
                }
                Order::Wake(at) => {
                    if let Some(onlooker) = &self.0.onlooker {
                        onlooker.alarm(&id, at);
                        continue;
                    }
                    let target = RequestTarget::object(RUN, id.clone(), "tell");
                    ctx.request::<_, ()>(target, Json(Message::Wake)).send_after(at.since(now));
                }
            }
        }
    }
}

/// Looks at the clock and at this worker, once for each new run.
async fn moment(hall: &Hall, workflow: &Workflow, run: Option<RunKey>) -> Result<Moment, EngineError> {
    let obstacle = hall.executor.obstacle(&workflow.plan);
    let refused = obstacle.map(|(_, message)| EngineError::Definition(message));
    let keep = !hall.has_definition(workflow.fingerprint).await?;
    let mut salt = [0; 32];
    salt[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    salt[16..].copy_from_slice(Uuid::new_v4().as_bytes());
    let run = run.unwrap_or_else(|| RunKey(Uuid::now_v7()));
    Ok(Moment { now: hall.executor.clock.now(), run, salt, keep, refused })
}

fn other_version(found: u32) -> EngineError {
    let message =
        format!("the workers of the cluster speak version {VERSION} of flowrun's language, this program {found}");
    EngineError::Conflict { message }
}

/// Writes a fingerprint as text.
pub(super) fn hex(fingerprint: &[u8; 32]) -> String {
    fingerprint.iter().map(|byte| format!("{byte:02x}")).collect()
}
