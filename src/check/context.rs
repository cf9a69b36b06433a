//! What every rule looks at: the workflow with its calls resolved, and what is known of every value.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::facts::{self, Fact, Facts};
use super::infer::{self, Infer};
use super::paths::{Place, Scope};
use super::suggest::Suggestions;
use super::types::{Field, Items, Kind, Type};
use crate::definition::Loaded;
use crate::diag::Span;
use crate::dsl::document::{Document, Step};
use crate::dsl::tree::{Part, Tree, join};
use crate::handlers::contract::{Contract, Contracts};
use crate::names::PRIMARY;
use crate::plan::calls::{self, CallAt, MemberAt, Role};
use crate::plan::compile::condition_text;
use crate::template::{Expression, Template};

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
    /// What each of its ways to a result returns, once it was asked.
    outputs: OnceCell<Vec<(&'a str, Type<'a>)>>,
    /// What is known whenever it runs, once it was asked.
    facts: OnceCell<Facts>,
    /// What is being asked about it: steps that read each other are a finding of their own, and no end of questions.
    asked: Cell<u8>,
}

/// What can be asked about a step.
#[derive(Clone, Copy)]
enum Question {
    Item = 1,
    Facts = 2,
    Output = 4,
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
    /// The schema of the input, with the files that it refers to.
    pub input_schema: Option<&'a Value>,
    pub config: &'a Value,
    pub steps: Vec<StepAt<'a>>,
    pub index: HashMap<&'a str, usize>,
    pub finally: Vec<CallAt<'a>>,
    /// The defaults of handlers that no step calls; those of the others are looked at where they are used.
    pub unused_defaults: Vec<DefaultsAt<'a>>,
    pub suggestions: Suggestions,
    /// How many questions about steps are being answered inside each other.
    asking: Cell<usize>,
}

/// Questions about steps inside each other; steps can pass values on in long chains, and in circles.
const ASKING_MAX: usize = 24;

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
                StepAt {
                    name,
                    step,
                    at,
                    members,
                    outputs: OnceCell::new(),
                    facts: OnceCell::new(),
                    asked: Cell::new(0),
                }
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
            input_schema: loaded.input_schema.as_ref(),
            asking: Cell::new(0),
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

    /// Returns what the items of a step's `foreach` are.
    pub fn item_type(&self, i: usize) -> Type<'a> {
        let step = self.steps[i].step;
        let Some(expression) = step.foreach.as_ref().and_then(|text| Expression::parse(text).ok()) else {
            return Type::Any;
        };
        let list = self.ask(i, Question::Item, || {
            let scope = Scope { facts: self.facts(i), ..Scope::of(Place::Step, Some(i)) };
            Infer::new(self, &scope, "").quiet(expression.node())
        });
        match list.map(|list| list.items()) {
            Some(Items::Known(item)) => item,
            _ => Type::Any,
        }
    }

    /// Returns what is known whenever a step runs: that its `when` holds, and that of steps whose output it asks for.
    pub fn facts(&self, i: usize) -> Facts {
        if let Some(known) = self.steps[i].facts.get() {
            return known.clone();
        }
        let when = self.steps[i].step.when.as_ref();
        let Some(when) = when.and_then(|when| Expression::parse(&condition_text(when)).ok()) else {
            return Facts::default();
        };
        let own = Facts::default().and(facts::of(when.node(), true));
        let Some(all) = self.ask(i, Question::Facts, || {
            own.iter()
                .filter_map(|fact| self.ran(fact, i))
                .fold(own.clone(), |all, step| all.and(self.facts(step).iter().cloned().collect()))
        }) else {
            return own;
        };
        self.steps[i].facts.get_or_init(|| all).clone()
    }

    /// Returns the step that must have run if a fact is to hold.
    fn ran(&self, fact: &Fact, asking: usize) -> Option<usize> {
        let (path, ran) = match fact {
            Fact::Defined(path) | Fact::NotNull(path) | Fact::NoneOf(path, _) => {
                (path, path.get(2).is_some_and(|f| f == "output" || f == "via"))
            }
            Fact::OneOf(path, values) => {
                let succeeded = values.iter().all(|value| value == "succeeded");
                (path, path.get(2).is_some_and(|f| f == "output" || f == "via" || (f == "status" && succeeded)))
            }
        };
        let step = *self.index.get(path.get(1)?.as_str()).filter(|_| path[0] == "steps" && ran)?;
        (step != asking).then_some(step)
    }

    /// Answers a question about a step, unless it leads through too many others.
    fn ask<T>(&self, step: usize, question: Question, answer: impl FnOnce() -> T) -> Option<T> {
        let (depth, asked) = (self.asking.get(), &self.steps[step].asked);
        if depth >= ASKING_MAX || asked.get() & question as u8 != 0 {
            return None;
        }
        asked.set(asked.get() | question as u8);
        self.asking.set(depth + 1);
        let answer = answer();
        self.asking.set(depth);
        asked.set(asked.get() & !(question as u8));
        Some(answer)
    }

    /// Returns what each of a step's ways to a result returns, with the name of its member.
    pub fn members_output(&self, i: usize) -> Vec<(&'a str, Type<'a>)> {
        if let Some(known) = self.steps[i].outputs.get() {
            return known.clone();
        }
        let at = &self.steps[i];
        let found = if let Some(wait) = &at.step.wait {
            let schema = self.tree.value().pointer(&join(&join(&at.at, "wait"), "schema"));
            Some(vec![(
                PRIMARY,
                match (&wait.signal, schema) {
                    (Some(_), Some(schema)) => Type::of(schema),
                    (Some(_), None) => Type::Any,
                    (None, _) => Type::Kind(Kind::Null),
                },
            )])
        } else {
            self.ask(i, Question::Output, || at.members.iter().map(|m| (m.name, self.member_output(i, m))).collect())
        };
        match found {
            Some(found) => at.outputs.get_or_init(|| found).clone(),
            None => vec![(PRIMARY, Type::Any)],
        }
    }

    /// Returns the type of a step's output, if its ways to a result return these.
    pub fn output_of(&self, i: usize, members: Vec<Type<'a>>) -> Type<'a> {
        let one = Type::union(members);
        if self.steps[i].step.foreach.is_some() { Type::list(one) } else { one }
    }

    fn member_output(&self, i: usize, member: &MemberAt<'a>) -> Type<'a> {
        // A handler that is not known may return anything.
        let Some(contract) = self.contract(member.call.uses) else { return Type::Any };
        let Some(with) = member.call.with.as_ref().filter(|_| member.call.uses == PASS) else {
            return Type::of(&contract.output);
        };
        let (template, errors) = Template::parse(with.value);
        if !errors.is_empty() {
            return Type::Any;
        }
        infer::shape(self, &self.scope_of_member(i, member), template.shape())
    }

    /// Returns what the `with` of a member can read.
    pub fn scope_of_member(&self, i: usize, member: &MemberAt<'a>) -> Scope<'a> {
        let place = if member.call.role == Role::Fallback { Place::FallbackWith } else { Place::With };
        let mut scope = Scope { facts: self.facts(i), ..Scope::of(place, Some(i)) };
        scope.item = self.item_of(i);
        if let Some(when) = member.when.as_ref().and_then(|when| Expression::parse(&condition_text(when.value)).ok()) {
            scope.facts = scope.facts.and(facts::of(when.node(), true));
        }
        scope
    }

    /// Returns the name and type of the item inside a step with `foreach`.
    pub fn item_of(&self, i: usize) -> Option<(&'a str, Type<'a>)> {
        let step = self.steps[i].step;
        let name = step.as_.as_deref().unwrap_or("item");
        if step.foreach.is_some() {
            Some((name, self.item_type(i)))
        } else {
            self.left_out(&join(&self.steps[i].at, "foreach")).then_some((name, Type::Any))
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
            let index = self.index.get(step.name)?;
            let all = self.members_output(*index).iter().map(|(_, type_)| type_.clone()).collect();
            return Some(self.output_of(*index, all));
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

/// The built-in handler that returns its input.
pub(super) const PASS: &str = "core.pass";
