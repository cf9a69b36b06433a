//! Whether the value of an expression fits the field that it is given to, and where each side says so.
//!
//! The types come from `infer`, and whether they fit from `types`; here is what to point at and what to say.

use std::ops::Range;

use serde_json::Value;

use super::context::{Context, PASS};
use super::facts::{self, Facts};
use super::infer::Infer;
use super::paths::Scope;
use super::suggest;
use super::types::{Degree, Misfit, Schema, fits};
use crate::plan::calls::MemberAt;
use crate::template::syntax::{Kind, Node};
use crate::template::{Expression, path};

/// Characters of an expression that a message repeats.
const SHOWN_MAX: usize = 60;

/// What is wrong with the value of an expression.
pub(super) struct Wrong {
    /// Where in the string.
    pub range: Range<usize>,
    /// Whether it goes well on some paths.
    pub sometimes: bool,
    /// What was expected and what it is.
    pub message: String,
    /// Where both sides say so.
    pub help: String,
}

/// Holds an expression against the schema of the field `field` of a handler's input.
pub(super) fn judge<'a>(
    cx: &Context<'a>,
    scope: &Scope<'a>,
    expression: &Expression,
    target: Schema<'_>,
    handler: &str,
    field: &str,
) -> Option<Wrong> {
    let whole = expression.node();
    let misfit = fits(&Infer::new(cx, scope, "").quiet(whole), target)?;
    let (node, part) =
        culprit(cx, scope, whole, scope.facts.clone(), target, 0).unwrap_or_else(|| (whole, misfit.clone()));
    let inner = part.path.join(".").replace(".[]", "[]");
    let shown = expression.source().get(node.range.clone()).unwrap_or("the expression");
    let what = if shown.chars().count() <= SHOWN_MAX { format!("`{shown}`") } else { "the expression".to_owned() };
    let of_it = if inner.is_empty() { what.clone() } else { format!("`{inner}` of {what}") };
    let sometimes = misfit.degree == Degree::Sometimes;
    let message = if sometimes && !matches!(node.kind, Kind::Literal(_)) {
        format!("expected {}, and {of_it} may be {}", part.expected, part.found)
    } else {
        format!("expected {}, found {}", part.expected, part.found)
    };
    let target_name = [field, inner.as_str()].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(".");
    let takes = match target_name.replace(".[]", "[]").as_str() {
        "" => format!("`{handler}` takes {} (its input schema)", part.expected),
        name => format!("`{handler}` takes `{name}` as {} (its input schema)", part.expected),
    };
    let is = if sometimes { "may be" } else { "is" };
    let infer = Infer::new(cx, scope, "");
    let by = path(node).map_or_else(String::new, |(names, _)| {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        format!(" by {}", place(&infer, &names))
    });
    // What is written out says itself what it is.
    let mut help = match &node.kind {
        Kind::Literal(_) => format!("{takes}."),
        _ => format!("{takes}; {of_it} {is} {}{by}.", part.found),
    };
    if sometimes && part.found == "null" && inner.is_empty() && path(node).is_some() {
        help.push_str(" Say what to take instead, `default(..., true)`, or guard it by `is not none`.");
    } else if sometimes && part.found.contains("fraction") {
        help.push_str(" Make it whole: `| round | int`.");
    }
    Some(Wrong { range: node.range.clone(), sometimes, message, help })
}

/// Returns the branch of an expression that does not fit, and why.
fn culprit<'n, 'a>(
    cx: &Context<'a>,
    scope: &Scope<'a>,
    node: &'n Node,
    facts: Facts,
    target: Schema<'_>,
    depth: usize,
) -> Option<(&'n Node, Misfit)> {
    let here = Scope { facts: facts.clone(), ..scope.clone() };
    let misfit = fits(&Infer::new(cx, &here, "").quiet(node), target)?;
    let branches: Vec<(&'n Node, Facts)> = match &node.kind {
        Kind::If(parts) => {
            vec![(&parts.1, facts.and(facts::of(&parts.0, true))), (&parts.2, facts.and(facts::of(&parts.0, false)))]
        }
        Kind::Default(operand, other, _) => {
            let other = other.as_ref().map(|other| (&**other, facts.clone()));
            std::iter::once((&**operand, facts.clone())).chain(other).collect()
        }
        Kind::Or(sides) => vec![(&sides.0, facts.clone()), (&sides.1, facts.clone())],
        _ => Vec::new(),
    };
    let inner = branches.into_iter().filter(|_| depth < 8);
    let found = inner.filter_map(|(branch, facts)| culprit(cx, scope, branch, facts, target, depth + 1));
    let worst = found.reduce(|a, b| if b.1.degree > a.1.degree { b } else { a });
    Some(worst.unwrap_or((node, misfit)))
}

/// Says in words which schema tells of the fields of a path.
pub(super) fn origin(infer: &Infer<'_, '_>, names: &[String]) -> String {
    let cx = infer.cx;
    match names[0].as_str() {
        "input" => match cx.document.input.as_ref().and_then(|input| input.get("$ref")).and_then(Value::as_str) {
            Some(file) if !file.starts_with('#') => format!("`{file}`"),
            _ => "the input schema".to_owned(),
        },
        "config" => "the configuration".to_owned(),
        "steps" => {
            let Some(step) = names.get(1).and_then(|name| cx.index.get(name.as_str())) else {
                return "its schema".to_owned();
            };
            let at = &cx.steps[*step];
            if names.get(2).is_some_and(|field| field != "output") {
                return "what flowrun says of a step".to_owned();
            }
            if at.step.wait.is_some() {
                return format!("the `schema` of the signal that `{}` waits for", at.name);
            }
            output_of(at.name, &at.members)
        }
        "output" => match infer.scope.afterwards {
            Some(call) => format!("the output schema of `{}`", call.uses),
            None => "its schema".to_owned(),
        },
        "run" | "error" | "key" | "index" | "secrets" => "what flowrun gives".to_owned(),
        name if infer.scope.item.as_ref().is_some_and(|(item, _)| *item == name) => "the list of `foreach`".to_owned(),
        _ => "its schema".to_owned(),
    }
}

fn output_of(step: &str, members: &[MemberAt<'_>]) -> String {
    let mut handlers: Vec<String> = Vec::new();
    for member in members {
        let word = format!("`{}`", member.call.uses);
        if !handlers.contains(&word) {
            handlers.push(word);
        }
    }
    match handlers.as_slice() {
        [one] if *one == format!("`{PASS}`") => format!("the `with` of `{step}`"),
        [one] => format!("the output schema of {one}"),
        _ => format!("the output schemas of {}", suggest::list(&handlers)),
    }
}

/// Says in words where a schema tells of a path.
fn place(infer: &Infer<'_, '_>, names: &[String]) -> String {
    let origin = origin(infer, names);
    if names[0] != "input" || origin == "the input schema" {
        return origin;
    }
    let mut pointer = String::new();
    for name in &names[1..] {
        pointer.push_str("/properties/");
        pointer.push_str(name);
    }
    match infer.cx.input_schema.and_then(|schema| schema.pointer(&pointer)) {
        Some(_) if !pointer.is_empty() => format!("{origin}, {pointer}"),
        _ => origin,
    }
}
