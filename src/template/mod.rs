//! Templates and expressions: which names they refer to, and their value in a scope.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use crate::limits::Limits;

/// One expression, such as a `when`: parsed once, evaluated often.
#[derive(Clone, Debug)]
pub struct Expression {
    source: Arc<str>,
}

/// A JSON value in whose strings templates may stand, such as a `with`: parsed once, rendered often.
#[derive(Clone, Debug, Default)]
pub struct Template {
    value: Arc<Value>,
}

/// A path that a template refers to: `steps.reserve.output.total`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its names, the first being the variable; an index or a computed key ends the path.
    pub path: Vec<String>,
    /// Where each name stands, as byte ranges in the string that holds the template.
    pub ranges: Vec<Range<usize>>,
    /// Whether it may be missing: it is an operand of `default`, `is defined` or `is undefined`.
    pub guarded: bool,
}

/// What is wrong with a template, or went wrong while it was evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Where, as a byte range in the string that holds the template.
    pub range: Option<Range<usize>>,
    /// Whether a limit was reached, and not a mistake made.
    pub limit: bool,
}

/// What a template can see.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Variables by name: `input`, `config`, `run`, `item`, `index`, `output`, `error`, `key`.
    pub vars: BTreeMap<String, Arc<Value>>,
    /// The steps it may read.
    pub steps: BTreeMap<String, StepScope>,
    /// What each secret's name stands for: a placeholder.
    pub secrets: BTreeMap<String, String>,
}

/// What a template sees of a step.
#[derive(Clone, Debug, Default)]
pub struct StepScope {
    /// Its status.
    pub status: &'static str,
    /// Its output, if it succeeded.
    pub output: Option<Arc<Value>>,
    /// Its error, if it did not.
    pub error: Option<Arc<Value>>,
    /// The member by which it succeeded.
    pub via: Option<String>,
}
