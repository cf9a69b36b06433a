//! The shipped order process: its handlers, and the simulated services behind them.
//!
//! Each service does one thing per idempotency key, gives the same answer to a repeated call, and refuses a call that
//! comes after it was undone. Nothing here is ever unavailable by itself, but for payments with a token that says so:
//! outages are injected by `--faults` and by scenarios.

mod inventory;
mod ledger;
mod money;
mod office;
mod payment;
mod shipping;
mod types;

#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::ledger::{Book, Caller, Fact, Known, Record, Services, read_entries};
#[cfg(test)]
use crate::handlers::LedgerEntry;
use crate::handlers::outcome::BAD_INPUT;
use crate::handlers::{Confirmation, Registry, StepCtx, StepError, World};

/// Returns the handlers of the order process, for a registry to be extended or used as it is.
#[must_use]
pub fn registry() -> Registry {
    registry_over(Services::open)
}

/// Returns the same handlers over services that have done what a ledger says.
#[cfg(test)]
pub(crate) fn registry_after(entries: impl Fn() -> Vec<LedgerEntry> + Send + Sync + 'static) -> Registry {
    registry_over(move |world| Services::having_done(world, &entries()))
}

fn registry_over(services: impl Fn(&World) -> Result<Services, String> + Send + Sync + 'static) -> Registry {
    Registry::new()
        .state_with(services)
        .ledger::<Services>()
        .ledger_reader(read_entries)
        .handler("order.validate", office::validate)
        .describe("Checks an order and turns its prices into minor units.")
        .permanent(["order.invalid"])
        .handler("inventory.check", inventory::check)
        .describe("Tells what of an order is in stock.")
        .retryable(["inventory.unavailable"])
        .permanent(["inventory.out_of_stock"])
        .handler("inventory.reserve", inventory::reserve)
        .describe("Sets stock aside for a while, for all lines of an order at once.")
        .effect("reserved")
        .keyed()
        .retryable(["inventory.unavailable"])
        .permanent(["inventory.out_of_stock", "inventory.refused"])
        .handler("inventory.release", inventory::release)
        .describe("Gives up what was set aside.")
        .undoes("reserved", "released")
        .keyed()
        .if_absent_ok()
        .blocks_late()
        .retryable(["inventory.unavailable"])
        .permanent(["inventory.hold_sold"])
        .handler("inventory.take", inventory::take)
        .describe("Turns what was set aside into a sale.")
        .effect("taken")
        .keyed()
        .retryable(["inventory.unavailable"])
        .permanent(["inventory.hold_expired", "inventory.refused"])
        .handler("inventory.put_back", inventory::put_back)
        .describe("Takes a sale back: the stock is set aside again.")
        .undoes("taken", "put_back")
        .keyed()
        .if_absent_ok()
        .blocks_late()
        .retryable(["inventory.unavailable"])
        .handler("catalog.alternatives", inventory::alternatives)
        .describe("Tells what is in stock in place of what is missing.")
        .retryable(["catalog.unavailable"])
        .handler("payment.charge", payment::charge)
        .describe("Takes money.")
        .effect("charged")
        .keyed()
        .retryable(["payment.unavailable"])
        .permanent(["payment.declined", "payment.refused"])
        .handler("payment.lookup", payment::lookup)
        .describe("Tells whether a charge was made.")
        .blocks_late()
        .retryable(["payment.unavailable"])
        .handler("payment.refund", payment::refund)
        .describe("Gives the money of a charge back.")
        .undoes("charged", "refunded")
        .keyed()
        .if_absent_ok()
        .blocks_late()
        .retryable(["payment.unavailable"])
        .handler("payment.queue", payment::queue)
        .describe("Queues a payment until the gateway is back; no money moves before its settlement.")
        .effect("payment_queued")
        .keyed()
        .permanent(["payment.refused"])
        .handler("payment.book", payment::book)
        .describe("Books a queued payment that was settled.")
        .effect("charged")
        .keyed()
        .retryable(["payment.unavailable"])
        .permanent(["payment.refused"])
        .handler("payment.withdraw", payment::withdraw)
        .describe("Takes a payment from the queue, refunds it if it was settled, and refuses a later settlement.")
        .undoes("payment_queued", "withdrawn")
        .keyed()
        .if_absent_ok()
        .blocks_late()
        .retryable(["payment.unavailable"])
        .handler("shipping.label", shipping::label)
        .describe("Has the carrier print a label.")
        .effect("labelled")
        .keyed()
        .retryable(["shipping.unavailable"])
        .permanent(["shipping.refused"])
        .handler("shipping.lookup", shipping::lookup)
        .describe("Tells whether a label was printed.")
        .blocks_late()
        .retryable(["shipping.unavailable"])
        .handler("shipping.void", shipping::void)
        .describe("Voids a label.")
        .undoes("labelled", "voided")
        .keyed()
        .if_absent_ok()
        .blocks_late()
        .retryable(["shipping.unavailable"])
        .handler("shipping.manual_task", shipping::manual_task)
        .describe("Asks a person to ship.")
        .effect("handed_over")
        .keyed()
        .permanent(["shipping.refused"])
        .handler("shipping.close_task", shipping::close_task)
        .describe("Tells the person not to.")
        .undoes("handed_over", "closed")
        .keyed()
        .if_absent_ok()
        .blocks_late()
        .handler("mail.send", office::send)
        .describe("Sends a mail.")
        .effect("mailed")
        .keyed()
        .retryable(["mail.unavailable"])
        .permanent(["mail.refused"])
        .handler("mail.enqueue", office::enqueue)
        .describe("Queues a mail for later.")
        .effect("mail_queued")
        .keyed()
        .permanent(["mail.refused"])
        .handler("audit.record", office::record)
        .describe("Notes how a run ended.")
        .effect("audited")
        .keyed()
        .retryable(["audit.unavailable"])
}

/// The call that is to be undone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Undo {
    /// The order.
    order_id: String,
    /// The idempotency key of the call: `{{ key }}`.
    key: String,
}

/// The end of an undo.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Undone {
    /// Whether there was anything to undo.
    undone: bool,
}

/// The call that is asked about.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Ask {
    /// The order.
    order_id: String,
    /// The idempotency key of the call: `{{ key }}`.
    key: String,
}

/// Undoes what was done with a key; if nothing was, sees to it that nothing will be.
///
/// `fact` tells what undoes a record and how much money that moves; nothing for a record of another service.
fn undo(
    ctx: &StepCtx,
    services: &Services,
    input: &Undo,
    fact: impl FnOnce(&Book, &Record) -> Result<Option<(Option<i64>, Fact)>, StepError>,
) -> Result<Undone, StepError> {
    let caller = Caller { order_id: &input.order_id, key: &ctx.key, now: ctx.now() };
    services.act(|book| undo_in(book, &caller, &input.key, fact))
}

/// The decision of [`undo`], for those who decide more in the same piece.
fn undo_in(
    book: &Book,
    caller: &Caller<'_>,
    key: &str,
    fact: impl FnOnce(&Book, &Record) -> Result<Option<(Option<i64>, Fact)>, StepError>,
) -> Result<(Vec<Record>, Undone), StepError> {
    match book.known(key) {
        Known::Done(record) => {
            let (amount, fact) = fact(book, record)?.ok_or_else(|| other_use(record))?;
            Ok((vec![Record { amount, ..caller.did(fact) }], Undone { undone: true }))
        }
        Known::Undone => Ok((Vec::new(), Undone { undone: true })),
        Known::Nothing => Ok((vec![caller.did(Fact::Blocked { of: key.to_owned() })], Undone { undone: false })),
        Known::Blocked => Ok((Vec::new(), Undone { undone: false })),
    }
}

/// Tells whether a call was done; if not, sees to it that it will not be.
fn look_up<T>(
    ctx: &StepCtx,
    services: &Services,
    input: &Ask,
    read: impl FnOnce(&Record) -> Option<T>,
) -> Result<Confirmation<T>, StepError> {
    let caller = Caller { order_id: &input.order_id, key: &ctx.key, now: ctx.now() };
    services.act(|book| match book.known(&input.key) {
        Known::Done(record) => {
            let found = read(record).ok_or_else(|| other_use(record))?;
            Ok((Vec::new(), Confirmation::Done(found)))
        }
        Known::Undone | Known::Blocked => Ok((Vec::new(), Confirmation::NotDone)),
        Known::Nothing => Ok((vec![caller.did(Fact::Blocked { of: input.key.clone() })], Confirmation::NotDone)),
    })
}

/// The answer to a call that comes after its own undo.
fn late(code: &str, what: &str) -> StepError {
    StepError::permanent(code, format!("the {what} comes too late: a call with this key was undone or given up"))
}

/// The answer to a call whose key was used for something else: a mistake of the caller.
fn other_use(record: &Record) -> StepError {
    StepError::permanent(
        BAD_INPUT,
        format!("the key of this call was used for something else, for order {}", record.order_id),
    )
}
