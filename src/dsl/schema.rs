//! The JSON Schema of workflow files, generated from the types of `document`, and what its violations mean in words.
//!
//! Editors read the same schema while a file is typed. What only code can say well (keys that exclude each other) is in
//! the schema for editors too, but reported by `rules`.

use std::sync::LazyLock;

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{ValidationError, Validator};
use serde_json::{Value, json};

use super::document::Document;
use super::duration;
use super::endless::endless;
use super::tree::{FINDINGS_MAX, Part, Tree, join};
use crate::diag::{Finding, FindingCode, Span};
use crate::suggest::nearest;
use crate::template::kind_of;

/// Returns the JSON Schema of workflow files.
#[must_use]
pub fn workflow_schema() -> Value {
    schema_of::<Document>()
}

/// Returns the JSON Schema of a file that is read into a `T`.
#[must_use]
pub fn schema_of<T: schemars::JsonSchema>() -> Value {
    let mut schema = schemars::schema_for!(T).to_value();
    strip_null(&mut schema);
    schema
}

/// A kind of file: its schema, and how it is called.
pub(crate) struct Form {
    schema: Value,
    validator: Validator,
    /// What the whole file is called.
    name: &'static str,
    /// How such a file starts.
    start: &'static str,
}

impl Form {
    /// Returns the form of files that are read into a `T`.
    pub(crate) fn of<T: schemars::JsonSchema>(name: &'static str, start: &'static str) -> Self {
        let schema = schema_of::<T>();
        let validator = jsonschema::options()
            .with_format("flowrun-duration", |text: &str| is_template(text) || duration::parse(text).is_ok())
            .should_validate_formats(true)
            .build(&schema)
            .expect("the schema comes from our own types, and a test builds it");
        Self { schema, validator, name, start }
    }

    /// Returns what in the tree does not have this form, in no order.
    pub(crate) fn misfits(&self, tree: &Tree) -> Vec<Finding> {
        self.violations(tree).into_iter().map(|violation| violation.finding).collect()
    }

    fn violations(&self, tree: &Tree) -> Vec<Violation> {
        let mut all = Vec::new();
        for error in self.validator.iter_errors(tree.value()) {
            let violation = Explainer { form: self, tree, error: &error };
            violation.explain(&mut all);
            if all.len() >= FINDINGS_MAX {
                break;
            }
        }
        all
    }
}

static WORKFLOW: LazyLock<Form> = LazyLock::new(|| {
    Form::of::<Document>("the workflow", "A workflow starts with `flowrun: 1`, `name:` and `steps:`.")
});

/// Builds a validator for a schema of a user: nothing is fetched, and patterns take linear time.
///
/// # Errors
/// When the schema is none, or refers to something outside itself.
pub fn compile(schema: &Value) -> Result<Validator, SchemaError> {
    let explain = |error: ValidationError<'_>| SchemaError {
        message: match error.kind() {
            Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } | Kind::Enum { .. } => {
                format!("{} is not possible here", error.instance())
            }
            _ => error.to_string(),
        },
        pointer: error.instance_path().to_string(),
    };
    jsonschema::meta::validate(schema).map_err(explain)?;
    if let Some(pointer) = endless(schema) {
        let message = "it refers to itself without going down into the value, so it never comes to an end".to_owned();
        return Err(SchemaError { message, pointer });
    }
    jsonschema::options().with_pattern_options(jsonschema::PatternOptions::regex()).build(schema).map_err(explain)
}

/// Says how a value does not fit, naming what kind of value it is and never the value: it may be a person's address or a
/// card's number, and messages end up in logs.
pub(crate) fn unfit(error: &ValidationError<'_>) -> String {
    error.masked_with(kind_of(error.instance())).to_string()
}

/// What is wrong with a JSON Schema, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SchemaError {
    /// What is wrong.
    pub message: String,
    /// Where: a JSON pointer.
    pub pointer: String,
}

/// Takes out the branches by which an absent key could also be written as null; `retry:` with nothing is a mistake.
fn strip_null(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("default") == Some(&Value::Null) {
                map.shift_remove("default");
            }
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|t| t != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(branches)) = map.get_mut("anyOf") {
                branches.retain(|branch| *branch != json!({ "type": "null" }));
                if let [only] = branches.as_slice() {
                    let only = only.clone();
                    map.shift_remove("anyOf");
                    if let Value::Object(only) = only {
                        map.extend(only);
                    }
                }
            }
            map.values_mut().for_each(strip_null);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_null),
        _ => {}
    }
}

/// A violation: what to say, and what to leave out so that the rest of the file can still be understood.
pub(super) struct Violation {
    pub finding: Finding,
    pub drop: String,
}

/// Returns what in the tree violates the schema of workflow files.
pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    WORKFLOW.violations(tree)
}

struct Explainer<'a> {
    form: &'a Form,
    tree: &'a Tree,
    error: &'a ValidationError<'a>,
}

impl<'a> Explainer<'a> {
    fn explain(&self, all: &mut Vec<Violation>) {
        let pointer = self.error.instance_path().to_string();
        let schema_path = self.error.schema_path().to_string();
        let (owner, keyword) = owner_of(&schema_path);
        let mut push = |finding: Finding, drop: String| all.push(Violation { finding, drop });
        match self.error.kind() {
            // Those are said better by `rules`.
            Kind::OneOfNotValid { .. } | Kind::OneOfMultipleValid { .. } if !self.is_enumeration(&owner) => {}
            Kind::Required { .. } if keyword == "dependentRequired" => {}
            Kind::AdditionalProperties { unexpected } => {
                for key in unexpected.iter().take(FINDINGS_MAX) {
                    let at = join(&pointer, key);
                    push(self.unknown_key(&pointer, key, &owner), at);
                }
            }
            Kind::Required { property } => {
                let property = property.as_str().unwrap_or_default();
                push(self.missing_key(&pointer, property, &owner), pointer);
            }
            Kind::PropertyNames { error } => {
                let name = error.instance().as_str().unwrap_or_default();
                let span = self.tree.span(&join(&pointer, name), Part::Key);
                push(bad_name(name, "a step's name", '_', span), String::new());
            }
            Kind::MinProperties { .. } => {
                let finding = Finding::error(
                    FindingCode::MissingKey,
                    self.tree.span(&pointer, Part::Key),
                    format!("{} is empty", self.shown(&pointer)),
                )
                .help("A workflow has at least one step.");
                push(finding, pointer);
            }
            _ => push(self.bad_value(&pointer, &owner), pointer),
        }
    }

    /// A value that is there but wrong.
    fn bad_value(&self, pointer: &str, owner: &str) -> Finding {
        let span = self.tree.span(pointer, Part::Value);
        let value = self.error.instance().as_ref();
        let what = self.shown(pointer);
        if value.is_null() {
            return Finding::error(
                FindingCode::NoValue,
                self.tree.span(pointer, Part::Key),
                format!("{what} has no value"),
            )
            .help(format!("Give it {}, or remove the line.", self.expected(owner)));
        }
        if pointer.is_empty() {
            return self.wrong_type(pointer, span, &what, owner, value).help(self.form.start);
        }
        if pointer == "/flowrun" {
            if !value.is_number() {
                return self.wrong_type(pointer, span, &what, owner, value).help("Write `flowrun: 1`.");
            }
            return Finding::error(
                FindingCode::Version,
                span,
                format!("language version {} is not known", brief(value)),
            )
            .help("This flowrun understands version 1: write `flowrun: 1`.");
        }
        if owner.ends_with("/Duration") {
            let help = match value {
                Value::String(text) => duration::parse(text).err(),
                Value::Number(number) => duration::parse(&number.to_string()).err(),
                _ => duration::parse("").err(),
            };
            return Finding::error(
                FindingCode::BadDuration,
                span,
                format!("{what} must be a duration, found {}", kind_and_value(value)),
            )
            .help_if(help);
        }
        match self.error.kind() {
            Kind::OneOfNotValid { .. } | Kind::Enum { .. } | Kind::Constant { .. } if value.is_string() => {
                let options = self.options(owner);
                let found = value.as_str().unwrap_or_default();
                let list = list_of(options.iter().map(String::as_str), "or");
                let near = nearest(found, options.iter().map(String::as_str));
                Finding::error(
                    FindingCode::UnknownValue,
                    span,
                    format!("{what} must be {list}, found `{}`", clip(found)),
                )
                .help_if(near.map(|near| format!("Did you mean `{near}`?")))
            }
            Kind::Minimum { limit } => Finding::error(
                FindingCode::OutOfRange,
                span,
                format!("{what} must be at least {limit}, found {}", brief(value)),
            ),
            Kind::Maximum { limit } => Finding::error(
                FindingCode::OutOfRange,
                span,
                format!("{what} must be at most {limit}, found {}", brief(value)),
            ),
            Kind::Pattern { .. } if self.definition(owner).is_some_and(|d| d.get("minimum").is_some()) => {
                self.wrong_type(pointer, span, &what, owner, value)
            }
            Kind::Pattern { .. } => {
                let separator = if pointer == "/name" { '-' } else { '_' };
                bad_name(value.as_str().unwrap_or_default(), &what, separator, span)
            }
            _ => self.wrong_type(pointer, span, &what, owner, value),
        }
    }

    fn wrong_type(&self, pointer: &str, span: Span, what: &str, owner: &str, value: &Value) -> Finding {
        let expected = self.expected(owner);
        let list_wanted = self.definition(owner).is_some_and(|d| d.get("type") == Some(&json!("array")));
        let key = pointer.rsplit('/').next().unwrap_or_default();
        let help = match value {
            Value::String(text) if key == "wait" && duration::parse(text).is_ok() => {
                Some(format!("Write `wait: {{ for: {text} }}`."))
            }
            Value::String(text) if key == "compensate" && text == "none" => Some(
                "Write `compensate: { none: REASON }`, with the reason why leaving the effect is harmless.".to_owned(),
            ),
            Value::Array(_) if key == "foreach" => {
                Some("It is an expression: put the list in quotes, or into `config`.".to_owned())
            }
            Value::String(text) if list_wanted => Some(format!("Write `[{}]`.", clip(text))),
            Value::Number(_) | Value::Bool(_) if expected == "a text" => Some(format!("Quote it: `\"{value}\"`.")),
            _ => None,
        };
        Finding::error(
            FindingCode::WrongType,
            span,
            format!("{what} must be {expected}, found {}", kind_and_value(value)),
        )
        .help_if(help)
    }

    fn unknown_key(&self, pointer: &str, key: &str, owner: &str) -> Finding {
        let span = self.tree.span(&join(pointer, key), Part::Key);
        let mut valid: Vec<&str> = self.properties(owner).map(|(name, _)| name).collect();
        let finding = Finding::error(
            FindingCode::UnknownKey,
            span,
            format!("{} has no key `{}`", self.holder(pointer), clip(key)),
        );
        if let Some(meant) = synonym(key).filter(|meant| valid.contains(meant)) {
            return finding.help(format!("Did you mean `{meant}`?"));
        }
        let present = self.tree.value().pointer(pointer);
        valid.retain(|name| present.is_none_or(|map| map.get(name).is_none()));
        if let Some(near) = nearest(key, valid.iter().copied()) {
            return finding.help(format!("Did you mean `{near}`?"));
        }
        let below = self.properties(owner).find(|(_, schema)| {
            schema.get("$ref").and_then(Value::as_str).is_some_and(|to| {
                self.form
                    .schema
                    .pointer(to.trim_start_matches('#'))
                    .is_some_and(|d| d.get("properties").is_some_and(|p| p.get(key).is_some()))
            })
        });
        if let Some((outer, _)) = below {
            return finding.help(format!("`{key}` belongs inside `{outer}`."));
        }
        if valid.is_empty() {
            return finding;
        }
        finding.help(format!("Possible here: {}.", list_of(valid, "and")))
    }

    fn missing_key(&self, pointer: &str, property: &str, owner: &str) -> Finding {
        let meaning = self
            .properties(owner)
            .find(|(name, _)| *name == property)
            .and_then(|(_, schema)| schema.get("description")?.as_str())
            .map(|text| text.replace('\n', " "));
        Finding::error(
            FindingCode::MissingKey,
            self.tree.span(pointer, Part::Key),
            format!("{} has no `{property}`", self.holder(pointer)),
        )
        .help_if(match (pointer, property) {
            ("", "flowrun") => Some("Add `flowrun: 1`, the version of the language.".to_owned()),
            _ => meaning.map(|meaning| format!("Add `{property}`: {meaning}")),
        })
    }

    fn shown(&self, pointer: &str) -> String {
        if pointer.is_empty() { self.form.name.to_owned() } else { shown(pointer) }
    }

    fn holder(&self, pointer: &str) -> String {
        if pointer.is_empty() { self.form.name.to_owned() } else { holder(pointer) }
    }

    fn definition(&self, owner: &str) -> Option<&'a Value> {
        self.form.schema.pointer(owner)
    }

    fn properties(&self, owner: &str) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        let map = self.form.schema.pointer(owner).and_then(|d| d.get("properties")).and_then(Value::as_object);
        map.into_iter().flatten().map(|(name, schema)| (name.as_str(), schema))
    }

    fn is_enumeration(&self, owner: &str) -> bool {
        !self.options(owner).is_empty()
    }

    fn options(&self, owner: &str) -> Vec<String> {
        let Some(definition) = self.definition(owner) else { return Vec::new() };
        let list = |key: &str| definition.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let branches = list("oneOf").into_iter().filter_map(|branch| branch.get("const")?.as_str().map(str::to_owned));
        branches.chain(list("enum").into_iter().filter_map(|v| v.as_str().map(str::to_owned))).collect()
    }

    /// Says in words what a schema wants.
    fn expected(&self, owner: &str) -> String {
        let Some(definition) = self.definition(owner) else { return "another value".to_owned() };
        match owner.rsplit('/').next().unwrap_or_default() {
            "Duration" => return "a duration such as `30s`".to_owned(),
            "Count" => return "a whole number or a template".to_owned(),
            "Factor" => return "a number or a template".to_owned(),
            "Condition" => return "an expression".to_owned(),
            _ => {}
        }
        let options = self.options(owner);
        if !options.is_empty() {
            return list_of(options.iter().map(String::as_str), "or");
        }
        let words = match definition.get("type") {
            Some(Value::String(kind)) => vec![word(kind)],
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).map(word).collect(),
            _ => Vec::new(),
        };
        if words.is_empty() { "another value".to_owned() } else { words.join(" or ") }
    }
}

/// Splits the path of a keyword into the path of the schema that holds it and the keyword.
fn owner_of(path: &str) -> (String, String) {
    for marker in ["/dependentRequired/"] {
        if let Some(at) = path.find(marker) {
            return (path[..at].to_owned(), marker.trim_matches('/').to_owned());
        }
    }
    let (owner, keyword) = path.rsplit_once('/').unwrap_or(("", path));
    (owner.to_owned(), keyword.to_owned())
}

fn bad_name(name: &str, what: &str, separator: char, span: Span) -> Finding {
    let mut fixed = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && fixed.ends_with(|l: char| l.is_ascii_lowercase()) {
            fixed.push(separator);
        }
        if c.is_ascii_alphanumeric() {
            fixed.push(c.to_ascii_lowercase());
        } else if !fixed.is_empty() && !fixed.ends_with(separator) {
            fixed.push(separator);
        }
    }
    let fixed = fixed.trim_end_matches(separator);
    let starts = fixed.starts_with(|c: char| c.is_ascii_lowercase());
    let rule = if starts || fixed.is_empty() {
        format!("have only lower-case letters, digits and `{separator}`")
    } else {
        "start with a lower-case letter".to_owned()
    };
    Finding::error(FindingCode::BadName, span, format!("{what} must {rule}, found `{}`", clip(name)))
        .help_if((starts && fixed != name && fixed.len() < 60).then(|| format!("Write `{fixed}`.")))
}

/// Names the value at a pointer: `timeout`, an entry of `needs`, step `charge`.
fn shown(pointer: &str) -> String {
    let segments: Vec<String> = pointer.split('/').skip(1).map(unescape).collect();
    match segments.as_slice() {
        [] => "the workflow".to_owned(),
        [kind, name] if kind == "steps" => format!("step `{}`", clip(name)),
        [kind, name] if kind == "services" => format!("service `{}`", clip(name)),
        [kind, name] if kind == "finally" => format!("step `{}`", clip(name)),
        [kind, name] if kind == "retries" => format!("retry policy `{}`", clip(name)),
        [.., outer, last] if last.bytes().all(|b| b.is_ascii_digit()) => format!("an entry of `{}`", clip(outer)),
        [.., last] => format!("`{}`", clip(last)),
    }
}

/// Names the map at a pointer.
fn holder(pointer: &str) -> String {
    let segments: Vec<String> = pointer.split('/').skip(1).map(unescape).collect();
    match segments.as_slice() {
        [] => "the workflow".to_owned(),
        [kind, name, ..] if matches!(kind.as_str(), "steps" | "finally") && segments.len() > 2 => {
            format!("{} of step `{}`", shown(pointer), clip(name))
        }
        _ => shown(pointer),
    }
}

fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

fn word(kind: &str) -> &'static str {
    match kind {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "array" => "a list",
        "object" => "a map",
        _ => "nothing",
    }
}

fn kind_and_value(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) => format!("`{value}`"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("`{}`", clip(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    }
}

fn brief(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        other => kind_and_value(other),
    }
}

/// Cuts a text that would make a message unreadable.
fn clip(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() > 60 || line.len() < text.trim_end().len() {
        format!("{}...", line.chars().take(57).collect::<String>())
    } else {
        line.to_owned()
    }
}

fn list_of<'a>(names: impl IntoIterator<Item = &'a str>, last: &str) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [init @ .., end] => format!("{} {last} {end}", init.join(", ")),
    }
}

/// What people coming from other tools write, and what it is called here.
fn synonym(key: &str) -> Option<&'static str> {
    Some(match key {
        "if" | "condition" | "only_if" => "when",
        "depends_on" | "dependsOn" | "depends" | "after" | "requires" | "need" => "needs",
        "handler" | "run" | "call" | "action" | "task" | "type" => "uses",
        "args" | "params" | "parameters" | "inputs" => "with",
        "undo" | "rollback" | "compensation" => "compensate",
        "for_each" | "forEach" | "loop" | "each" | "items" => "foreach",
        "onError" | "on_failure" | "onFailure" | "on-error" => "on_error",
        "fallbacks" => "fallback",
        "retries" | "retry_policy" => "retry",
        "version" => "flowrun",
        "outputs" => "output",
        "max_attempts" | "maxAttempts" | "tries" => "attempts",
        "maxDelay" | "max-delay" => "max_delay",
        "threshold" => "failures",
        "window" => "within",
        "tasks" | "jobs" => "steps",
        "sleep" | "delay" | "duration" => "for",
        "event" => "signal",
        _ => return None,
    })
}

fn is_template(text: &str) -> bool {
    let text = text.trim();
    text.starts_with("{{") && text.ends_with("}}")
}
