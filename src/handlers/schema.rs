//! JSON Schemas of handlers: made from their Rust types, compiled once, asked at run time.

use std::sync::OnceLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{JsonType, ValidationError, Validator};
use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::Value;

use crate::dsl::schema::unfit;

/// How many violations one message tells.
const TOLD: usize = 5;

/// Returns the schema of what may be read as a `T`.
#[must_use]
pub fn of_input<T: JsonSchema>() -> Value {
    finished::<T>(settings().for_deserialize().into_generator())
}

/// Returns the schema of what a `T` is written as.
#[must_use]
pub fn of_output<T: JsonSchema>() -> Value {
    finished::<T>(settings().for_serialize().into_generator())
}

/// Everything in one piece: a reader of a schema, and of an error's path, then needs no look-up of `$defs`.
fn settings() -> SchemaSettings {
    SchemaSettings::draft2020_12().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    })
}

fn finished<T: JsonSchema>(generator: SchemaGenerator) -> Value {
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    if let Some(object) = schema.as_object_mut() {
        object.remove("title");
        // A title alone says nothing about values: that is the schema of any value.
        if object.is_empty() {
            return Value::Bool(true);
        }
    }
    schema
}

/// A schema that is compiled when it is first asked.
pub(super) struct Checker {
    schema: std::sync::Arc<Value>,
    compiled: OnceLock<Result<Validator, String>>,
}

impl Checker {
    pub(super) fn new(schema: std::sync::Arc<Value>) -> Self {
        Self { schema, compiled: OnceLock::new() }
    }

    pub(super) fn accepts_all(&self) -> bool {
        *self.schema == Value::Bool(true)
    }

    /// Says what of `value` does not fit, with the place of each violation.
    pub(super) fn check(&self, value: &Value) -> Result<(), String> {
        if self.accepts_all() {
            return Ok(());
        }
        let compiled = self.compiled.get_or_init(|| {
            jsonschema::validator_for(&self.schema).map_err(|e| format!("the handler's own schema is not valid: {e}"))
        });
        let validator = compiled.as_ref().map_err(Clone::clone)?;
        if validator.is_valid(value) {
            return Ok(());
        }
        let mut told = Vec::new();
        let mut more = 0;
        for error in validator.iter_errors(value) {
            if told.len() < TOLD { told.push(violation(&error)) } else { more += 1 }
        }
        if more > 0 {
            told.push(format!("and {more} more"));
        }
        Err(told.join("; "))
    }
}

/// Tells a violation at its own place: inside `anyOf` and `oneOf`, that of the branch that got furthest.
fn violation(error: &ValidationError<'_>) -> String {
    let branches = match error.kind() {
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => context,
        _ => {
            let path = error.instance_path().to_string();
            let path = path.trim_start_matches('/').replace('/', ".");
            return if path.is_empty() { unfit(error) } else { format!("{path}: {}", unfit(error)) };
        }
    };
    let depth = |error: &ValidationError<'_>| error.instance_path().to_string().matches('/').count();
    match branches.iter().flatten().max_by_key(|e| depth(e)) {
        Some(deepest) if depth(deepest) > depth(error) => violation(deepest),
        // No branch got inside: name the last one that is not the null of an optional field.
        _ => match branches.iter().flatten().find(|e| !is_null_branch(e)) {
            Some(other) => violation(other),
            None => unfit(error),
        },
    }
}

fn is_null_branch(error: &ValidationError<'_>) -> bool {
    matches!(error.kind(), ValidationErrorKind::Type { kind: TypeKind::Single(JsonType::Null) })
}
