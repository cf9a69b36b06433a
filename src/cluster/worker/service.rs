//! An outside system as a virtual object: all runs of the cluster share its breaker and its places (SPEC 6.14).

use std::sync::Arc;

use restate_sdk::context::RequestTarget;
use restate_sdk::prelude::*;

use super::hall::{Doing, Hall, now};
use crate::cluster::message::{Message, RUN, ToService};
use crate::engine::services::Places;
use crate::machine::state::CallIx;

/// The state's key for the breaker and the places.
const PLACES: &str = "places";

/// The virtual object `flowrun.Service`.
pub(super) struct Services(pub(super) Arc<Hall>);

#[restate_sdk::object(name = "flowrun.Service")]
impl Services {
    /// Takes a message of a run. Answers are messages to runs.
    #[handler]
    async fn tell(&self, ctx: ObjectContext<'_>, message: Json<ToService>) -> Result<(), HandlerError> {
        self.0.note(Doing::Receives);
        let now = now(&ctx, &self.0).await;
        let places = ctx.get::<Json<Places<(String, CallIx)>>>(PLACES).await?;
        let mut places = places.map(Json::into_inner).unwrap_or_default();
        let answer = |(run, call): (String, CallIx), answer| {
            let target = RequestTarget::object(RUN, run, "tell");
            self.0.note(Doing::Sends);
            ctx.request::<_, ()>(target, Json(Message::Admission { call, answer })).send();
        };
        match message.into_inner() {
            ToService::Admit { policy, run, call } => {
                let who = (run, call);
                if let Some(answered) = places.admit(&policy, who.clone(), now) {
                    answer(who, answered);
                }
            }
            ToService::Leave { policy, probe, health } => {
                places.leave(&policy, probe, health, now);
                while let Some((who, answered)) = places.next(now) {
                    answer(who, answered);
                }
            }
        }
        ctx.set(PLACES, Json(places));
        Ok(())
    }
}
