//! The handlers that are always there, for trying things without writing Rust.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::context::StepCtx;
use super::outcome::StepError;
use super::registry::Registry;
use crate::failure::ErrorKind;

/// The prefix of the names of built-in handlers.
pub(super) const PREFIX: &str = "core.";

pub(super) fn register(registry: Registry) -> Registry {
    registry
        .handler("core.pass", pass)
        .describe("Returns its input; changes nothing.")
        .handler("core.fail", fail)
        .describe("Fails with the error it is told; changes nothing.")
        .any_error()
}

async fn pass(_: StepCtx, input: Value) -> Result<Value, StepError> {
    Ok(input)
}

/// The error that `core.fail` reports.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Fail {
    /// The dotted code of the error.
    #[serde(default = "default_code")]
    #[schemars(regex(pattern = r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$"))]
    code: String,
    /// `retryable` and `permanent` say that it did not happen, `unknown` that it may have.
    #[serde(default = "default_kind")]
    kind: ErrorKind,
    /// What happened, for a person.
    #[serde(default)]
    message: Option<String>,
}

fn default_code() -> String {
    "core.failed".into()
}

fn default_kind() -> ErrorKind {
    ErrorKind::Permanent
}

async fn fail(ctx: StepCtx, input: Fail) -> Result<Value, StepError> {
    let message = input.message.unwrap_or_else(|| format!("`{}` was told to fail", ctx.step));
    Err(match input.kind {
        ErrorKind::Retryable => StepError::retryable(input.code, message),
        ErrorKind::Permanent => StepError::permanent(input.code, message),
        ErrorKind::Unknown => StepError::unknown(input.code, message),
    })
}
