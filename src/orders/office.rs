//! The small services around an order: checking it, telling the customer, noting how it ended.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::ledger::{Caller, Fact, Known, Services, id};
use super::money::Display;
use super::types::{Line, Order, total};
use crate::handlers::{State, StepCtx, StepError};

/// An order to be checked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Validate {
    /// The order as the customer sent it.
    order: Order,
}

/// An order that can be worked on: money in minor units.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Validated {
    /// The order's number.
    pub order_id: String,
    /// The customer's number.
    pub customer_id: String,
    /// What is ordered.
    pub items: Vec<Line>,
    /// The price of everything that is ordered, in minor units.
    pub total: i64,
    /// The same for people: `109.97`.
    pub display_total: String,
}

pub(super) async fn validate(_: StepCtx, Validate { order }: Validate) -> Result<Validated, StepError> {
    let mut problems = Vec::new();
    let mut seen = HashSet::new();
    let mut items = Vec::new();
    if order.order_id.trim().is_empty() {
        problems.push("the order has no number".to_owned());
    }
    if order.items.is_empty() {
        problems.push("nothing is ordered".to_owned());
    }
    for (number, item) in order.items.iter().enumerate() {
        let product = &item.product_id;
        if !seen.insert(product) {
            problems.push(format!("items[{number}]: {product} is ordered twice; add the quantities up"));
        }
        if item.quantity < 1 {
            problems.push(format!("items[{number}]: the quantity of {product} is {}", item.quantity));
        }
        match item.price.minor_units() {
            Ok(unit_price) => {
                items.push(Line { product_id: product.clone(), quantity: item.quantity, unit_price });
            }
            Err(why) => problems.push(format!("items[{number}]: the price of {product}: {why}")),
        }
    }
    let total = if problems.is_empty() { total(&items) } else { Some(0) };
    if total.is_none() {
        problems.push("the total is too large".to_owned());
    }
    match total {
        Some(total) if problems.is_empty() => Ok(Validated {
            order_id: order.order_id,
            customer_id: order.customer_id,
            items,
            total,
            display_total: Display(total).to_string(),
        }),
        _ => Err(StepError::permanent("order.invalid", problems.join("; ")).details(json!({ "problems": problems }))),
    }
}

/// A mail.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// The order it is about.
    order_id: String,
    /// The address.
    to: String,
    /// Which text.
    template: String,
    /// What is filled into the text.
    #[serde(default)]
    #[allow(dead_code, reason = "a simulated mail is not read")]
    data: Map<String, Value>,
}

/// A mail that went out or waits to.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Sent {
    /// The mail's number.
    message_id: String,
    /// Whether it only waits to go out.
    queued: bool,
}

fn post(ctx: &StepCtx, services: &Services, input: &Mail, queued: bool) -> Result<Sent, StepError> {
    let caller = Caller { order_id: &input.order_id, key: &ctx.key, now: ctx.now() };
    let answer = Sent { message_id: id("MAIL", caller.key), queued };
    let (to, template) = (input.to.clone(), input.template.clone());
    let fact = if queued { Fact::MailQueued { to, template } } else { Fact::Mailed { to, template } };
    services.act(|book| match book.known(caller.key) {
        Known::Done(record) if record.fact == fact => Ok((Vec::new(), answer)),
        Known::Done(record) => Err(super::other_use(record)),
        Known::Undone | Known::Blocked => Err(super::late("mail.refused", "mail")),
        Known::Nothing if !input.to.contains('@') => {
            Err(StepError::permanent("mail.refused", format!("`{}` is not an e-mail address", input.to)))
        }
        Known::Nothing => Ok((vec![caller.did(fact)], answer)),
    })
}

pub(super) fn send(ctx: StepCtx, State(services): State<Services>, input: Mail) -> Result<Sent, StepError> {
    post(&ctx, &services, &input, false)
}

pub(super) fn enqueue(ctx: StepCtx, State(services): State<Services>, input: Mail) -> Result<Sent, StepError> {
    post(&ctx, &services, &input, true)
}

/// The end of a run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// The order.
    order_id: String,
    /// How the run ended.
    status: String,
    /// What became of its undos.
    #[serde(default)]
    compensation: Option<String>,
    /// Why it failed.
    #[serde(default)]
    error: Option<Value>,
}

/// The receipt for a note in the audit trail.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Audited {
    /// The note's number.
    audit_id: String,
}

pub(super) fn record(ctx: StepCtx, State(services): State<Services>, input: Audit) -> Result<Audited, StepError> {
    let caller = Caller { order_id: &input.order_id, key: &ctx.key, now: ctx.now() };
    let answer = Audited { audit_id: id("AUDIT", caller.key) };
    services.act(|book| match book.known(caller.key) {
        Known::Nothing => {
            let Audit { status, compensation, error, .. } = &input;
            let (status, compensation, error) = (status.clone(), compensation.clone(), error.clone());
            Ok((vec![caller.did(Fact::Audited { status, compensation, error })], answer))
        }
        Known::Done(_) | Known::Undone | Known::Blocked => Ok((Vec::new(), answer)),
    })
}
