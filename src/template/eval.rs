//! The value of an expression or text in a scope.
//!
//! A path that is missing is a value of its own kind here. It can be looked into (and stays missing), given to
//! `default` and asked whether it is defined; whatever else is done with it is the error that it carries.

use std::ops::Range;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::budget::{Budget, Fault, NODE};
use super::filters::{Given, Outcome};
use super::syntax::{Arguments, For, Kind, MathOp, Node, Part, STEP_FIELDS};
use super::value::{self, kind, truth};
use super::{Scope, StepScope, TemplateError};
use crate::names::StepName;
use crate::suggest::nearest;
use crate::teeth::{Bug, awake};

/// What an expression gives while it is evaluated.
#[derive(Clone, Debug)]
enum Val<'a> {
    /// A part of the scope or of the template, not copied.
    Ref(&'a Value),
    /// Something that was computed.
    Own(Rc<Value>),
    /// `steps`
    Steps,
    /// `steps.NAME`
    Step(&'a str, &'a StepScope),
    /// `secrets`
    Secrets,
    /// A path that is missing, and what to say if it is used.
    Missing(Box<TemplateError>),
}

/// A value that is there.
enum Datum<'a> {
    Ref(&'a Value),
    Own(Rc<Value>),
}

impl Datum<'_> {
    fn get(&self) -> &Value {
        match self {
            Self::Ref(value) => value,
            Self::Own(value) => value,
        }
    }
}

impl<'a> From<Datum<'a>> for Val<'a> {
    fn from(datum: Datum<'a>) -> Self {
        match datum {
            Datum::Ref(value) => Self::Ref(value),
            Datum::Own(value) => Self::Own(value),
        }
    }
}

fn own<'a>(value: Value) -> Val<'a> {
    Val::Own(Rc::new(value))
}

/// One evaluation.
pub(super) struct Machine<'a, 'b> {
    source: &'a str,
    scope: &'a Scope,
    budget: &'b mut Budget,
    locals: Vec<(&'a str, Val<'a>)>,
    captured: usize,
}

impl<'a, 'b> Machine<'a, 'b> {
    pub fn new(source: &'a str, scope: &'a Scope, budget: &'b mut Budget) -> Self {
        Self { source, scope, budget, locals: Vec::new(), captured: 0 }
    }

    /// Returns the value of a whole expression.
    pub fn result(mut self, node: &'a Node) -> Result<Value, TemplateError> {
        let datum = self.present(node)?;
        self.budget.result(datum.get()).map_err(|fault| fault.at(&node.range))?;
        Ok(match datum {
            Datum::Ref(value) => value.clone(),
            Datum::Own(value) => Rc::unwrap_or_clone(value),
        })
    }

    /// Whether a whole expression holds.
    pub fn holds(mut self, node: &'a Node) -> Result<bool, TemplateError> {
        self.condition(node)
    }

    /// Returns a text with everything filled in.
    pub fn text(mut self, parts: &'a [Part]) -> Result<String, TemplateError> {
        let mut out = String::new();
        self.parts(parts, &mut out)?;
        Ok(out)
    }

    fn parts(&mut self, parts: &'a [Part], out: &mut String) -> Result<(), TemplateError> {
        let depth = self.locals.len();
        for part in parts {
            match part {
                Part::Text(text) => self.print(text, &(0..0), out)?,
                Part::Print(node) => {
                    let datum = self.present(node)?;
                    match datum.get() {
                        Value::String(text) => self.print(text, &node.range, out)?,
                        value => {
                            let text = value::text(self.budget, value).map_err(|fault| fault.at(&node.range))?;
                            self.print(&text, &node.range, out)?;
                        }
                    }
                }
                Part::If(test, then, otherwise) => {
                    let holds = self.condition(test)?;
                    self.parts(if holds { then } else { otherwise }, out)?;
                }
                Part::For(each) => self.each(each, out)?,
                Part::Set(name, node) => {
                    let value = self.present(node)?.into();
                    self.locals.push((name, value));
                }
                Part::Capture(name, body) => {
                    let mut text = String::new();
                    self.captured += 1;
                    self.parts(body, &mut text)?;
                    self.captured -= 1;
                    self.locals.push((name, own(Value::String(text))));
                }
                Part::With(names, body) => {
                    let outside = self.locals.len();
                    for (name, node) in names {
                        let value = self.present(node)?.into();
                        self.locals.push((name, value));
                    }
                    self.parts(body, out)?;
                    self.locals.truncate(outside);
                }
            }
        }
        self.locals.truncate(depth);
        Ok(())
    }

    /// Appends to a text, after it was paid for.
    fn print(&mut self, text: &str, range: &Range<usize>, out: &mut String) -> Result<(), TemplateError> {
        let paid = self.budget.string(text.len()).and_then(|()| {
            if self.captured == 0 {
                self.budget.rendered(text.len())
            } else {
                self.budget.string_fits(out.len() + text.len())
            }
        });
        paid.map_err(|fault| fault.at(range))?;
        out.push_str(text);
        Ok(())
    }

    fn each(&mut self, each: &'a For, out: &mut String) -> Result<(), TemplateError> {
        let datum = self.present(&each.iter)?;
        let mut items = self.items(datum, &each.iter)?;
        let outside = self.locals.len();
        if let Some(filter) = &each.filter {
            let mut kept = Vec::new();
            for item in items {
                self.bind(each, item.clone())?;
                if self.condition(filter)? {
                    kept.push(item);
                }
                self.locals.truncate(outside);
            }
            items = kept;
        }
        let count = items.len();
        if count == 0 {
            return self.parts(&each.otherwise, out);
        }
        for (index, item) in items.into_iter().enumerate() {
            self.spend(NODE, &each.iter)?;
            self.bind(each, item)?;
            let state = serde_json::json!({
                "index": index + 1, "index0": index, "first": index == 0, "last": index + 1 == count, "length": count,
                "revindex": count - index, "revindex0": count - index - 1,
            });
            self.locals.push(("loop", own(state)));
            self.parts(&each.body, out)?;
            self.locals.truncate(outside);
        }
        Ok(())
    }

    /// Returns the items of a list, or the keys of an object.
    fn items(&mut self, datum: Datum<'a>, node: &'a Node) -> Result<Vec<Val<'a>>, TemplateError> {
        let wrong = |value: &Value| {
            Err(TemplateError::new(
                format!("`{}` is {}, not a list", self.written(node), kind(value)),
                node.range.clone(),
            ))
        };
        let (count, items): (usize, Vec<Val<'a>>) = match datum {
            Datum::Ref(Value::Array(items)) => (items.len(), items.iter().map(Val::Ref).collect()),
            Datum::Ref(Value::Object(members)) => {
                (members.len(), members.keys().map(|key| own(Value::String(key.clone()))).collect())
            }
            Datum::Ref(value) => return wrong(value),
            Datum::Own(value) => match &*value {
                Value::Array(items) => {
                    let copies = items.iter().map(|item| Ok(own(self.budget.copy(item)?)));
                    let copies = copies.collect::<Result<_, Fault>>().map_err(|fault| fault.at(&node.range))?;
                    (items.len(), copies)
                }
                Value::Object(members) => {
                    (members.len(), members.keys().map(|key| own(Value::String(key.clone()))).collect())
                }
                value => return wrong(value),
            },
        };
        self.budget.items(count).map_err(|fault| fault.at(&node.range))?;
        Ok(items)
    }

    fn bind(&mut self, each: &'a For, item: Val<'a>) -> Result<(), TemplateError> {
        if let [name] = each.names.as_slice() {
            self.locals.push((name, item));
            return Ok(());
        }
        let Ok(datum) = self.there(item, &each.iter) else { return Ok(()) };
        let parts = self.items(datum, &each.iter)?;
        if parts.len() != each.names.len() {
            let message =
                format!("an item has {} parts and there are {} names for them", parts.len(), each.names.len());
            return Err(TemplateError::new(message, each.iter.range.clone())
                .with_help("To go over an object write `for key, value in x | items`.".to_owned()));
        }
        self.locals.extend(each.names.iter().map(String::as_str).zip(parts));
        Ok(())
    }

    fn condition(&mut self, node: &'a Node) -> Result<bool, TemplateError> {
        Ok(truth(self.present(node)?.get()))
    }

    fn spend(&mut self, units: u64, node: &Node) -> Result<(), TemplateError> {
        self.budget.spend(units).map_err(|fault| fault.at(&node.range))
    }

    fn written(&self, node: &Node) -> &'a str {
        self.source.get(node.range.clone()).unwrap_or("the value")
    }

    /// Evaluates a node whose value has to be there.
    fn present(&mut self, node: &'a Node) -> Result<Datum<'a>, TemplateError> {
        let val = self.eval(node)?;
        self.there(val, node)
    }

    fn there(&mut self, val: Val<'a>, node: &'a Node) -> Result<Datum<'a>, TemplateError> {
        match val {
            Val::Ref(value) => Ok(Datum::Ref(value)),
            Val::Own(value) => Ok(Datum::Own(value)),
            Val::Missing(_) if awake(Bug::UndefinedRendersEmpty) => Ok(Datum::Own(Rc::new("".into()))),
            Val::Missing(error) => Err(*error),
            Val::Step(_, step) => {
                let mut members = Map::new();
                members.insert("status".to_owned(), step.status.into());
                for (name, part) in [("output", &step.output), ("error", &step.error)] {
                    if let Some(part) = part {
                        members.insert(name.to_owned(), self.budget.copy(part).map_err(|fault| fault.at(&node.range))?);
                    }
                }
                if let Some(via) = &step.via {
                    members.insert("via".to_owned(), via.as_str().into());
                }
                Ok(Datum::Own(Rc::new(Value::Object(members))))
            }
            Val::Steps => Err(TemplateError::new("`steps` cannot be used as a whole", node.range.clone())
                .with_help("Name one step: `steps.NAME.output`.".to_owned())),
            Val::Secrets => Err(TemplateError::new("`secrets` cannot be used as a whole", node.range.clone())
                .with_help("Name one secret: `secrets.NAME`.".to_owned())),
        }
    }

    fn eval(&mut self, node: &'a Node) -> Result<Val<'a>, TemplateError> {
        self.spend(NODE, node)?;
        let fail = |fault: Fault| fault.at(&node.range);
        Ok(match &node.kind {
            Kind::Literal(value) => Val::Ref(value),
            Kind::Name(name) => self.name(name, node),
            Kind::Member(base, name, at) => {
                let val = self.eval(base)?;
                self.member(val, name, at, base, node)?
            }
            Kind::Item(base, index) => {
                let val = self.eval(base)?;
                let index_value = self.present(index)?;
                match index_value.get() {
                    Value::String(name) => self.member(val, name, &index.range, base, node)?,
                    index_value => self.item(val, index_value, index, base, node)?,
                }
            }
            Kind::Slice(base, bounds) => self.slice(base, bounds, node)?,
            Kind::Not(operand) => own(Value::Bool(!self.condition(operand)?)),
            Kind::Negate(operand) => {
                let datum = self.present(operand)?;
                let negated = value::math(self.budget, MathOp::Subtract, &Value::from(0), datum.get()).map_err(fail)?;
                // Zero minus zero has no sign, minus a float zero has.
                match (datum.get().as_f64(), datum.get().is_f64()) {
                    (Some(float), true) => own(value::float(-float).map_err(fail)?),
                    _ => own(negated),
                }
            }
            Kind::And(sides) => {
                let left = self.present(&sides.0)?;
                if truth(left.get()) { self.present(&sides.1)?.into() } else { left.into() }
            }
            Kind::Or(sides) => {
                let left = self.present(&sides.0)?;
                if truth(left.get()) { left.into() } else { self.present(&sides.1)?.into() }
            }
            Kind::Math(op, sides, at) => {
                let left = self.present(&sides.0)?;
                let right = self.present(&sides.1)?;
                let at = if at.is_empty() { &node.range } else { at };
                own(value::math(self.budget, *op, left.get(), right.get()).map_err(|fault| {
                    let range = if fault.limit { &node.range } else { at };
                    fault.at(range)
                })?)
            }
            Kind::Compare(first, rest) => {
                let mut left = self.present(first)?;
                for (op, right) in rest {
                    let right = self.present(right)?;
                    if !value::compare(self.budget, *op, left.get(), right.get()).map_err(fail)? {
                        return Ok(own(Value::Bool(false)));
                    }
                    left = right;
                }
                own(Value::Bool(true))
            }
            Kind::If(branches) => {
                let branch = if self.condition(&branches.0)? { &branches.1 } else { &branches.2 };
                self.eval(branch)?
            }
            Kind::Default(operand, other, lax) => {
                let val = self.eval(operand)?;
                let falls_back = match &val {
                    Val::Missing(_) => true,
                    _ => match lax {
                        Some(lax) if self.condition(lax)? => !truth(self.there(val.clone(), operand)?.get()),
                        _ => false,
                    },
                };
                match other {
                    Some(other) if falls_back => self.eval(other)?,
                    _ => val,
                }
            }
            Kind::Defined(operand, expected) => {
                let val = self.eval(operand)?;
                own(Value::Bool(matches!(val, Val::Missing(_)) != *expected))
            }
            Kind::Filter(operand, filter, args) => {
                let input = self.present(operand)?;
                let arguments = self.arguments(args)?;
                let given = Given::bind(filter.params, filter.rest, &arguments.0, &arguments.1);
                match (filter.apply)(self.budget, input.get(), &given).map_err(fail)? {
                    Outcome::Value(value) => own(value),
                    Outcome::Same => input.into(),
                    Outcome::Missing(message) => Val::Missing(Box::new(
                        TemplateError::new(message, node.range.clone()).with_help(default_help()),
                    )),
                }
            }
            Kind::Test(operand, test, args) => {
                let input = self.present(operand)?;
                let arguments = self.arguments(args)?;
                let argument = arguments.0.first().map(|argument| &**argument);
                own(Value::Bool((test.apply)(self.budget, input.get(), argument).map_err(fail)?))
            }
            Kind::Range(args) => self.range(args, node)?,
            Kind::List(nodes) => {
                let mut items = Vec::new();
                for item in nodes {
                    let item = self.present(item)?;
                    items.push(self.budget.copy(item.get()).map_err(fail)?);
                }
                own(Value::Array(items))
            }
            Kind::Map(entries) => {
                let mut members = Map::new();
                for (key, entry) in entries {
                    let name = self.present(key)?;
                    let Value::String(name) = name.get() else {
                        let message = format!("a key has to be a string, and this is {}", kind(name.get()));
                        return Err(TemplateError::new(message, key.range.clone()));
                    };
                    let entry = self.present(entry)?;
                    members.insert(name.clone(), self.budget.copy(entry.get()).map_err(fail)?);
                }
                own(Value::Object(members))
            }
        })
    }

    /// Evaluates arguments: the positional ones, and the named ones.
    #[expect(clippy::type_complexity, reason = "it is taken apart at once")]
    fn arguments(&mut self, args: &'a Arguments) -> Result<(Vec<Rc<Value>>, Vec<(&'a str, Rc<Value>)>), TemplateError> {
        let mut take = |node: &'a Node| {
            Ok(match self.present(node)? {
                Datum::Ref(value) => Rc::new(self.budget.copy(value).map_err(|fault| fault.at(&node.range))?),
                Datum::Own(value) => value,
            })
        };
        let positional = args.positional.iter().map(&mut take).collect::<Result<_, TemplateError>>()?;
        let named = args
            .named
            .iter()
            .map(|(name, node)| Ok((name.as_str(), take(node)?)))
            .collect::<Result<_, TemplateError>>()?;
        Ok((positional, named))
    }

    fn name(&self, name: &'a str, node: &Node) -> Val<'a> {
        if let Some((_, val)) = self.locals.iter().rev().find(|(local, _)| *local == name) {
            return val.clone();
        }
        match name {
            "steps" => return Val::Steps,
            "secrets" => return Val::Secrets,
            _ => {}
        }
        if let Some(value) = self.scope.vars.get(name) {
            return Val::Ref(value);
        }
        let known = self.scope.vars.keys().map(|name| &**name).chain(["steps", "secrets"]);
        let help = if self.scope.steps.contains_key(name) {
            Some(format!("Did you mean `steps.{name}`?"))
        } else {
            match nearest(name, known) {
                Some(near) => Some(format!("Did you mean `{near}`?")),
                None => {
                    let vars: Vec<&str> = self.scope.vars.keys().map(|name| &**name).collect();
                    (!vars.is_empty()).then(|| format!("There are `steps` and `{}` here.", vars.join("`, `")))
                }
            }
        };
        missing(format!("`{name}` is not defined here"), help, &node.range)
    }

    fn member(
        &mut self,
        val: Val<'a>,
        name: &str,
        at: &Range<usize>,
        base: &'a Node,
        node: &'a Node,
    ) -> Result<Val<'a>, TemplateError> {
        let found = match &val {
            Val::Ref(Value::Object(members)) => members.get(name).map(Val::Ref),
            Val::Own(value) => match &**value {
                Value::Object(members) => match members.get(name) {
                    Some(member) => Some(own(self.budget.copy(member).map_err(|fault| fault.at(&node.range))?)),
                    None => None,
                },
                _ => None,
            },
            Val::Steps => self.scope.steps.get_key_value(name).map(|(name, step)| Val::Step(name.as_str(), step)),
            Val::Step(_, step) => match name {
                "status" => Some(own(step.status.into())),
                "output" => step.output.as_deref().map(Val::Ref),
                "error" => step.error.as_deref().map(Val::Ref),
                "via" => step.via.as_ref().map(|via| own(via.as_str().into())),
                _ => None,
            },
            Val::Secrets => self.scope.secrets.get(name).map(|text| own(text.as_str().into())),
            Val::Missing(_) => return Ok(val),
            Val::Ref(_) => None,
        };
        Ok(found.unwrap_or_else(|| self.no_member(&val, name, at, base, node)))
    }

    /// Says why there is no such member.
    fn no_member(&self, val: &Val<'a>, name: &str, at: &Range<usize>, base: &Node, node: &Node) -> Val<'a> {
        let (path, base) = (self.written(node), self.written(base));
        let (message, help) = match val {
            Val::Steps => {
                let near = nearest(name, self.scope.steps.keys().map(StepName::as_str));
                (format!("`{path}` is missing: there is no step `{name}` here"), near.map(did_you_mean))
            }
            Val::Step(step, scope) if STEP_FIELDS.contains(&name) => {
                (format!("`{path}` is missing because {}", why(step, scope, name)), Some(default_help()))
            }
            Val::Step(..) => {
                let help = nearest(name, STEP_FIELDS).map(did_you_mean);
                (format!("a step has no `{name}`, only `status`, `output`, `error` and `via`"), help)
            }
            Val::Secrets => {
                let near = nearest(name, self.scope.secrets.keys().map(String::as_str));
                let help = near.map_or_else(|| "List it under `secrets:` in the workflow.".to_owned(), did_you_mean);
                (format!("there is no secret `{name}`"), Some(help))
            }
            Val::Ref(_) | Val::Own(_) | Val::Missing(_) => {
                let value: &Value = match val {
                    Val::Ref(value) => value,
                    Val::Own(value) => value,
                    _ => &Value::Null,
                };
                match value {
                    Value::Object(members) => {
                        let help =
                            nearest(name, members.keys().map(String::as_str)).map_or_else(default_help, did_you_mean);
                        (format!("`{path}` is missing"), Some(help))
                    }
                    Value::Array(_) => (
                        format!("`{path}` is missing because `{base}` is a list"),
                        Some(format!(
                            "Take an item of it, `{base}[0]`, or a filter, `{base} | map(attribute='{name}')`."
                        )),
                    ),
                    other => (format!("`{path}` is missing because `{base}` is {}", kind(other)), Some(default_help())),
                }
            }
        };
        missing(message, help, at)
    }

    fn item(
        &mut self,
        val: Val<'a>,
        index: &Value,
        index_node: &'a Node,
        base: &'a Node,
        node: &'a Node,
    ) -> Result<Val<'a>, TemplateError> {
        if matches!(val, Val::Missing(_)) {
            return Ok(val);
        }
        let datum = self.there(val, base)?;
        let (path, base) = (self.written(node), self.written(base));
        let Value::Array(items) = datum.get() else {
            let message = format!("`{path}` is missing because `{base}` is {}", kind(datum.get()));
            return Ok(missing(message, Some(default_help()), &index_node.range));
        };
        let Some(index) = index.as_i64() else {
            let message = format!("an index of a list has to be an integer, and this is {}", kind(index));
            return Err(TemplateError::new(message, index_node.range.clone()));
        };
        let length = items.len();
        let wanted =
            if index < 0 { length.checked_sub(index.unsigned_abs() as usize) } else { usize::try_from(index).ok() };
        let Some(wanted) = wanted.filter(|wanted| *wanted < length) else {
            let count = if length == 1 { "1 item".to_owned() } else { format!("{length} items") };
            let message = format!("`{path}` is missing because `{base}` has {count}");
            return Ok(missing(message, Some(default_help()), &index_node.range));
        };
        Ok(match datum {
            Datum::Ref(Value::Array(items)) => Val::Ref(&items[wanted]),
            datum => {
                let item = self.budget.copy(&datum.get()[wanted]).map_err(|fault| fault.at(&node.range))?;
                own(item)
            }
        })
    }

    fn slice(
        &mut self,
        base: &'a Node,
        bounds: &'a [Option<Node>; 3],
        node: &'a Node,
    ) -> Result<Val<'a>, TemplateError> {
        let datum = self.present(base)?;
        let mut numbers = [None; 3];
        for (number, bound) in numbers.iter_mut().zip(bounds) {
            if let Some(bound) = bound {
                *number = Some(self.integer(bound)?);
            }
        }
        let step = numbers[2].unwrap_or(1);
        if step <= 0 {
            return Err(TemplateError::new("the step of a slice has to be positive", node.range.clone())
                .with_help("`| reverse` turns a list around.".to_owned()));
        }
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        let place = |number: Option<i64>, length: usize, otherwise: usize| match number {
            None => otherwise,
            Some(number) if number < 0 => {
                length.saturating_sub(usize::try_from(number.unsigned_abs()).unwrap_or(length))
            }
            Some(number) => usize::try_from(number).unwrap_or(length).min(length),
        };
        let fail = |fault: Fault| fault.at(&node.range);
        match datum.get() {
            Value::Array(items) => {
                let (start, stop) = (place(numbers[0], items.len(), 0), place(numbers[1], items.len(), items.len()));
                let kept = items.get(start..stop).unwrap_or_default().iter().step_by(step);
                let kept = kept.map(|item| self.budget.copy(item)).collect::<Result<_, _>>().map_err(fail)?;
                Ok(own(Value::Array(kept)))
            }
            Value::String(text) => {
                self.budget.string(text.len()).map_err(fail)?;
                let length = text.chars().count();
                let (start, stop) = (place(numbers[0], length, 0), place(numbers[1], length, length));
                let kept = text.chars().take(stop).skip(start).step_by(step).collect();
                Ok(own(Value::String(kept)))
            }
            other => {
                let message = format!("`{}` is {}, which has no slices", self.written(base), kind(other));
                Err(TemplateError::new(message, base.range.clone()))
            }
        }
    }

    fn integer(&mut self, node: &'a Node) -> Result<i64, TemplateError> {
        let datum = self.present(node)?;
        datum.get().as_i64().ok_or_else(|| {
            TemplateError::new(format!("this has to be an integer, and is {}", kind(datum.get())), node.range.clone())
        })
    }

    fn range(&mut self, args: &'a [Node], node: &'a Node) -> Result<Val<'a>, TemplateError> {
        let mut numbers = Vec::new();
        for arg in args {
            numbers.push(i128::from(self.integer(arg)?));
        }
        let (start, stop, step) = match numbers[..] {
            [stop] => (0, stop, 1),
            [start, stop] => (start, stop, 1),
            [start, stop, step, ..] => (start, stop, step),
            [] => (0, 0, 1),
        };
        if step == 0 {
            return Err(TemplateError::new("the step of a range cannot be 0", node.range.clone()));
        }
        let distance = if step > 0 { stop - start } else { start - stop };
        let count = if distance <= 0 { 0 } else { (distance + step.abs() - 1) / step.abs() };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.budget.items(count).map_err(|fault| fault.at(&node.range))?;
        let mut items = Vec::with_capacity(count);
        let mut next = start;
        for _ in 0..count {
            items.push(value::int(next).map_err(|fault| fault.at(&node.range))?);
            next += step;
        }
        Ok(own(Value::Array(items)))
    }
}

fn missing<'a>(message: String, help: Option<String>, at: &Range<usize>) -> Val<'a> {
    Val::Missing(Box::new(TemplateError::new(message, at.clone()).with_help(help)))
}

fn did_you_mean(near: &str) -> String {
    format!("Did you mean `{near}`?")
}

fn default_help() -> String {
    "If it may be missing, say what to take instead: `... | default(none)`.".to_owned()
}

/// Says why a step has no such field.
fn why(step: &str, scope: &StepScope, field: &str) -> String {
    match (field, scope.status) {
        (_, "skipped") => format!("step `{step}` was skipped"),
        ("error", "succeeded" | "compensated" | "compensating" | "compensation_failed") => {
            format!("step `{step}` did not fail")
        }
        (_, "failed") => format!("step `{step}` failed"),
        (_, "unknown") => format!("the outcome of step `{step}` is unknown"),
        (_, "" | "pending") => format!("step `{step}` did not run"),
        (_, status) => format!("step `{step}` is {status}"),
    }
}
