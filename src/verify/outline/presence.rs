//! Whether a part of an output is always there once there is an output.

use serde_json::{Map, Value};

use crate::check::types::Schema;
use crate::plan::{Action, Call, Plan, Wait};
use crate::template::Shape;

/// One of the objects that hold at once of a value.
type Part<'a> = &'a Map<String, Value>;

/// The built-in handler that returns its input.
const PASS: &str = "core.pass";

/// Tells of each member of a step whether its output always has a path; one answer for a wait.
pub(super) fn in_outputs(plan: &Plan, ix: usize, path: &[String]) -> Vec<bool> {
    let step = &plan.steps[ix];
    if path.is_empty() {
        return match &step.action {
            Action::Call(members) => vec![true; members.len()],
            Action::Wait(_) => vec![true],
        };
    }
    match &step.action {
        // A list has no names in it.
        Action::Call(members) if step.foreach.is_some() => vec![false; members.len()],
        Action::Call(members) => members.iter().map(|member| in_output(&member.call, path)).collect(),
        Action::Wait(Wait::Signal { schema: Some(schema), .. }) => vec![in_schema(schema, path)],
        Action::Wait(_) => vec![false],
    }
}

/// Tells whether what a member returns, for an item where there are items, always has a path.
pub(super) fn in_member(plan: &Plan, ix: usize, member: usize, path: &[String]) -> bool {
    match &plan.steps[ix].action {
        Action::Call(members) => path.is_empty() || in_output(&members[member].call, path),
        Action::Wait(_) => false,
    }
}

fn in_output(call: &Call, path: &[String]) -> bool {
    if call.handler == PASS {
        return in_shape(call.with.shape(), path);
    }
    call.contract.as_ref().is_some_and(|contract| in_schema(&contract.output, path))
}

/// Tells whether each input of a workflow has a path.
pub(super) fn in_input(plan: &Plan, path: &[String]) -> bool {
    path.is_empty() || plan.input_schema.as_ref().is_some_and(|schema| in_schema(schema, path))
}

fn in_shape(shape: &Shape, path: &[String]) -> bool {
    let [name, rest @ ..] = path else { return true };
    match shape {
        Shape::Object(members) => {
            members.iter().find(|(key, _)| key == name).is_some_and(|(_, shape)| in_shape(shape, rest))
        }
        Shape::Literal(value) => path.iter().try_fold(value, |value, name| value.get(name.as_str())).is_some(),
        Shape::Expression(_) | Shape::Text(_) | Shape::List(_) => false,
    }
}

fn in_schema(root: &Value, path: &[String]) -> bool {
    always(Schema::new(root, root), path)
}

fn always(schema: Schema<'_>, path: &[String]) -> bool {
    let [name, rest @ ..] = path else { return true };
    let Some(views) = schema.views() else { return false };
    let is_object = |part: &Part<'_>| part.get("type").is_some_and(|kind| kind == "object");
    let requires = |part: &Part<'_>| {
        let names = part.get("required").and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|known| known == name.as_str()))
    };
    let goes_on = |part: &Part<'_>| {
        let field = part.get("properties").and_then(|properties| properties.get(name));
        field.is_some_and(|field| always(Schema::new(field, schema.root), rest))
    };
    !views.is_empty()
        && views.iter().all(|view| {
            view.iter().any(is_object) && view.iter().any(requires) && (rest.is_empty() || view.iter().any(goes_on))
        })
}
