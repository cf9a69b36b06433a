//! Which keys of a workflow go together, and which exclude each other.
//!
//! These are rules of shape that a JSON Schema can state but not explain. They look at the tree, so that a file with
//! other errors is still looked at as a whole.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::parse::is_empty;
use super::schema;
use super::tree::{Part, Tree, join};
use crate::diag::{Finding, FindingCode};
use crate::limits::Limits;
use crate::names::PRIMARY;

const WITH_USES: [&str; 6] = ["service", "timeout", "retry", "confirm", "compensate", "fallback"];
const WITH_FOREACH: [&str; 2] = ["as", "concurrency"];

/// Adds what breaks a rule to the findings.
pub(super) fn check(tree: &Tree, limits: &Limits, findings: &mut Vec<Finding>) {
    let mut rules = Rules { tree, findings };
    let maps = |pointer: &str| entries(tree, pointer);
    for (name, policies) in maps("/defaults") {
        rules.policies(&join("/defaults", name), policies);
    }
    let steps = maps("/steps");
    if steps.len() as u64 > limits.steps {
        let first = usize::try_from(limits.steps).ok().and_then(|at| steps.get(at));
        let at = first.map_or_else(|| "/steps".to_owned(), |(name, _)| join("/steps", name));
        rules.add(
            Finding::error(
                FindingCode::Limit,
                tree.span(&at, Part::Key),
                format!("the workflow has {} steps; the limit is {}", steps.len(), limits.steps),
            )
            .help("Raise the limit with `--limit steps=N`, or use `foreach`."),
        );
        return;
    }
    for (name, step) in steps {
        if let Value::Object(step) = step {
            rules.step(&join("/steps", name), name, step);
        }
    }
    for (name, step) in maps("/finally") {
        let at = join("/finally", name);
        if is_empty(step.get("with")) {
            rules.no_value(&join(&at, "with"));
        }
    }
}

fn entries<'a>(tree: &'a Tree, pointer: &str) -> Vec<(&'a str, &'a Value)> {
    let map = tree.value().pointer(pointer).and_then(Value::as_object);
    map.into_iter().flatten().map(|(name, value)| (name.as_str(), value)).collect()
}

struct Rules<'a> {
    tree: &'a Tree,
    findings: &'a mut Vec<Finding>,
}

impl Rules<'_> {
    fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn no_value(&mut self, at: &str) {
        let key = at.rsplit('/').next().unwrap_or_default();
        let finding =
            Finding::error(FindingCode::NoValue, self.tree.span(at, Part::Key), format!("`{key}` has no value"))
                .help("Give it a value, or remove the line.");
        self.add(finding);
    }

    fn step(&mut self, at: &str, name: &str, step: &Map<String, Value>) {
        let kinds: Vec<&str> =
            step.keys().map(String::as_str).filter(|k| matches!(*k, "uses" | "wait" | "workflow")).collect();
        match kinds.as_slice() {
            [] if self.explained(at) => {}
            [] => self.add(
                Finding::error(
                    FindingCode::MissingKey,
                    self.tree.span(at, Part::Key),
                    format!("step `{name}` does nothing: it needs one of `uses`, `wait` or `workflow`"),
                )
                .help("Add `uses: HANDLER`; `flowrun handlers` lists the handlers."),
            ),
            [_] => {}
            [first, others @ ..] => {
                let mut finding = Finding::error(
                    FindingCode::Excludes,
                    self.key(at, first),
                    format!("step `{name}` has {}, which exclude each other", quoted(&kinds)),
                )
                .help("A step does one thing; make a second step of the other.");
                for other in others {
                    finding = finding.related(self.key(at, other), "excludes the first");
                }
                self.add(finding);
            }
        }
        if step.contains_key("workflow") {
            let finding = Finding::error(
                FindingCode::NotBuilt,
                self.key(at, "workflow"),
                "a workflow inside a workflow is not supported yet",
            )
            .help("Write the other workflow's steps into this file, or start it as a run of its own.");
            self.add(finding);
        }
        if let Some(kind) = kinds.first().filter(|_| !step.contains_key("uses")) {
            self.only_with_uses(at, kind, step);
        }
        for key in WITH_FOREACH.iter().filter(|key| step.contains_key(**key) && !step.contains_key("foreach")) {
            let finding =
                Finding::error(FindingCode::Excludes, self.key(at, key), format!("`{key}` goes only with `foreach`"))
                    .help_if(match *key {
                        "concurrency" => {
                            Some("To limit the calls of an outside system, give its `services` entry a `concurrency`.")
                        }
                        _ => None,
                    });
            self.add(finding);
        }
        if is_empty(step.get("with")) {
            self.no_value(&join(at, "with"));
        }
        if let Some(Value::Object(wait)) = step.get("wait") {
            self.wait(&join(at, "wait"), wait);
        }
        self.policies(at, &Value::Object(step.clone()));
        self.fallbacks(&join(at, "fallback"), step.get("fallback"));
    }

    /// Tells whether a finding already says why a step seems to do nothing: its `uses` is misspelt or cannot be read.
    fn explained(&self, at: &str) -> bool {
        let extent = self.tree.extent(at).range();
        let meant = |help: &str| ["`uses`?", "`wait`?", "`workflow`?"].iter().any(|key| help.ends_with(key));
        self.findings.iter().filter(|finding| extent.contains(&finding.span.start)).any(|finding| match finding.code {
            FindingCode::UnknownKey => finding.help.as_deref().is_some_and(meant),
            FindingCode::BadKey | FindingCode::UnsupportedYaml => true,
            _ => false,
        })
    }

    fn only_with_uses(&mut self, at: &str, kind: &str, step: &Map<String, Value>) {
        let mut keys: Vec<&str> = WITH_USES.into_iter().filter(|key| step.contains_key(*key)).collect();
        if kind == "wait" {
            keys.extend(["with", "foreach"].into_iter().filter(|key| step.contains_key(*key)));
        }
        for key in keys {
            let help = match (kind, key) {
                ("wait", "timeout") => Some("Put `timeout` inside `wait`, beside `signal`."),
                ("wait", "foreach") => Some(
                    "A step waits once. Put the wait into a step of its own, before or after the one with `foreach`.",
                ),
                ("wait", "compensate") => Some("A wait changes nothing, so there is nothing to undo."),
                _ => None,
            };
            self.exclude(at, kind, key, format!("`{key}` goes only with `uses`, not with `{kind}`"), help);
        }
    }

    fn wait(&mut self, at: &str, wait: &Map<String, Value>) {
        let has = |key: &str| wait.contains_key(key);
        if !has("for") && !has("until") && !has("signal") {
            let finding = Finding::error(
                FindingCode::MissingKey,
                self.tree.span(at, Part::Key),
                "`wait` does not say what for: it needs `for`, `until` or `signal`",
            )
            .help("Write `for: 5m`, `until: EXPRESSION` or `signal: NAME`.");
            self.add(finding);
            return;
        }
        for (a, b) in [("for", "until"), ("for", "signal"), ("for", "timeout"), ("until", "timeout")] {
            if has(a) && has(b) {
                let help = match (a, b) {
                    ("for", "signal") => Some("The longest time to wait for a signal is `timeout`."),
                    _ => None,
                };
                self.exclude(at, a, b, format!("`{a}` and `{b}` exclude each other in `wait`"), help);
            }
        }
        if !has("signal") {
            for key in ["timeout", "schema"] {
                if has(key) && !(key == "timeout" && (has("for") || has("until"))) {
                    let finding = Finding::error(
                        FindingCode::Excludes,
                        self.key(at, key),
                        format!("`{key}` goes only with `signal`"),
                    );
                    self.add(finding);
                }
            }
        }
        if let Some(schema @ Value::Object(_)) = wait.get("schema") {
            self.user_schema(&join(at, "schema"), schema);
        }
    }

    /// `schema` is a JSON Schema that stands in the file itself.
    fn user_schema(&mut self, at: &str, schema: &Value) {
        if let Err(error) = schema::compile(schema) {
            let span = self.tree.span(&format!("{at}{}", error.pointer), Part::Value);
            self.add(Finding::error(FindingCode::BadSchema, span, format!("not a valid JSON Schema: {error}")));
        }
    }

    /// The policies of a step, a fallback or an entry of `defaults`.
    fn policies(&mut self, at: &str, policies: &Value) {
        if let Some(Value::Object(undo)) = policies.get("compensate") {
            let at = join(at, "compensate");
            if undo.contains_key("none") {
                for key in ["uses", "with", "service", "timeout", "retry"] {
                    if undo.contains_key(key) {
                        self.exclude(
                            &at,
                            "none",
                            key,
                            format!("`none` and `{key}` exclude each other in `compensate`"),
                            Some("`none` says why nothing is undone; `uses` names the handler that undoes."),
                        );
                    }
                }
            } else if !undo.contains_key("uses") {
                let finding = Finding::error(
                    FindingCode::MissingKey,
                    self.tree.span(&at, Part::Key),
                    "`compensate` needs `uses` or `none`",
                )
                .help("Write `uses: HANDLER`, or `none: REASON` if leaving the effect is harmless.");
                self.add(finding);
            }
        }
        for key in ["compensate", "confirm"] {
            if policies.get(key).is_some_and(|call| is_empty(call.get("with"))) {
                self.no_value(&join(&join(at, key), "with"));
            }
        }
    }

    fn fallbacks(&mut self, at: &str, list: Option<&Value>) {
        let mut seen: HashMap<&str, String> = HashMap::new();
        for (index, fallback) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
            let at = format!("{at}/{index}");
            self.policies(&at, fallback);
            if is_empty(fallback.get("with")) {
                self.no_value(&join(&at, "with"));
            }
            let Some(name) = fallback.get("name").and_then(Value::as_str) else { continue };
            let place = join(&at, "name");
            let span = self.tree.span(&place, Part::Value);
            if name == PRIMARY {
                let finding =
                    Finding::error(FindingCode::BadName, span, format!("a fallback cannot be called `{PRIMARY}`"))
                        .help("That is the name of the step's own call.");
                self.add(finding);
            } else if let Some(first) = seen.get(name) {
                let finding = Finding::error(
                    FindingCode::DuplicateName,
                    span,
                    format!("the step has two fallbacks called `{name}`"),
                )
                .label("again here")
                .related(self.tree.span(first, Part::Value), "first given here");
                self.add(finding);
            } else {
                seen.insert(name, place);
            }
        }
    }

    /// Two keys of one map exclude each other: shown at the one that comes first.
    fn exclude(&mut self, at: &str, a: &str, b: &str, message: String, help: Option<&str>) {
        let (a, b) = (self.key(at, a), self.key(at, b));
        let (first, second) = if a <= b { (a, b) } else { (b, a) };
        self.add(
            Finding::error(FindingCode::Excludes, first, message)
                .related(second, "excluded by the other")
                .help_if(help),
        );
    }

    fn key(&self, at: &str, key: &str) -> crate::diag::Span {
        self.tree.span(&join(at, key), Part::Key)
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
}
