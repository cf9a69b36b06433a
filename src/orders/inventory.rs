//! The simulated warehouse: holds on stock that become sales, and catalogue advice.
//!
//! A hold is one decision over all lines of an order: nothing stays set aside for an order that was turned away.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ledger::{Book, Caller, Fact, Known, Record, Services, id};
use super::money::Display;
use super::types::{Line, Short, Time, total};
use super::{Undo, Undone, undo};
use crate::handlers::{Duration, State, StepCtx, StepError};
use crate::time::Timestamp;

/// What the warehouse starts with.
const STOCK: [(&str, i64); 4] = [("PROD-A1", 50), ("PROD-B2", 25), ("PROD-C3", 0), ("PROD-D4", 100)];

/// What may be offered in place of a product.
const ALTERNATIVES: [(&str, &[&str]); 4] = [
    ("PROD-A1", &["PROD-D4", "PROD-B2"]),
    ("PROD-B2", &["PROD-D4"]),
    ("PROD-C3", &["PROD-A1", "PROD-D4"]),
    ("PROD-D4", &["PROD-A1"]),
];

/// What is left of the stock: the fold of holds and sales.
#[derive(Clone, Debug, Default)]
pub struct Stock {
    /// What is neither sold nor on hold.
    free: BTreeMap<String, i64>,
    holds: HashMap<String, Hold>,
    /// Which hold was made, or sold, by the call with a key.
    by_key: HashMap<String, String>,
    /// Running holds by their end.
    ends: BTreeSet<(Timestamp, String)>,
}

#[derive(Clone, Debug)]
struct Hold {
    lines: Vec<Line>,
    expires_at: Timestamp,
    status: HoldStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HoldStatus {
    Held,
    Sold,
    Over,
}

impl Stock {
    /// Returns the warehouse's stock with the products of `overrides` counted anew.
    ///
    /// # Errors
    /// When `overrides` is not a map from products to counts.
    pub fn starting_with(overrides: Option<&Value>) -> Result<Self, String> {
        let mut free: BTreeMap<String, i64> = STOCK.map(|(product, count)| (product.to_owned(), count)).into();
        if let Some(overrides) = overrides {
            let counts: BTreeMap<String, u32> = Deserialize::deserialize(overrides)
                .map_err(|e| format!("`stock` maps products to how many there are, `PROD-A1: 50`: {e}"))?;
            free.extend(counts.into_iter().map(|(product, count)| (product, i64::from(count))));
        }
        Ok(Self { free, ..Self::default() })
    }

    /// Frees what holds that have ended kept; must be called before anything is decided at `now`.
    fn pass_time(&mut self, now: Timestamp) {
        while let Some((end, hold_id)) = self.ends.first().cloned() {
            if end > now {
                return;
            }
            self.end(&hold_id);
        }
    }

    /// Ends a running hold: its pieces are free again.
    fn end(&mut self, hold_id: &str) {
        let Some(hold) = self.holds.get_mut(hold_id) else { return };
        if hold.status == HoldStatus::Held {
            hold.status = HoldStatus::Over;
            self.ends.remove(&(hold.expires_at, hold_id.to_owned()));
            for line in &hold.lines {
                *self.free.entry(line.product_id.clone()).or_default() += line.quantity;
            }
        }
    }

    pub(super) fn apply(&mut self, record: &Record) {
        // Time passes in the fold as it did when the record was made, so that a restart knows what had ended.
        self.pass_time(record.at);
        match &record.fact {
            Fact::Reserved { hold_id, items, expires_at, .. } => {
                for line in items {
                    *self.free.entry(line.product_id.clone()).or_default() -= line.quantity;
                }
                let hold = Hold { lines: items.clone(), expires_at: expires_at.0, status: HoldStatus::Held };
                self.ends.insert((expires_at.0, hold_id.clone()));
                self.holds.insert(hold_id.clone(), hold);
                self.by_key.insert(record.key.clone(), hold_id.clone());
            }
            Fact::Taken { hold_id } => {
                self.by_key.insert(record.key.clone(), hold_id.clone());
                if let Some(hold) = self.holds.get_mut(hold_id) {
                    hold.status = HoldStatus::Sold;
                    self.ends.remove(&(hold.expires_at, hold_id.clone()));
                }
            }
            Fact::PutBack { of } => {
                let Some(hold_id) = self.by_key.get(of).cloned() else { return };
                if let Some(hold) = self.holds.get_mut(&hold_id) {
                    hold.status = HoldStatus::Held;
                    self.ends.insert((hold.expires_at, hold_id));
                }
                self.pass_time(record.at);
            }
            Fact::Released { of } => {
                if let Some(hold_id) = self.by_key.get(of).cloned() {
                    self.end(&hold_id);
                }
            }
            _ => {}
        }
    }

    /// Returns how many pieces of a product are free.
    #[must_use]
    pub fn free(&self, product_id: &str) -> i64 {
        self.free.get(product_id).copied().unwrap_or(0)
    }

    /// Splits an order into what can be had and what cannot.
    fn split(&self, items: &[Line]) -> (Vec<Line>, Vec<Short>) {
        let mut left = self.free.clone();
        let (mut had, mut short) = (Vec::new(), Vec::new());
        for item in items {
            let free = left.entry(item.product_id.clone()).or_default();
            let quantity = item.quantity.min(*free).max(0);
            *free -= quantity;
            if quantity > 0 {
                had.push(Line { quantity, ..item.clone() });
            }
            if quantity < item.quantity {
                let missing = item.quantity - quantity;
                short.push(Short { product_id: item.product_id.clone(), ordered: item.quantity, missing });
            }
        }
        (had, short)
    }
}

fn enough(had: &[Line], short: &[Short], allow_partial: bool) -> Result<(), StepError> {
    let message = if had.is_empty() {
        "nothing of the order is in stock"
    } else if !short.is_empty() && !allow_partial {
        "the order is not completely in stock, and partial orders are not allowed"
    } else {
        return Ok(());
    };
    let names: Vec<&str> = short.iter().map(|s| &*s.product_id).collect();
    Err(StepError::permanent("inventory.out_of_stock", format!("{message}: {}", names.join(", ")))
        .details(json!({ "short": short })))
}

/// A question about stock.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What is ordered.
    items: Vec<Line>,
    /// Whether an order may go out with less than was ordered.
    allow_partial: bool,
}

/// What is in stock.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Available {
    /// What can be had.
    items: Vec<Line>,
    /// What cannot.
    short: Vec<Short>,
}

pub(super) fn check(ctx: StepCtx, State(services): State<Services>, input: Check) -> Result<Available, StepError> {
    services.act(|book| {
        book.stock.pass_time(ctx.now());
        let (items, short) = book.stock.split(&input.items);
        enough(&items, &short, input.allow_partial)?;
        Ok((Vec::new(), Available { items, short }))
    })
}

/// A wish to have stock set aside.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// The order.
    order_id: String,
    /// What is ordered.
    items: Vec<Line>,
    /// Whether an order may go out with less than was ordered.
    allow_partial: bool,
    /// How long the stock is kept.
    hold: Duration,
}

/// Stock that is set aside.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Reservation {
    /// The hold's number.
    pub hold_id: String,
    /// Until when it is kept.
    pub expires_at: Time,
    /// What is set aside.
    pub items: Vec<Line>,
    /// What of the order is not.
    pub short: Vec<Short>,
    /// The price of what is set aside, in minor units: what is to be charged.
    pub total: i64,
    /// The same for people: `109.97`.
    pub display_total: String,
}

impl Reservation {
    fn of(record: &Record) -> Result<Self, StepError> {
        let Fact::Reserved { hold_id, items, short, expires_at } = &record.fact else {
            return Err(super::other_use(record));
        };
        let total = total(items).ok_or_else(|| StepError::permanent("order.invalid", "the total is too large"))?;
        Ok(Self {
            hold_id: hold_id.clone(),
            expires_at: *expires_at,
            items: items.clone(),
            short: short.clone(),
            total,
            display_total: Display(total).to_string(),
        })
    }
}

pub(super) fn reserve(
    ctx: StepCtx,
    State(services): State<Services>,
    input: Reserve,
) -> Result<Reservation, StepError> {
    let caller = Caller { order_id: &input.order_id, key: &ctx.key, now: ctx.now() };
    services.act(|book| {
        match book.known(caller.key) {
            Known::Done(record) => return Ok((Vec::new(), Reservation::of(record)?)),
            Known::Undone | Known::Blocked => return Err(super::late("inventory.refused", "reservation")),
            Known::Nothing => {}
        }
        book.stock.pass_time(caller.now);
        let (items, short) = book.stock.split(&input.items);
        enough(&items, &short, input.allow_partial)?;
        let expires_at = Time(caller.now.after(input.hold.0));
        let record = caller.did(Fact::Reserved { hold_id: id("HOLD", caller.key), items, short, expires_at });
        let answer = Reservation::of(&record)?;
        Ok((vec![record], answer))
    })
}

pub(super) fn release(ctx: StepCtx, State(services): State<Services>, input: Undo) -> Result<Undone, StepError> {
    undo(&ctx, &services, &input, |book, record| {
        let sold = book.stock.by_key.get(&record.key).and_then(|hold_id| book.stock.holds.get(hold_id));
        if sold.is_some_and(|hold| hold.status == HoldStatus::Sold) {
            let message = "the reserved pieces are sold; the sale has to be taken back first";
            return Err(StepError::permanent("inventory.hold_sold", message));
        }
        let reserved = matches!(record.fact, Fact::Reserved { .. });
        Ok(reserved.then(|| (None, Fact::Released { of: input.key.clone() })))
    })
}

/// A wish to turn a hold into a sale.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Take {
    /// The order.
    order_id: String,
    /// The hold's number.
    hold_id: String,
}

/// Stock that is sold.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Taken {
    /// The number of the hold that was turned into a sale.
    hold_id: String,
}

pub(super) fn take(ctx: StepCtx, State(services): State<Services>, input: Take) -> Result<Taken, StepError> {
    let caller = Caller { order_id: &input.order_id, key: &ctx.key, now: ctx.now() };
    services.act(|book| {
        let answer = Taken { hold_id: input.hold_id.clone() };
        match book.known(caller.key) {
            Known::Done(record) if matches!(&record.fact, Fact::Taken { hold_id } if *hold_id == input.hold_id) => {
                return Ok((Vec::new(), answer));
            }
            Known::Done(record) => return Err(super::other_use(record)),
            Known::Undone | Known::Blocked => return Err(super::late("inventory.refused", "sale")),
            Known::Nothing => {}
        }
        book.stock.pass_time(caller.now);
        let refused = match book.stock.holds.get(&input.hold_id) {
            Some(Hold { status: HoldStatus::Held, .. }) => None,
            Some(Hold { status: HoldStatus::Over, expires_at, .. }) => {
                Some(format!("ended, at the latest at {expires_at}"))
            }
            Some(Hold { status: HoldStatus::Sold, .. }) => Some("was sold already".into()),
            None => Some("does not exist".into()),
        };
        if let Some(why) = refused {
            let message = format!("the reservation {} {why}", input.hold_id);
            return Err(StepError::permanent("inventory.hold_expired", message));
        }
        Ok((vec![caller.did(Fact::Taken { hold_id: input.hold_id.clone() })], answer))
    })
}

pub(super) fn put_back(ctx: StepCtx, State(services): State<Services>, input: Undo) -> Result<Undone, StepError> {
    undo(&ctx, &services, &input, |_, record| {
        let taken = matches!(record.fact, Fact::Taken { .. });
        Ok(taken.then(|| (None, Fact::PutBack { of: input.key.clone() })))
    })
}

/// A question for what may be offered in place of what is missing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    /// What is missing.
    items: Vec<Short>,
}

/// What may be offered.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Alternatives {
    /// For each missing product, what is in stock in its place.
    items: Vec<Alternative>,
}

/// What may be offered in place of one product.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Alternative {
    /// The missing product.
    product_id: String,
    /// Products that are in stock, the nearest first.
    alternatives: Vec<String>,
}

pub(super) fn alternatives(
    ctx: StepCtx,
    State(services): State<Services>,
    input: Missing,
) -> Result<Alternatives, StepError> {
    services.act(|book: &mut Book| {
        book.stock.pass_time(ctx.now());
        let items = input.items.iter().map(|missing| {
            let known = ALTERNATIVES.iter().find(|(product, _)| *product == missing.product_id);
            let offers = known.into_iter().flat_map(|(_, offers)| offers.iter());
            let in_stock = offers.filter(|offer| book.stock.free(offer) > 0).map(|offer| (*offer).to_owned());
            Alternative { product_id: missing.product_id.clone(), alternatives: in_stock.collect() }
        });
        let items = items.collect();
        Ok((Vec::new(), Alternatives { items }))
    })
}
