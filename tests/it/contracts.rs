//! The handlers that cases and plans are checked against: a small shop, as its author would declare it.

use std::sync::Arc;

use flowrun::failure::ErrorKind;
use flowrun::handlers::contract::{Contract, Contracts, IfAbsent, Repeat, Undoes};
use serde_json::{Value, json};

/// Returns what the handlers of the shop declare.
pub fn contracts() -> Contracts {
    let line = || {
        json!({ "type": "object", "required": ["productId", "quantity"], "properties": {
            "productId": { "type": "string" }, "quantity": { "type": "integer", "minimum": 1 }
        } })
    };
    let key = || json!({ "type": "object", "required": ["key"], "properties": { "key": { "type": "string" } } });
    let all = [
        handler("core.pass", json!(true), json!(true)),
        Contract { any_error: true, ..handler("core.fail", json!(true), json!(true)) },
        handler("clock.tick", json!({ "type": "null" }), json!({ "type": "integer" })),
        errors(
            &[("order.invalid", ErrorKind::Permanent)],
            handler(
                "order.validate",
                json!({ "type": "object", "required": ["order"], "properties": { "order": true } }),
                json!({ "type": "object", "properties": {
                    "items": { "type": "array", "items": { "$ref": "#/$defs/Line" } }, "total": { "type": "integer" }
                }, "$defs": { "Line": line() } }),
            ),
        ),
        errors(
            &[("inventory.out_of_stock", ErrorKind::Permanent), ("inventory.unavailable", ErrorKind::Retryable)],
            effect(
                "reserved",
                handler(
                    "inventory.reserve",
                    json!({ "type": "object", "required": ["order_id", "items"], "properties": {
                        "order_id": { "type": "string", "minLength": 1 },
                        "items": { "type": "array", "items": { "$ref": "#/$defs/Line" } },
                        "allow_partial": { "type": "boolean" }
                    }, "$defs": { "Line": line() } }),
                    json!({ "type": "object", "properties": {
                        "hold_id": { "type": "string" }, "total": { "type": "integer" },
                        "expires_at": { "type": "string" }, "short": { "type": "array", "items": { "type": "string" } },
                        "nearest": { "anyOf": [{ "$ref": "#/$defs/Line" }, { "type": "null" }] }
                    }, "$defs": { "Line": line() } }),
                ),
            ),
        ),
        undoes("reserved", "released", handler("inventory.release", key(), json!({ "type": "null" }))),
        errors(
            &[("payment.declined", ErrorKind::Permanent), ("payment.unavailable", ErrorKind::Retryable)],
            effect(
                "charged",
                handler(
                    "payment.charge",
                    json!({ "type": "object", "required": ["order_id", "amount"], "properties": {
                        "order_id": { "type": "string" }, "amount": { "type": "integer", "minimum": 0 },
                        "currency": { "enum": ["EUR", "USD"] }, "note": { "type": ["string", "null"] },
                        "method": { "oneOf": [
                            { "type": "object", "required": ["kind", "token"], "properties": {
                                "kind": { "const": "card" }, "token": { "type": "string" } } },
                            { "type": "object", "required": ["kind"], "properties": {
                                "kind": { "const": "invoice" }, "days": { "type": "integer" } } }
                        ] }
                    } }),
                    json!({ "type": "object", "required": ["paymentId"], "properties": {
                        "paymentId": { "type": "string" }, "amount": { "type": "integer" } } }),
                ),
            ),
        ),
        undoes("charged", "refunded", handler("payment.refund", key(), json!({ "type": "null" }))),
        Contract {
            confirms: true,
            blocks_late: true,
            ..handler("payment.lookup", key(), json!({ "type": "object", "properties": { "paymentId": {} } }))
        },
        effect(
            "payment_queued",
            handler(
                "payment.queue",
                json!({ "type": "object", "properties": { "order_id": { "type": "string" } } }),
                json!({ "type": "object", "required": ["ticket"], "properties": { "ticket": { "type": "string" } } }),
            ),
        ),
        errors(
            &[("mail.unavailable", ErrorKind::Retryable)],
            effect(
                "mailed",
                handler(
                    "mail.send",
                    json!({ "type": "object", "required": ["to"], "additionalProperties": false, "properties": {
                        "to": { "type": "string" }, "token": { "type": "string" },
                        "data": { "type": "object", "additionalProperties": { "type": "string" } }
                    } }),
                    json!({ "type": "object", "properties": { "mail_id": { "type": "string" } } }),
                ),
            ),
        ),
        handler(
            "pricing.quote",
            json!({ "type": "object", "required": ["sku"], "properties": { "sku": { "type": "string" } } }),
            json!({ "type": "object", "required": ["total", "cents", "rate", "note", "currency", "lines", "best"],
                "properties": {
                    "total": { "type": "string" }, "cents": { "type": "integer" }, "rate": { "type": "number" },
                    "note": { "type": ["string", "null"] }, "currency": { "enum": ["EUR", "USD", "GBP"] },
                    "coupon": { "type": "string" },
                    "lines": { "type": "array", "items": { "$ref": "#/$defs/Priced" } },
                    "best": { "anyOf": [{ "$ref": "#/$defs/Priced" }, { "type": "null" }] }
                },
                "$defs": { "Priced": { "type": "object", "required": ["productId", "quantity"], "properties": {
                    "productId": { "type": "integer" }, "quantity": { "type": "integer" }, "label": { "type": "string" }
                } } } }),
        ),
        handler(
            "audit.record",
            json!({ "type": "object", "properties": { "status": { "type": "string" }, "error": true } }),
            json!({ "type": "null" }),
        ),
    ];
    all.into_iter().map(|contract| (contract.name.clone(), Arc::new(contract))).collect()
}

fn handler(name: &str, input: Value, output: Value) -> Contract {
    Contract {
        name: name.into(),
        description: None,
        effect: None,
        repeat: Repeat::Keyed,
        errors: std::collections::BTreeMap::new(),
        any_error: false,
        undoes: None,
        blocks_late: false,
        confirms: false,
        input: Arc::new(input),
        output: Arc::new(output),
    }
}

fn effect(effect: &str, contract: Contract) -> Contract {
    Contract { effect: Some(effect.to_owned()), ..contract }
}

fn undoes(effect: &str, as_: &str, contract: Contract) -> Contract {
    let undoes = Undoes { effect: effect.to_owned(), as_: as_.to_owned(), if_absent: IfAbsent::Ok };
    Contract { undoes: Some(undoes), ..contract }
}

fn errors(codes: &[(&str, ErrorKind)], contract: Contract) -> Contract {
    let errors = codes.iter().map(|(code, kind)| ((*code).into(), Some(*kind))).collect();
    Contract { errors, ..contract }
}
