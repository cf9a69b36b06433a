//! What an order looks like: as the customer sends it, and as the steps hand it on.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use super::money;
use crate::handlers::ledger::{read_time, write_time};
use crate::time::Timestamp;

/// An order as the customer sends it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "some fields are only checked here; the workflow hands them on from its input")]
pub struct Order {
    /// The order's number: letters, digits, `.`, `_` and `-`.
    #[schemars(regex(pattern = "^[A-Za-z0-9._-]{1,64}$"), extend("examples" = ["ORD-1001"]))]
    pub order_id: String,
    /// The customer's number.
    #[schemars(length(min = 1), extend("examples" = ["CUST-7"]))]
    pub customer_id: String,
    /// What is ordered; each product at most once.
    #[schemars(length(min = 1, max = 1000))]
    pub items: Vec<Item>,
    /// Where it goes.
    pub shipping_address: Address,
    /// How it is paid.
    pub payment_method: PaymentMethod,
    /// How it is paid if the first method is declined or cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PaymentMethod")]
    pub alternative_payment: Option<PaymentMethod>,
    /// Whom to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Contact")]
    pub contact: Option<Contact>,
}

/// A line of an order.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Item {
    /// The product's number.
    #[schemars(length(min = 1), extend("examples" = ["PROD-A1"]))]
    pub product_id: String,
    /// How many.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub quantity: i64,
    /// The price of one: a decimal with at most two places.
    pub price: Price,
}

/// A price as it was written.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Price(pub Number);

impl Price {
    /// Returns the price in minor units.
    ///
    /// # Errors
    /// When it is not above zero, too large, or needs more than two decimal places.
    pub fn minor_units(&self) -> Result<i64, String> {
        match money::minor_units(&self.0.to_string())? {
            0 => Err("there is no price of 0".into()),
            minor if minor > money::MAX_PRICE => Err(format!("{} is too large", self.0)),
            minor => Ok(minor),
        }
    }
}

impl JsonSchema for Price {
    fn schema_name() -> Cow<'static, str> {
        "Price".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A decimal with at most two places.",
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 9_999_999_999.99,
            "examples": [29.99]
        })
    }
}

/// Where a parcel goes. Further fields are handed on to the carrier.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// Street and number.
    #[schemars(length(min = 1))]
    pub street: String,
    /// Town.
    #[schemars(length(min = 1))]
    pub city: String,
    /// Country.
    #[schemars(length(min = 1))]
    pub country: String,
    /// Everything else, such as `postalCode` or `state`.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// How an order is paid: by what kind of means, and the token that the payment service knows it by.
///
/// Card numbers do not belong here: an order is recorded as it was sent.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PaymentMethod {
    /// The kind of means, e.g. `card`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1), extend("examples" = ["card"]))]
    pub kind: String,
    /// The payment service's token. One with `declined` in it is declined, one with `unavailable` finds the service
    /// down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("examples" = ["tok_visa"]))]
    pub token: Option<String>,
}

/// Whom to tell about an order.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[expect(dead_code, reason = "it is only checked here; the workflow hands it on from its input")]
pub struct Contact {
    /// E-mail address.
    #[schemars(regex(pattern = r"^[^@\s]+@[^@\s]+$"), extend("examples" = ["ada@example.com"]))]
    pub email: String,
}

/// A line with its price in minor units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The product's number.
    pub product_id: String,
    /// How many.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub quantity: i64,
    /// The price of one, in minor units.
    #[schemars(range(min = 0))]
    pub unit_price: i64,
}

/// What a line falls short of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Short {
    /// The product's number.
    pub product_id: String,
    /// How many were ordered.
    pub ordered: i64,
    /// How many of them are not there.
    pub missing: i64,
}

/// A time, written in RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(#[serde(serialize_with = "write_time", deserialize_with = "read_time")] pub Timestamp);

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A time in RFC 3339.", "type": "string", "format": "date-time" })
    }
}

/// Returns the sum of `lines` in minor units; nothing if it is above [`money::MAX_TOTAL`].
#[must_use]
pub fn total(lines: &[Line]) -> Option<i64> {
    lines
        .iter()
        .try_fold(0_i64, |sum, line| sum.checked_add(line.unit_price.checked_mul(line.quantity)?))
        .filter(|sum| *sum <= money::MAX_TOTAL)
}
