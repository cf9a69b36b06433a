//! Values of policy fields: a literal, or one template that refers to the configuration.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

macro_rules! setting {
    ($(#[$doc:meta])* $name:ident, $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Value);

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

setting! {
    /// A length of time.
    Duration, {
        "description": "A duration: `250ms`, `30s`, `5m`, `2h`, `1d`, or a template such as `{{ config.payment.timeout }}`.",
        "type": "string",
        "format": "flowrun-duration",
        "pattern": r"^\s*(\{\{.*\}\}|[0-9]+(\.[0-9]+)?(ms|s|m|h|d)( ?[0-9]+(\.[0-9]+)?(ms|s|m|h|d))*)\s*$",
        "examples": ["250ms", "30s", "5m", "2h", "1d", "{{ config.payment.timeout }}"]
    }
}
setting! {
    /// A whole number of at least one.
    Count, {
        "description": "A whole number of at least 1, or a template such as `{{ config.payment.attempts }}`.",
        "type": ["integer", "string"],
        "minimum": 1,
        "maximum": 1_000_000,
        "pattern": r"^\s*\{\{.*\}\}\s*$",
        "examples": [3, "{{ config.payment.attempts }}"]
    }
}
setting! {
    /// What a delay is multiplied with.
    Factor, {
        "description": "A number of at least 1, or a template such as `{{ config.payment.factor }}`.",
        "type": ["number", "string"],
        "minimum": 1,
        "maximum": 1000,
        "pattern": r"^\s*\{\{.*\}\}\s*$",
        "examples": [2, 1.5]
    }
}
setting! {
    /// A condition.
    Condition, {
        "description": "An expression such as `steps.reserve.output.total > 0`, or `true` or `false`.",
        "type": ["string", "boolean"],
        "examples": ["steps.reserve.output.total > 0", "input.alternativePayment is defined"]
    }
}
