//! What a handler answers: an output, a confirmation, or an error of one of three kinds.
//!
//! This module owns the difference between "it did not happen" and "it may have happened"; what follows from it is
//! for the machine to say.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::failure::ErrorKind;
use crate::failure::Failure;
use crate::payload::{DEPTH_MAX, Payload, dismantle, is_shallow};

/// The code of an input that does not fit the handler's type: permanent, the handler was not called.
pub const BAD_INPUT: &str = "bad_input";

/// The code of an output that cannot be written as JSON or does not fit its schema: unknown.
pub const BAD_OUTPUT: &str = "bad_output";

/// The code of an error that a handler passed on with `?` without saying what it means: unknown.
pub const OTHER_ERROR: &str = "handler.error";

/// An error of a handler, with what is known about its effect.
///
/// It does not implement [`std::error::Error`], so that `?` turns every other error into one of kind unknown:
/// whoever knows that nothing happened has to say so.
///
/// ```
/// # use flowrun::handlers::StepError;
/// fn amount(text: &str) -> Result<i64, StepError> {
///     if text.is_empty() {
///         return Err(StepError::permanent("payment.declined", "there is no amount"));
///     }
///     Ok(text.parse()?)
/// }
/// assert_eq!(amount("").unwrap_err().code(), "payment.declined");
/// assert_eq!(amount("x").unwrap_err().code(), "handler.error");
/// ```
pub struct StepError(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    code: String,
    kind: ErrorKind,
    message: String,
    details: Option<Value>,
    retry_after: Option<Duration>,
}

impl StepError {
    fn new(code: impl Into<String>, kind: ErrorKind, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        Self(Box::new(Inner { code, kind, message, details: None, retry_after: None }))
    }

    /// Makes an error that says: it did not happen, and may work later.
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(code, ErrorKind::Retryable, message)
    }

    /// Makes an error that says: it did not happen, and will not.
    pub fn permanent(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(code, ErrorKind::Permanent, message)
    }

    /// Makes an error that says: it may have happened.
    pub fn unknown(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(code, ErrorKind::Unknown, message)
    }

    /// Adds whatever else there is to say; templates read it as `error.details`.
    #[must_use]
    pub fn details(mut self, details: impl Into<Value>) -> Self {
        let details = details.into();
        if is_shallow(&details, DEPTH_MAX) {
            self.0.details = Some(details);
        } else {
            dismantle(details);
            self.0.message.push_str(&format!(" (its details nest more than {DEPTH_MAX} levels deep)"));
        }
        self
    }

    /// Asks for this delay before the next attempt, in place of the one the retry policy would choose.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Returns the dotted code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// Returns what is known about the effect.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

impl fmt::Debug for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<E: std::error::Error> From<E> for StepError {
    /// Keeps the messages of the error and of all its sources.
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Many errors already repeat their source in their own message.
            if !message.ends_with(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            source = cause.source();
        }
        Self::unknown(OTHER_ERROR, message)
    }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        let Inner { code, kind, message, details, retry_after } = *error.0;
        Self {
            code: code.into(),
            kind,
            message,
            details: details.map(Payload::from),
            retry_after_ms: retry_after.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// The answer of a handler that stands in `confirm`: was the call with this key done?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmation<T> {
    /// It was done, and this is what it returned.
    Done(T),
    /// It was not done.
    NotDone,
    /// It cannot be said.
    Unknown,
}

impl<T> Confirmation<T> {
    /// Applies `f` to what the call returned.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Confirmation<U> {
        match self {
            Self::Done(value) => Confirmation::Done(f(value)),
            Self::NotDone => Confirmation::NotDone,
            Self::Unknown => Confirmation::Unknown,
        }
    }
}

/// What a handler answered when there was no error.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The output of a call.
    Output(Payload),
    /// The answer of a confirm handler.
    Confirmation(Confirmation<Payload>),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the gateway did not answer")]
    struct Outer(#[source] std::num::ParseIntError);

    fn passes_on(text: &str) -> Result<i64, StepError> {
        let number: i64 = text.parse().map_err(Outer)?;
        if number < 0 {
            Err(StepError::permanent("amount.negative", "below zero"))?;
        }
        Ok(number)
    }

    #[test]
    fn any_other_error_is_unknown_and_keeps_its_sources() {
        let error = passes_on("x").expect_err("x is no number");
        assert_eq!(error.kind(), ErrorKind::Unknown);
        assert_eq!(error.code(), OTHER_ERROR);
        assert_eq!(error.message(), "the gateway did not answer: invalid digit found in string");
    }

    #[test]
    fn an_own_error_passes_through_a_question_mark_unchanged() {
        let error = passes_on("-1").expect_err("below zero");
        assert_eq!((error.kind(), error.code()), (ErrorKind::Permanent, "amount.negative"));
    }

    #[test]
    fn a_failure_keeps_details_and_the_wish_for_a_delay() {
        let error = StepError::retryable("a.b", "later").details(json!({ "n": 1 })).retry_after(Duration::from_secs(3));
        let failure = Failure::from(error);
        assert_eq!(failure.retry_after_ms, Some(3_000));
        assert_eq!(
            failure.to_json(),
            json!({ "code": "a.b", "kind": "retryable", "message": "later", "details": { "n": 1 } })
        );
    }
}
