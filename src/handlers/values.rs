//! Types for fields of a handler's input that plain text does not say enough about.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::dsl::duration::parse;

/// A length of time in a handler's input, written like everywhere in a workflow: `30s`, `5m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub std::time::Duration);

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'_, str>>::deserialize(deserializer)?;
        parse(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl Serialize for Duration {
    /// As whole milliseconds with their unit, which reads back exactly.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}ms", self.0.as_millis()))
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration: `250ms`, `30s`, `5m`, `2h`, `1d`.",
            "type": "string",
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?(ms|s|m|h|d)( ?[0-9]+(\.[0-9]+)?(ms|s|m|h|d))*\s*$",
            "examples": ["250ms", "30s", "5m", "2h", "1d"]
        })
    }
}

/// A secret in a handler's input: what prints it prints `***`.
///
/// It cannot be serialised, so it does not get into an output by mistake.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Makes a secret of its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text; the name is there to be searched for in reviews.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A secret: `{{ secrets.NAME }}`.",
            "type": "string",
            "writeOnly": true
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_read_with_a_unit_only() {
        let read = |value| serde_json::from_value::<Duration>(value).map(|d| d.0.as_millis());
        assert_eq!(read(json!("5m")).ok(), Some(300_000));
        assert_eq!(read(json!("250ms")).ok(), Some(250));
        assert!(read(json!(30)).is_err());
        assert!(read(json!("30")).is_err());
        let again = serde_json::to_value(Duration(std::time::Duration::from_millis(1_500))).expect("it is text");
        assert_eq!(read(again).ok(), Some(1_500));
    }

    #[test]
    fn secrets_do_not_print() {
        let secret: Secret = serde_json::from_value(json!("hunter2")).expect("it is text");
        assert_eq!(format!("{secret:?} {secret}"), "*** ***");
        assert_eq!(secret.expose(), "hunter2");
    }
}
