//! An error as handlers report it, machines decide on it, and records keep it.
//!
//! It stands below both handlers and machine, so that neither has to know the other for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::names::Code;
use crate::payload::Payload;

/// What kind of error a handler reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// It did not happen, and may work later.
    Retryable,
    /// It did not happen, and will not.
    Permanent,
    /// It may have happened.
    Unknown,
}

/// An error as it is recorded and shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The dotted code.
    pub code: Code,
    /// What kind of error it is.
    pub kind: ErrorKind,
    /// What happened, for a person.
    pub message: String,
    /// Whatever else the handler wants to say.
    pub details: Option<Payload>,
    /// The handler's own wish for the delay before the next attempt, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// Returns a failure with a code, a kind and a message.
    #[must_use]
    pub fn new(code: &str, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { code: code.into(), kind, message: message.into(), details: None, retry_after_ms: None }
    }

    /// Returns the failure as templates and JSON output see it: `code`, `kind`, `message`, `details`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = json!({ "code": self.code, "kind": self.kind, "message": self.message });
        if let (Some(details), Some(map)) = (&self.details, object.as_object_mut()) {
            map.insert("details".into(), Value::clone(details.value()));
        }
        object
    }
}
