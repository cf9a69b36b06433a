//! Secrets: filled in at the last moment, and taken out of everything that is recorded or shown (SPEC 6.15).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::failure::Failure;
use crate::machine::key;
use crate::payload::Payload;
use crate::plan::Plan;
use crate::teeth::{Bug, awake};

/// What stands for the value of a secret wherever it would otherwise be seen.
const MASK: &str = "***";

/// Secrets that are given, by name; the environment is asked where there are none.
type Given<'a> = Option<&'a BTreeMap<String, String>>;

fn value_of(name: &str, given: Given<'_>) -> Option<String> {
    given.map_or_else(|| std::env::var(name).ok(), |given| given.get(name).cloned())
}

/// Returns the names of a plan's secrets that are not to be had.
pub(super) fn missing(plan: &Plan, given: Given<'_>) -> Vec<String> {
    plan.secrets.iter().filter(|name| value_of(name, given).is_none()).cloned().collect()
}

/// The values of a plan's secrets, beside what stands for them in recorded inputs.
pub(super) struct Filled(Vec<Secret>);

struct Secret {
    placeholder: String,
    value: String,
}

impl Filled {
    /// Reads the secrets.
    ///
    /// # Errors
    /// The names of those that are missing.
    pub(super) fn of(plan: &Plan, salt: &[u8; 32], given: Given<'_>) -> Result<Self, Vec<String>> {
        let missing = missing(plan, given);
        if !missing.is_empty() {
            return Err(missing);
        }
        let read = |name: &String| {
            let value = value_of(name, given)?;
            Some(Secret { placeholder: key::placeholder(salt, name), value })
        };
        let mut secrets: Vec<Secret> = plan.secrets.iter().filter_map(read).collect();
        // The longest first: one that begins like another must not be left with its end.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.value.len()));
        Ok(Self(secrets))
    }

    /// Puts the values in the places of their placeholders.
    pub(super) fn fill(&self, input: Value) -> Value {
        if self.0.is_empty() {
            return input;
        }
        replaced(&input, &|text| {
            self.0.iter().fold(text.to_owned(), |text, secret| text.replace(&secret.placeholder, &secret.value))
        })
    }

    /// Takes the values out of an output.
    pub(super) fn hide(&self, output: Payload) -> Payload {
        if self.0.is_empty() {
            return output;
        }
        Payload::of(replaced(output.value(), &|text| self.hidden(text)))
    }

    /// Takes the values out of an error.
    pub(super) fn hide_in_failure(&self, mut failure: Failure) -> Failure {
        if !self.0.is_empty() && !awake(Bug::SecretsShown) {
            failure.message = self.hidden(&failure.message);
            failure.details = failure.details.map(|details| self.hide(details));
        }
        failure
    }

    fn hidden(&self, text: &str) -> String {
        let hide = |text: String, secret: &Secret| match secret.value.as_str() {
            "" => text,
            value => text.replace(value, MASK),
        };
        self.0.iter().fold(text.to_owned(), hide)
    }
}

/// Replaces the placeholders in something recorded, before it is shown.
pub(super) fn without_placeholders(value: &Value, plan: &Plan, salt: &[u8; 32]) -> Value {
    if plan.secrets.is_empty() {
        return value.clone();
    }
    let placeholders: Vec<String> = plan.secrets.iter().map(|name| key::placeholder(salt, name)).collect();
    replaced(value, &|text| placeholders.iter().fold(text.to_owned(), |text, p| text.replace(p, MASK)))
}

fn replaced(value: &Value, change: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(list) => Value::Array(list.iter().map(|v| replaced(v, change)).collect()),
        Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (change(k), replaced(v, change))).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}
