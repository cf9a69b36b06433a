//! The simulated payment gateway: one charge per key, remembered after its refund.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ledger::{Book, Caller, Fact, Known, Record, Services, id};
use super::types::PaymentMethod;
use super::{Ask, Undo, Undone, undo, undo_in};
use crate::handlers::{Confirmation, State, StepCtx, StepError};

/// A wish to have money.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Charge {
    /// The order.
    order_id: String,
    /// How it is paid.
    method: PaymentMethod,
    /// How much, in minor units.
    #[schemars(range(min = 1))]
    amount: i64,
}

/// A payment. All ways to pay answer with one shape, so that what follows need not ask which it was.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Payment {
    /// The payment's number; of a queued payment, its number until it is settled.
    payment_id: String,
    /// How much, in minor units.
    amount: i64,
    /// Whether the money moved or is still to come.
    status: PaymentStatus,
}

/// How far a payment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// The money moved.
    Charged,
    /// It waits for its settlement.
    Queued,
}

/// Reads a record as the charge it is; nothing if it is something else.
fn charged(record: &Record) -> Option<Payment> {
    match (&record.fact, record.amount) {
        (Fact::Charged { payment_id, .. }, Some(amount)) => {
            Some(Payment { payment_id: payment_id.clone(), amount, status: PaymentStatus::Charged })
        }
        _ => None,
    }
}

/// What the token says of the method, so that both ends can be tried by hand.
fn answer(method: &PaymentMethod) -> Result<(), StepError> {
    let token = method.token.as_deref().unwrap_or_default();
    if token.contains("declined") {
        Err(StepError::permanent("payment.declined", format!("the {} was declined", method.kind)))
    } else if token.contains("unavailable") {
        Err(StepError::retryable("payment.unavailable", "the payment gateway cannot be reached"))
    } else {
        Ok(())
    }
}

pub(super) fn charge(ctx: StepCtx, State(services): State<Services>, input: Charge) -> Result<Payment, StepError> {
    let caller = Caller { order_id: &input.order_id, key: &ctx.key, now: ctx.now() };
    services.act(|book| {
        match book.known(caller.key) {
            Known::Done(record) => {
                let same = charged(record).filter(|c| c.amount == input.amount);
                return same.map(|c| (Vec::new(), c)).ok_or_else(|| super::other_use(record));
            }
            Known::Undone | Known::Blocked => return Err(super::late("payment.refused", "charge")),
            Known::Nothing => {}
        }
        answer(&input.method)?;
        if input.amount < 1 {
            return Err(StepError::permanent("payment.refused", format!("{} cannot be charged", input.amount)));
        }
        let payment_id = id("PAY", caller.key);
        let fact = Fact::Charged { payment_id: payment_id.clone(), method: input.method.kind.clone(), queue_id: None };
        let answer = Payment { payment_id, amount: input.amount, status: PaymentStatus::Charged };
        Ok((vec![caller.moved(input.amount, fact)], answer))
    })
}

pub(super) fn lookup(
    ctx: StepCtx,
    State(services): State<Services>,
    input: Ask,
) -> Result<Confirmation<Payment>, StepError> {
    super::look_up(&ctx, &services, &input, charged)
}

pub(super) fn refund(ctx: StepCtx, State(services): State<Services>, input: Undo) -> Result<Undone, StepError> {
    undo(&ctx, &services, &input, |_, record| {
        Ok(charged(record)
            .map(|c| (Some(c.amount), Fact::Refunded { of: input.key.clone(), payment_id: c.payment_id })))
    })
}

pub(super) fn queue(ctx: StepCtx, State(services): State<Services>, input: Charge) -> Result<Payment, StepError> {
    let caller = Caller { order_id: &input.order_id, key: &ctx.key, now: ctx.now() };
    services.act(|book| {
        let queue_id = id("QUEUE", caller.key);
        let answer = Payment { payment_id: queue_id.clone(), amount: input.amount, status: PaymentStatus::Queued };
        match book.known(caller.key) {
            Known::Done(Record { fact: Fact::PaymentQueued { due, .. }, .. }) if *due == input.amount => {
                Ok((Vec::new(), answer))
            }
            Known::Done(record) => Err(super::other_use(record)),
            Known::Undone | Known::Blocked => Err(super::late("payment.refused", "queued payment")),
            Known::Nothing => Ok((vec![caller.did(Fact::PaymentQueued { queue_id, due: input.amount })], answer)),
        }
    })
}

/// The news that a queued payment was settled.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// The order.
    order_id: String,
    /// The number the payment had in the queue.
    queue_id: String,
    /// The number under which it was settled.
    payment_id: String,
}

/// Books a queued payment as charged, unless it was withdrawn or booked before.
pub(super) fn book(ctx: StepCtx, State(services): State<Services>, input: Settle) -> Result<Payment, StepError> {
    let caller = Caller { order_id: &input.order_id, key: &ctx.key, now: ctx.now() };
    let refused =
        |why: &str| StepError::permanent("payment.refused", format!("the queued payment {} {why}", input.queue_id));
    services.act(|book| {
        match book.known(caller.key) {
            Known::Done(record) => {
                let same = charged(record).filter(|c| c.payment_id == input.payment_id);
                return same.map(|c| (Vec::new(), c)).ok_or_else(|| super::other_use(record));
            }
            Known::Undone | Known::Blocked => return Err(super::late("payment.refused", "settlement")),
            Known::Nothing => {}
        }
        let mut due = None;
        for record in book.of_order(caller.order_id) {
            match &record.fact {
                Fact::PaymentQueued { queue_id, due: amount } if *queue_id == input.queue_id => {
                    if matches!(book.known(&record.key), Known::Undone) {
                        return Err(refused("was withdrawn"));
                    }
                    due = Some(*amount);
                }
                Fact::Charged { queue_id: Some(queue_id), .. } if *queue_id == input.queue_id => {
                    return Err(refused("was settled before"));
                }
                _ => {}
            }
        }
        let amount = due.ok_or_else(|| refused("does not exist"))?;
        let fact = Fact::Charged {
            payment_id: input.payment_id.clone(),
            method: "queue".into(),
            queue_id: Some(input.queue_id.clone()),
        };
        let answer = Payment { payment_id: input.payment_id.clone(), amount, status: PaymentStatus::Charged };
        Ok((vec![caller.moved(amount, fact)], answer))
    })
}

/// Takes a payment from the queue. Money that its settlement brought is not left behind, should the settlement's own
/// refund have failed for good; both in one piece, so that no settlement gets in between.
pub(super) fn withdraw(ctx: StepCtx, State(services): State<Services>, input: Undo) -> Result<Undone, StepError> {
    let caller = Caller { order_id: &input.order_id, key: &ctx.key, now: ctx.now() };
    services.act(|book| {
        let mut records = match book.known(&input.key) {
            Known::Done(Record { fact: Fact::PaymentQueued { queue_id, .. }, .. }) => settled(book, &caller, queue_id),
            _ => Vec::new(),
        };
        let (withdrawn, answer) = undo_in(book, &caller, &input.key, |_, record| {
            let queued = matches!(record.fact, Fact::PaymentQueued { .. });
            Ok(queued.then(|| (None, Fact::Withdrawn { of: input.key.clone() })))
        })?;
        records.extend(withdrawn);
        Ok((records, answer))
    })
}

/// Returns the refunds of what was charged for a payment in the queue.
fn settled(book: &Book, caller: &Caller<'_>, mine: &str) -> Vec<Record> {
    let charges = book.of_order(caller.order_id).filter(|record| {
        matches!(&record.fact, Fact::Charged { queue_id: Some(queue_id), .. } if queue_id == mine)
            && matches!(book.known(&record.key), Known::Done(_))
    });
    let refunds = charges.filter_map(|record| {
        let Payment { payment_id, amount, .. } = charged(record)?;
        Some(caller.moved(amount, Fact::Refunded { of: record.key.clone(), payment_id }))
    });
    refunds.collect()
}
