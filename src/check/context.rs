//! What every rule looks at: the workflow with its calls resolved, and what is known of every value.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::suggest::Suggestions;
use super::types::{Field, Items, Type};
use crate::definition::Loaded;
use crate::diag::Span;
use crate::dsl::document::{Document, Step};
use crate::dsl::tree::{Part, Tree, join};
use crate::handlers::contract::{Contract, Contracts};
use crate::plan::calls::{self, CallAt, MemberAt};
use crate::template::Expression;

/// A step of the workflow.
pub(crate) struct StepAt<'a> {
    /// Its name.
    pub name: &'a str,
    /// What is written.
    pub step: &'a Step,
    /// Its JSON pointer.
    pub at: String,
    /// Its own call and its fallbacks.
    pub members: Vec<MemberAt<'a>>,
    /// What it returns.
    pub output: Type<'a>,
}

/// The calls that the defaults of a handler bring along.
pub(crate) struct DefaultsAt<'a> {
    /// The handler.
    pub handler: &'a str,
    /// Its `confirm` and `compensate`.
    pub calls: Vec<CallAt<'a>>,
}

/// The workflow, ready to be looked at.
pub(crate) struct Context<'a> {
    pub document: &'a Document,
    pub tree: &'a Tree,
    pub contracts: &'a Contracts,
    /// Whether parts of the file were left out because of errors in them.
    pub partial: bool,
    pub input: Type<'a>,
    pub config: &'a Value,
    pub steps: Vec<StepAt<'a>>,
    pub index: HashMap<&'a str, usize>,
    pub finally: Vec<CallAt<'a>>,
    /// The defaults of handlers that no step calls; those of the others are looked at where they are used.
    pub unused_defaults: Vec<DefaultsAt<'a>>,
    pub suggestions: Suggestions,
}

/// What an error looks like in templates.
pub(crate) static ERROR: LazyLock<Value> = LazyLock::new(|| {
    json!({ "type": "object", "properties": {
        "code": { "type": "string" }, "kind": { "type": "string" }, "message": { "type": "string" }, "details": true
    } })
});

/// What a step looks like in templates, its output left open.
pub(crate) static STEP: LazyLock<Value> = LazyLock::new(|| {
    json!({ "type": "object", "properties": {
        "status": { "type": "string" }, "output": true, "error": ERROR.clone(), "via": { "type": "string" }
    } })
});

/// What `run` looks like while the run goes on.
pub(crate) static RUN: LazyLock<Value> = LazyLock::new(|| {
    json!({ "type": "object", "properties": {
        "id": { "type": "string" }, "workflow": { "type": "string" }, "started_at": { "type": "string" }
    } })
});

/// What `run` looks like in `finally`.
pub(crate) static ENDED_RUN: LazyLock<Value> = LazyLock::new(|| {
    json!({ "type": "object", "properties": {
        "id": { "type": "string" }, "workflow": { "type": "string" }, "started_at": { "type": "string" },
        "status": { "type": "string" }, "compensation": { "type": "string" }, "error": ERROR.clone()
    } })
});

static NULL: LazyLock<Value> = LazyLock::new(|| json!({ "type": "null" }));
static TEXT: LazyLock<Value> = LazyLock::new(|| json!({ "type": "string" }));
static INTEGER: LazyLock<Value> = LazyLock::new(|| json!({ "type": "integer" }));

impl<'a> Context<'a> {
    /// Resolves the calls of a workflow.
    pub fn new(loaded: &'a Loaded, contracts: &'a Contracts) -> Self {
        let document = &loaded.parsed.document;
        let tree = &loaded.parsed.tree;
        let steps: Vec<StepAt<'a>> = document
            .steps
            .iter()
            .map(|(name, step)| {
                let members = calls::members(document, name, step);
                let at = join("/steps", name);
                let output = output_type(contracts, tree, step, &at, &members);
                StepAt { name, step, at, members, output }
            })
            .collect();
        let finally: Vec<CallAt<'a>> =
            document.finally.iter().map(|(name, step)| calls::finally_call(document, name, step)).collect();
        let called: std::collections::HashSet<&str> =
            steps.iter().flat_map(|s| s.members.iter().map(|m| m.call.uses)).collect();
        let unused_defaults = document
            .defaults
            .iter()
            .filter(|(handler, _)| !called.contains(handler.as_str()))
            .map(|(handler, policies)| DefaultsAt { handler, calls: calls::default_calls(document, handler, policies) })
            .collect();
        Self {
            document,
            tree,
            contracts,
            partial: loaded.parsed.partial,
            input: loaded.input_schema.as_ref().map_or(Type::Any, Type::of),
            config: &loaded.definition.config,
            suggestions: Suggestions::default(),
            index: steps.iter().enumerate().map(|(i, s)| (s.name, i)).collect(),
            steps,
            finally,
            unused_defaults,
        }
    }

    /// Returns what a handler declares.
    pub fn contract(&self, handler: &str) -> Option<&'a Contract> {
        self.contracts.get(handler).map(AsRef::as_ref)
    }

    /// Tells whether something stands in the file although the document lacks it, because of an error in it that was
    /// reported already.
    pub fn left_out(&self, pointer: &str) -> bool {
        self.partial && self.tree.has(pointer)
    }

    /// Returns the place of a key.
    pub fn key(&self, pointer: &str) -> Span {
        self.tree.span(pointer, Part::Key)
    }

    /// Returns the place of a value.
    pub fn value(&self, pointer: &str) -> Span {
        self.tree.span(pointer, Part::Value)
    }

    /// Returns all calls of handlers, in file order as far as defaults allow.
    pub fn calls(&self) -> impl Iterator<Item = &CallAt<'a>> {
        let steps = self.steps.iter().flat_map(|s| s.members.iter().flat_map(MemberAt::calls));
        steps.chain(&self.finally).chain(self.unused_defaults.iter().flat_map(|d| &d.calls))
    }

    /// Returns what the items of a step's `foreach` are; nothing is known of them unless it is one plain path.
    pub fn item_type(&self, step: &Step) -> Type<'a> {
        let Some(expression) = step.foreach.as_ref().and_then(|text| Expression::parse(text).ok()) else {
            return Type::Any;
        };
        match expression.references() {
            [path] if path.plain => match self.path_type(&path.path).map(|list| list.items()) {
                Some(Items::Known(item)) => item,
                _ => Type::Any,
            },
            _ => Type::Any,
        }
    }

    /// Returns the type of a path that begins with `input`, `config` or `steps`; nothing if there is no such path.
    pub fn path_type(&self, path: &[String]) -> Option<Type<'a>> {
        let (mut known, rest) = match path {
            [first, rest @ ..] if first == "input" => (self.input.clone(), rest),
            [first, rest @ ..] if first == "config" => (Type::Value(self.config), rest),
            [first, step, field, rest @ ..] if first == "steps" => {
                let step = &self.steps[*self.index.get(step.as_str())?];
                (self.step_field(step, field)?, rest)
            }
            _ => return None,
        };
        for name in rest {
            match known.field(name) {
                Field::Known(next) => known = next,
                Field::Absent(_) | Field::None(_) => return None,
            }
        }
        Some(known)
    }

    /// Returns the type of `steps.STEP.FIELD`.
    pub fn step_field(&self, step: &StepAt<'a>, field: &str) -> Option<Type<'a>> {
        if field == "output" {
            return Some(step.output.clone());
        }
        match Type::of(&STEP).field(field) {
            Field::Known(known) => Some(known),
            Field::Absent(_) | Field::None(_) => None,
        }
    }
}

/// The type of a text.
pub(crate) fn text_type() -> Type<'static> {
    Type::of(&TEXT)
}

/// The type of a whole number.
pub(crate) fn integer_type() -> Type<'static> {
    Type::of(&INTEGER)
}

fn output_type<'a>(
    contracts: &'a Contracts,
    tree: &'a Tree,
    step: &Step,
    at: &str,
    members: &[MemberAt<'a>],
) -> Type<'a> {
    let one = if let Some(wait) = &step.wait {
        match (&wait.signal, tree.value().pointer(&join(&join(at, "wait"), "schema"))) {
            (Some(_), Some(schema)) => Type::of(schema),
            (Some(_), None) => Type::Any,
            (None, _) => Type::of(&NULL),
        }
    } else {
        // One handler that is not known may return anything.
        let outputs: Option<Vec<_>> = members.iter().map(|m| member_output(contracts, m)).collect();
        outputs.map_or(Type::Any, Type::union)
    };
    if step.foreach.is_some() { Type::List(Box::new(one)) } else { one }
}

/// The built-in handler that returns its input.
const PASS: &str = "core.pass";

fn member_output<'a>(contracts: &'a Contracts, member: &MemberAt<'a>) -> Option<Type<'a>> {
    let contract = contracts.get(member.call.uses)?;
    match &member.call.with {
        Some(with) if member.call.uses == PASS => Some(Type::written(with.value)),
        _ => Some(Type::of(&contract.output)),
    }
}
