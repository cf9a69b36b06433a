//! The simulated carrier, and the people who ship when it is down.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ledger::{Caller, Fact, Known, Record, Services, id};
use super::types::{Address, Line};
use super::{Ask, Undo, Undone, undo};
use crate::handlers::{Confirmation, State, StepCtx, StepError};

/// A parcel.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parcel {
    /// The order.
    order_id: String,
    /// Where it goes.
    #[allow(dead_code, reason = "a simulated carrier drives nowhere")]
    address: Address,
    /// What is in it.
    items: Vec<Line>,
}

/// A parcel on its way.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Shipment {
    /// The tracking number.
    tracking: String,
    /// Who ships: `carrier` or `manual`.
    carrier: String,
}

fn labelled(record: &Record) -> Option<Shipment> {
    match &record.fact {
        Fact::Labelled { tracking } => Some(Shipment { tracking: tracking.clone(), carrier: "carrier".into() }),
        _ => None,
    }
}

fn handed_over(record: &Record) -> Option<Shipment> {
    match &record.fact {
        Fact::HandedOver { tracking } => Some(Shipment { tracking: tracking.clone(), carrier: "manual".into() }),
        _ => None,
    }
}

fn ship(
    ctx: &StepCtx,
    services: &Services,
    input: &Parcel,
    read: fn(&Record) -> Option<Shipment>,
    fact: Fact,
) -> Result<Shipment, StepError> {
    let caller = Caller { order_id: &input.order_id, key: &ctx.key, now: ctx.now() };
    services.act(|book| match book.known(caller.key) {
        Known::Done(record) => read(record).map(|s| (Vec::new(), s)).ok_or_else(|| super::other_use(record)),
        Known::Undone | Known::Blocked => Err(super::late("shipping.refused", "parcel")),
        Known::Nothing if input.items.is_empty() => {
            Err(StepError::permanent("shipping.refused", "there is nothing in the parcel"))
        }
        Known::Nothing => {
            let record = caller.did(fact);
            let shipment = read(&record).ok_or_else(|| super::other_use(&record))?;
            Ok((vec![record], shipment))
        }
    })
}

pub(super) fn label(ctx: StepCtx, State(services): State<Services>, input: Parcel) -> Result<Shipment, StepError> {
    let fact = Fact::Labelled { tracking: id("TRK", &ctx.key) };
    ship(&ctx, &services, &input, labelled, fact)
}

pub(super) fn lookup(
    ctx: StepCtx,
    State(services): State<Services>,
    input: Ask,
) -> Result<Confirmation<Shipment>, StepError> {
    super::look_up(&ctx, &services, &input, labelled)
}

pub(super) fn void(ctx: StepCtx, State(services): State<Services>, input: Undo) -> Result<Undone, StepError> {
    undo(&ctx, &services, &input, |_, record| {
        Ok(labelled(record).map(|_| (None, Fact::Voided { of: input.key.clone() })))
    })
}

pub(super) fn manual_task(
    ctx: StepCtx,
    State(services): State<Services>,
    input: Parcel,
) -> Result<Shipment, StepError> {
    let fact = Fact::HandedOver { tracking: format!("MANUAL-{}", input.order_id) };
    ship(&ctx, &services, &input, handed_over, fact)
}

pub(super) fn close_task(ctx: StepCtx, State(services): State<Services>, input: Undo) -> Result<Undone, StepError> {
    undo(&ctx, &services, &input, |_, record| {
        Ok(handed_over(record).map(|_| (None, Fact::Closed { of: input.key.clone() })))
    })
}
