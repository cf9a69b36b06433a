//! Whether a `with` fits the handler's input schema.
//!
//! What is written out is judged here: names of fields, fields that are missing, and values without a template in
//! them. What a template becomes is for `flow` to judge.

use std::collections::HashSet;
use std::ops::Range;

use serde_json::{Map, Value};

use super::context::Context;
use super::flow;
use super::paths::Scope;
use super::suggest;
use super::types::{Schema, View, a_kind, kind_of, types_of};
use crate::diag::{Finding, FindingCode};
use crate::dsl::tree::join;
use crate::plan::calls::CallAt;
use crate::template::{Expression, Shape, Template};

/// Comparisons of a value with a schema that one `with` may cost; what is beyond is left to the run.
const WORK_MAX: usize = 20_000;
/// Keywords that jsonschema judges.
const KEYWORDS: &[&str] =
    &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern"];

/// Checks the input of a call: what it is given, with the places of templates that cannot be understood.
pub(super) fn check_call<'a>(
    cx: &Context<'a>,
    call: &CallAt<'a>,
    scope: &Scope<'a>,
    given: Option<(&Template, HashSet<String>)>,
    findings: &mut Vec<Finding>,
) {
    let Some(contract) = cx.contract(call.uses) else { return };
    let schema = Schema::new(&contract.input, &contract.input);
    let at = call.with.as_ref().map_or("", |with| with.pointer.as_str());
    let mut judge = Judge { cx, scope, handler: call.uses, at, work: WORK_MAX, broken: HashSet::new() };
    let problems = match given {
        Some((template, broken)) => {
            judge.broken = broken;
            judge.value(template.shape(), schema, at)
        }
        None => {
            // A handler without an input is given null.
            if schema.views().is_none_or(|views| views.iter().any(|view| allows(view, "null"))) {
                return;
            }
            judge.value(&Shape::Object(Vec::new()), schema, &call.at)
        }
    };
    for problem in problems {
        let span = match (&call.with, problem.at_key) {
            (None, _) => cx.value(&join(&call.at, "uses")),
            (Some(_), true) => cx.key(&problem.pointer),
            (Some(_), false) => match problem.range {
                Some(range) => cx.tree.inside(&problem.pointer, range),
                None => cx.value(&problem.pointer),
            },
        };
        let finding = if problem.code == FindingCode::MayNotFit {
            Finding::warning(problem.code, span, problem.message)
        } else {
            Finding::error(problem.code, span, problem.message)
        };
        findings.push(finding.help_if(problem.help));
    }
}

/// What is wrong with a value.
#[derive(Debug)]
struct Problem {
    code: FindingCode,
    pointer: String,
    at_key: bool,
    /// Where in the string, if it has a template in it.
    range: Option<Range<usize>>,
    message: String,
    help: Option<String>,
    /// How much it speaks against this way to read the schema.
    weight: usize,
    /// The only value that this way allows here.
    constant: Option<String>,
}

struct Judge<'h, 'a> {
    cx: &'h Context<'a>,
    scope: &'h Scope<'a>,
    handler: &'h str,
    /// The JSON pointer of the whole `with`.
    at: &'h str,
    work: usize,
    /// The JSON pointers of templates that cannot be understood; they may have been meant to become anything.
    broken: HashSet<String>,
}

impl Judge<'_, '_> {
    /// Returns what keeps a value from fitting a schema: nothing if there is a way to fit it, else the problems of the
    /// way that comes nearest.
    fn value(&mut self, shape: &Shape, schema: Schema<'_>, pointer: &str) -> Vec<Problem> {
        let Some(views) = schema.views() else { return Vec::new() };
        if views.is_empty() || self.broken.contains(pointer) {
            return Vec::new();
        }
        if let Shape::Expression(expression) = shape {
            return self.expression(expression, schema, pointer).into_iter().collect();
        }
        let mut best: Option<(usize, Vec<Problem>)> = None;
        let mut constants: Vec<(String, String)> = Vec::new();
        let mut all_of_wrong_kind = true;
        for view in &views {
            let Some(left) = self.work.checked_sub(1) else { return Vec::new() };
            self.work = left;
            let problems = self.view(shape, view, schema.root, pointer);
            if problems.is_empty() {
                return Vec::new();
            }
            let wrong_kind = problems.len() == 1 && problems[0].weight >= WRONG_KIND;
            all_of_wrong_kind &= wrong_kind;
            constants.extend(problems.iter().find_map(|p| Some((p.pointer.clone(), p.constant.clone()?))));
            let weight = problems.iter().map(|p| p.weight).sum();
            if best.as_ref().is_none_or(|(w, _)| weight < *w) {
                best = Some((weight, problems));
            }
        }
        if all_of_wrong_kind && views.len() > 1 {
            return vec![wrong_kind(shape, pointer, &kinds(&views))];
        }
        // Where a field tells the branches apart, all of its values are possible, not only that of the nearest branch.
        let apart =
            views.len() > 1 && constants.len() == views.len() && constants.iter().all(|c| c.0 == constants[0].0);
        let mut problems = best.map_or_else(Vec::new, |(_, problems)| problems);
        if apart && let Some(problem) = problems.iter_mut().find(|p| p.constant.is_some()) {
            let all: Vec<String> = constants.into_iter().map(|(_, constant)| constant).collect();
            problem.message = format!("expected one of {}", all.join(", "));
        }
        problems
    }

    fn expression(&mut self, expression: &Expression, schema: Schema<'_>, pointer: &str) -> Option<Problem> {
        self.work = self.work.checked_sub(1)?;
        let inner = pointer.strip_prefix(self.at).unwrap_or_default().split('/').skip(1);
        let field = inner.fold(String::new(), |field, name| match name.parse::<usize>() {
            Ok(index) => format!("{field}[{index}]"),
            Err(_) if field.is_empty() => name.to_owned(),
            Err(_) => format!("{field}.{name}"),
        });
        let wrong = flow::judge(self.cx, self.scope, expression, schema, self.handler, &field)?;
        let code = if wrong.sometimes { FindingCode::MayNotFit } else { FindingCode::WrongFlow };
        let weight = if wrong.sometimes { 1 } else { 5 };
        let problem = misfit(pointer, wrong.message, Some(wrong.help));
        Some(Problem { code, range: Some(wrong.range), weight, ..problem })
    }

    fn view(&mut self, shape: &Shape, view: &View<'_>, root: &Value, pointer: &str) -> Vec<Problem> {
        match shape {
            Shape::Expression(_) => Vec::new(),
            Shape::Text(_) if allows(view, "string") => Vec::new(),
            Shape::Object(members) if allows(view, "object") => {
                let members: Vec<(&str, Shape)> = members.iter().map(|(k, s)| (k.as_str(), s.clone())).collect();
                self.object(&members, view, root, pointer)
            }
            Shape::List(items) if allows(view, "array") => self.list(items, view, root, pointer),
            Shape::Literal(Value::Object(map)) if allows(view, "object") && !has_choice(view) => {
                let members: Vec<(&str, Shape)> =
                    map.iter().map(|(k, v)| (k.as_str(), Shape::Literal(v.clone()))).collect();
                self.object(&members, view, root, pointer)
            }
            Shape::Literal(Value::Array(items)) if allows(view, "array") && !has_choice(view) => {
                let items: Vec<Shape> = items.iter().map(|v| Shape::Literal(v.clone())).collect();
                self.list(&items, view, root, pointer)
            }
            Shape::Literal(value) if allows_value(view, value) => scalar(value, view, pointer).into_iter().collect(),
            _ => vec![wrong_kind(shape, pointer, &kinds(std::slice::from_ref(view)))],
        }
    }

    fn object(&mut self, members: &[(&str, Shape)], view: &View<'_>, root: &Value, at: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        let fields: Vec<&str> = view
            .iter()
            .filter_map(|part| part.get("properties").and_then(Value::as_object))
            .flat_map(|properties| properties.keys().map(String::as_str))
            .collect();
        let listed =
            !fields.is_empty() || view.iter().any(|p| p.get("additionalProperties") == Some(&Value::Bool(false)));
        let open = view.iter().find_map(|part| match part.get("additionalProperties") {
            None | Some(Value::Bool(false)) => part.get("patternProperties").map(|_| &Value::Null),
            Some(schema) => Some(schema),
        });
        for (name, shape) in members {
            let pointer = join(at, name);
            let schemas: Vec<&Value> = view.iter().filter_map(|part| part.get("properties")?.get(name)).collect();
            for schema in &schemas {
                let found = self.value(shape, Schema::new(schema, root), &pointer);
                problems.extend(found);
            }
            if !schemas.is_empty() {
                continue;
            }
            match open {
                Some(schema @ Value::Object(_)) => {
                    problems.extend(self.value(shape, Schema::new(schema, root), &pointer))
                }
                Some(_) => {}
                None if !listed => {}
                None => problems.push(Problem {
                    code: FindingCode::UnknownInputField,
                    pointer,
                    at_key: true,
                    range: None,
                    message: format!("`{}` has no input field `{name}`", self.handler),
                    help: Some(suggest::help(name, "fields here", fields.iter().copied())),
                    weight: 2,
                    constant: None,
                }),
            }
        }
        let mut missing: Vec<&str> = Vec::new();
        for name in view.iter().filter_map(|part| part.get("required")?.as_array()).flatten().filter_map(Value::as_str)
        {
            if !members.iter().any(|(member, _)| *member == name) && !missing.contains(&name) {
                missing.push(name);
            }
        }
        if !missing.is_empty() {
            let quoted: Vec<String> = missing.iter().map(|n| format!("`{n}`")).collect();
            let (what, are) = if missing.len() == 1 { ("input field", "is") } else { ("input fields", "are") };
            problems.push(Problem {
                code: FindingCode::MissingInputField,
                pointer: at.to_owned(),
                at_key: true,
                range: None,
                message: format!("{what} {} of `{}` {are} missing", suggest::list(&quoted), self.handler),
                help: None,
                weight: missing.len(),
                constant: None,
            });
        }
        problems
    }

    fn list(&mut self, items: &[Shape], view: &View<'_>, root: &Value, at: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        for part in view {
            let Some(schema) = part.get("items") else { continue };
            for (i, item) in items.iter().enumerate() {
                problems.extend(self.value(item, Schema::new(schema, root), &format!("{at}/{i}")));
            }
        }
        let count = |key: &str| view.iter().find_map(|part| part.get(key).and_then(Value::as_u64));
        let wrong = match (count("minItems"), count("maxItems")) {
            (Some(least), _) if (items.len() as u64) < least => Some(format!("at least {least}")),
            (_, Some(most)) if (items.len() as u64) > most => Some(format!("at most {most}")),
            _ => None,
        };
        problems
            .extend(wrong.map(|wanted| misfit(at, format!("expected {wanted} items, found {}", items.len()), None)));
        problems
    }
}

/// The weight of a value of a kind that is not allowed at all.
const WRONG_KIND: usize = 1_000;

fn wrong_kind(shape: &Shape, pointer: &str, wanted: &str) -> Problem {
    let found = match shape {
        Shape::Literal(value) => kind_of(value),
        Shape::Text(_) => "a string",
        Shape::List(_) => "a list",
        Shape::Object(_) => "a map",
        Shape::Expression(_) => "an expression",
    };
    let help = match shape {
        Shape::Text(_) => {
            Some("Text around a template makes it a string; one whole `{{ ... }}` keeps its type.".into())
        }
        Shape::Literal(Value::String(text)) if !wanted.contains("string") && text.parse::<f64>().is_ok() => {
            Some("Leave out the quotes.".into())
        }
        Shape::Literal(Value::Number(_) | Value::Bool(_)) if wanted == "a string" => {
            Some("Put it in quotes.".to_owned())
        }
        _ => None,
    };
    Problem { weight: WRONG_KIND, ..misfit(pointer, format!("expected {wanted}, found {found}"), help) }
}

fn misfit(pointer: &str, message: String, help: Option<String>) -> Problem {
    Problem {
        code: FindingCode::WrongLiteral,
        pointer: pointer.to_owned(),
        at_key: false,
        range: None,
        message,
        help,
        weight: 5,
        constant: None,
    }
}

/// Judges a value that has no parts.
fn scalar(value: &Value, view: &View<'_>, pointer: &str) -> Option<Problem> {
    for part in view {
        if let Some(constant) = part.get("const").filter(|c| *c != value) {
            // Such a field usually says which branch of a union is meant, so it weighs more than the others.
            let problem = misfit(pointer, format!("expected {constant}, found {value}"), None);
            return Some(Problem { weight: 50, constant: Some(constant.to_string()), ..problem });
        }
        if let Some(Value::Array(choices)) = part.get("enum")
            && !choices.contains(value)
        {
            let words: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
            let help = match value.as_str() {
                Some(text) => suggest::help(text, "possible values", words.iter().copied()),
                None => {
                    let all: Vec<String> = choices.iter().map(|c| format!("`{c}`")).collect();
                    format!("The possible values are {}.", suggest::list(&all))
                }
            };
            return Some(misfit(pointer, format!("{value} is not one of the possible values"), Some(help)));
        }
        let keywords: Map<String, Value> =
            part.iter().filter(|(k, _)| KEYWORDS.contains(&k.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect();
        if !keywords.is_empty()
            && let Ok(validator) = jsonschema::validator_for(&Value::Object(keywords))
            && let Err(error) = validator.validate(value)
        {
            return Some(misfit(pointer, error.to_string(), None));
        }
    }
    None
}

fn has_choice(view: &View<'_>) -> bool {
    view.iter().any(|part| part.contains_key("const") || part.contains_key("enum"))
}

fn allows(view: &View<'_>, kind: &str) -> bool {
    view.iter().all(|part| types_of(part).is_none_or(|types| types.contains(&kind)))
}

fn allows_value(view: &View<'_>, value: &Value) -> bool {
    match value {
        Value::Null => allows(view, "null"),
        Value::Bool(_) => allows(view, "boolean"),
        Value::Number(n) => allows(view, "number") || ((n.is_i64() || n.is_u64()) && allows(view, "integer")),
        Value::String(_) => allows(view, "string"),
        Value::Array(_) => allows(view, "array"),
        Value::Object(_) => allows(view, "object"),
    }
}

/// Returns in words what the views allow: `a string or null`.
fn kinds(views: &[View<'_>]) -> String {
    let mut kinds: Vec<&str> = Vec::new();
    for part in views.iter().flatten() {
        for kind in types_of(part).unwrap_or_default() {
            if !kinds.contains(&a_kind(kind)) {
                kinds.push(a_kind(kind));
            }
        }
    }
    match kinds.as_slice() {
        [] => "another value".to_owned(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}
