//! What a handler declares about itself, once, by its author.
//!
//! Checks, plans and proofs read contracts; none of them ever calls a handler.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::failure::ErrorKind;
use crate::names::{Code, HandlerName};

/// What calling a handler twice with the same key does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    /// Does it twice.
    #[default]
    Once,
    /// Leaves the same state.
    Safe,
    /// Has one effect per key.
    Keyed,
}

/// What an undo does when there is nothing to undo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IfAbsent {
    /// Reports success.
    Ok,
    /// Reports an error.
    #[default]
    Error,
}

/// Says that a handler is the undo of an effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Undoes {
    /// The effect that is undone, e.g. `charged`.
    pub effect: String,
    /// What its undoing is called, e.g. `refunded`.
    pub as_: String,
    /// What happens when there is nothing to undo.
    pub if_absent: IfAbsent,
}

/// What a handler declares about itself.
#[derive(Clone, Debug, Serialize)]
pub struct Contract {
    /// The name it is registered under.
    pub name: HandlerName,
    /// What it does, in a sentence.
    pub description: Option<String>,
    /// What has changed outside when the call has worked, as a past participle; nothing for a read-only handler.
    pub effect: Option<String>,
    /// What calling it twice does.
    pub repeat: Repeat,
    /// The dotted codes of the errors it may return, with whether each is retryable where that is known.
    pub errors: BTreeMap<Code, Option<ErrorKind>>,
    /// It may report codes besides those in `errors`; no code can be said to be impossible.
    pub any_error: bool,
    /// The effect it undoes.
    pub undoes: Option<Undoes>,
    /// After this handler's "undone" or "not done" a late original is refused.
    pub blocks_late: bool,
    /// It answers whether a call was done, and may stand in `confirm`.
    pub confirms: bool,
    /// JSON Schema of its input.
    pub input: Arc<Value>,
    /// JSON Schema of its output; for a confirm handler, of what `Done` carries.
    pub output: Arc<Value>,
}

/// What every known handler declares, by name.
pub type Contracts = BTreeMap<HandlerName, Arc<Contract>>;

impl Contract {
    /// Tells whether an attempt with an unclear answer may be repeated with the same key.
    #[must_use]
    pub fn repeatable(&self) -> bool {
        (self.effect.is_none() && self.undoes.is_none()) || self.repeat != Repeat::Once
    }
}
