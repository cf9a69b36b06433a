//! What really happened outside, for those who ask afterwards.
//!
//! A ledger belongs to the handlers, not to flowrun's journal: it is the other side's own book, against which the
//! journal can be held.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::time::Timestamp;

/// Something that happened outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The order, or whatever else the handlers count by.
    pub order_id: String,
    /// What happened, e.g. `charged` or `refunded`.
    pub effect: String,
    /// The idempotency key of the call that did it.
    pub key: String,
    /// The money that moved, in minor units; absent where none did.
    pub amount: Option<i64>,
    /// When.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub at: Timestamp,
    /// Whatever else belongs to it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

/// The book of the services behind the handlers.
pub trait Ledger: Send + Sync {
    /// Returns what happened, oldest first: all of it, or what belongs to one order.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    fn entries(&self, order: Option<&str>) -> Result<Vec<LedgerEntry>, String>;
}

pub(crate) fn write_time<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

pub(crate) fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    Timestamp::parse(&text).map_err(serde::de::Error::custom)
}
