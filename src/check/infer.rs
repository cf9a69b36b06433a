//! The type of an expression: what is known of its value before the run.
//!
//! Walks the tree of a template with what is known of every name, and reports fields that do not exist and values that
//! may be missing. Whether the value fits where it goes is for `flow` to say. Where a value is not known, neither
//! is its type; no rule here guesses.

use std::ops::Range;
use std::rc::Rc;

use serde_json::Value;

use super::context::{Context, ENDED_RUN, ERROR, RUN, integer_type, text_type};
use super::facts::{self, Fact, Facts};
use super::paths::{Place, Scope};
use super::types::{Field, Items, Kind, Presence, Type};
use crate::diag::{Finding, FindingCode};
use crate::template::syntax::{Arguments, Kind as N, MathOp, Node, Part};
use crate::template::{Shape, known_filter, path, truth};

/// Finds out the types of the expressions of one string.
pub(super) struct Infer<'i, 'a> {
    /// The workflow.
    pub cx: &'i Context<'a>,
    /// What can be read.
    pub scope: &'i Scope<'a>,
    /// The JSON pointer of the string.
    pub pointer: &'i str,
    /// What was found on the way.
    pub findings: Vec<Finding>,
    /// The names that the text itself has set.
    locals: Vec<(String, Type<'a>)>,
}

impl<'i, 'a> Infer<'i, 'a> {
    /// Makes one for a string of the workflow.
    pub fn new(cx: &'i Context<'a>, scope: &'i Scope<'a>, pointer: &'i str) -> Self {
        Self { cx, scope, pointer, findings: Vec::new(), locals: Vec::new() }
    }

    /// Returns the type of a node.
    pub fn node(&mut self, node: &Node, facts: &Facts) -> Type<'a> {
        self.value(node, facts, false)
    }

    /// Looks at a text with templates in it.
    pub fn parts(&mut self, parts: &[Part], facts: &Facts) {
        let depth = self.locals.len();
        let mut facts = facts.clone();
        for part in parts {
            match part {
                Part::Text(_) => {}
                Part::Print(node) => {
                    self.node(node, &facts);
                }
                Part::If(test, then, otherwise) => {
                    self.node(test, &facts);
                    self.parts(then, &facts.and(facts::of(test, true)));
                    self.parts(otherwise, &facts.and(facts::of(test, false)));
                }
                Part::For(each) => {
                    let list = self.node(&each.iter, &facts);
                    let outside = self.locals.len();
                    let item = match (each.names.as_slice(), list.items()) {
                        ([_], Items::Known(item)) => item,
                        _ => Type::Any,
                    };
                    self.locals.extend(each.names.iter().map(|name| (name.clone(), item.clone())));
                    self.locals.push(("loop".to_owned(), Type::Any));
                    let mut inside = facts.clone();
                    if let Some(filter) = &each.filter {
                        self.node(filter, &facts);
                        inside = facts.and(facts::of(filter, true));
                    }
                    self.parts(&each.body, &inside);
                    self.locals.truncate(outside);
                    self.parts(&each.otherwise, &facts);
                }
                Part::Set(name, node) => {
                    let type_ = self.node(node, &facts);
                    // Whoever asks for a value under a name of its own may go by that name later.
                    facts = facts.and(facts::evaluated(node));
                    self.locals.push((name.clone(), type_));
                }
                Part::Capture(name, body) => {
                    self.parts(body, &facts);
                    self.locals.push((name.clone(), text_type()));
                }
                Part::With(names, body) => {
                    let outside = self.locals.len();
                    let mut inside = facts.clone();
                    for (name, node) in names {
                        let type_ = self.node(node, &inside);
                        inside = inside.and(facts::evaluated(node));
                        self.locals.push((name.clone(), type_));
                    }
                    self.parts(body, &inside);
                    self.locals.truncate(outside);
                }
            }
        }
        self.locals.truncate(depth);
    }

    /// Returns the type of a node; a guarded one may be missing.
    fn value(&mut self, node: &Node, facts: &Facts, guarded: bool) -> Type<'a> {
        match &node.kind {
            N::Literal(value) => Type::Literal(Rc::new(value.clone())),
            N::Name(_) | N::Member(..) => match path(node) {
                Some((names, ranges)) => {
                    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
                    self.path(&names, &ranges, facts, guarded)
                }
                None => match &node.kind {
                    N::Member(base, name, at) => {
                        let base_type = self.value(base, facts, guarded);
                        self.member(&base_type, name, at, guarded)
                    }
                    _ => Type::Any,
                },
            },
            N::Item(base, index) => {
                let base = self.value(base, facts, guarded);
                let index = self.node(index, facts);
                match (index.is_integer(), base.items()) {
                    (true, Items::Known(item)) => item,
                    _ => Type::Any,
                }
            }
            N::Slice(base, bounds) => {
                let base = self.node(base, facts);
                bounds.iter().flatten().for_each(|bound| {
                    self.node(bound, facts);
                });
                sliced(&base)
            }
            N::Not(inner) | N::Defined(inner, _) => {
                self.value(inner, facts, matches!(node.kind, N::Defined(..)));
                Type::Kind(Kind::Boolean)
            }
            N::Negate(inner) => {
                let inner = self.node(inner, facts);
                Type::Kind(if inner.is_integer() { Kind::Integer } else { Kind::Number })
            }
            N::And(sides) => {
                let left = self.node(&sides.0, facts);
                let right = self.node(&sides.1, &facts.and(facts::of(&sides.0, true)));
                if left.is_only("boolean") && right.is_only("boolean") {
                    return Type::Kind(Kind::Boolean);
                }
                Type::union(vec![falsy(&left), right])
            }
            N::Or(sides) => {
                let left = self.node(&sides.0, facts);
                let right = self.node(&sides.1, &facts.and(facts::of(&sides.0, false)));
                if left.is_only("boolean") && right.is_only("boolean") {
                    return Type::Kind(Kind::Boolean);
                }
                Type::union(vec![truthy(&left), right])
            }
            N::Math(op, sides, _) => {
                let left = self.node(&sides.0, facts);
                let right = self.node(&sides.1, facts);
                math(*op, &left, &right)
            }
            N::Compare(first, rest) => {
                self.node(first, facts);
                for (_, node) in rest {
                    self.node(node, facts);
                }
                Type::Kind(Kind::Boolean)
            }
            N::If(branches) => {
                self.node(&branches.0, facts);
                let then = self.value(&branches.1, &facts.and(facts::of(&branches.0, true)), guarded);
                let otherwise = self.value(&branches.2, &facts.and(facts::of(&branches.0, false)), guarded);
                Type::union(vec![then, otherwise])
            }
            N::Default(operand, other, lax) => {
                let type_ = self.value(operand, facts, true);
                let certain = path(operand).is_some_and(|(names, _)| {
                    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
                    self.is_certain(&names)
                });
                let falls_back = lax.as_ref().map(|lax| matches!(&lax.kind, N::Literal(v) if truth(v)));
                if let Some(lax) = lax {
                    self.node(lax, facts);
                }
                let missing = facts.and(self.without(operand));
                let other = other.as_ref().map_or(Type::Any, |other| self.value(other, &missing, guarded));
                match falls_back {
                    Some(true) => Type::union(vec![truthy(&type_), other]),
                    Some(false) => Type::Any,
                    None if certain => type_,
                    None => Type::union(vec![type_, other]),
                }
            }
            N::Filter(operand, filter, args) => {
                let type_ = self.node(operand, facts);
                for node in args.positional.iter().chain(args.named.iter().map(|(_, node)| node)) {
                    self.node(node, facts);
                }
                self.attribute(filter.name, &type_, args);
                filtered(filter.name, &type_, args)
            }
            N::Test(operand, _, args) => {
                self.node(operand, facts);
                args.positional.iter().for_each(|node| {
                    self.node(node, facts);
                });
                Type::Kind(Kind::Boolean)
            }
            N::Range(args) => {
                args.iter().for_each(|node| {
                    self.node(node, facts);
                });
                Type::list(Type::Kind(Kind::Integer))
            }
            N::List(items) => {
                let items = items.iter().map(|item| self.node(item, facts)).collect();
                Type::list(Type::union(items))
            }
            N::Map(entries) => {
                let mut fields: Option<Vec<(String, Type<'a>)>> = Some(Vec::new());
                for (key, value) in entries {
                    let value = self.node(value, facts);
                    match (&key.kind, &mut fields) {
                        (N::Literal(Value::String(name)), Some(fields)) => {
                            fields.retain(|(field, _)| field != name);
                            fields.push((name.clone(), value));
                        }
                        _ => {
                            self.node(key, facts);
                            fields = None;
                        }
                    }
                }
                fields.map_or(Type::Kind(Kind::Map), Type::map)
            }
        }
    }

    /// Returns the type of a path, and tells where on it something may be missing.
    fn path(&mut self, names: &[String], ranges: &[Range<usize>], facts: &Facts, guarded: bool) -> Type<'a> {
        let (mut known, from) = if let Some((_, local)) = self.locals.iter().rev().find(|(name, _)| *name == names[0]) {
            (local.clone(), 1)
        } else {
            // A name that does not exist is a finding of `paths`, and enough.
            let Some((root, from)) = self.root(names, facts) else { return Type::Any };
            if !exists(&root, &names[from..]) {
                if !guarded {
                    self.of_another(names, ranges, facts);
                }
                return Type::Any;
            }
            self.may_lack(names, ranges, facts, guarded);
            (root, from)
        };
        let is_local = self.locals.iter().any(|(name, _)| *name == names[0]);
        let mut silent = guarded;
        for i in from..names.len() {
            if facts.is_not_null(&names[..i]) {
                known = known.without_null();
            }
            let field = known.field(&names[i]);
            match field {
                Field::Known(next) => {
                    if !silent && !facts.is_defined(&names[..=i]) {
                        silent = self.lacking(&known, names, i, ranges, facts);
                    }
                    known = next;
                }
                _ if !is_local => return Type::Any,
                _ => {
                    self.no_field(&field, &names[..i].join("."), &names[i], &ranges[i]);
                    return Type::Any;
                }
            }
        }
        if let Some(values) = facts.one_of(names) {
            return Type::union(values.into_iter().map(|v| Type::Literal(Rc::new(v.clone()))).collect());
        }
        if facts.excludes_any(names) {
            // Which of its values are left is not followed.
            return if known.is_only("string") { Type::Kind(Kind::Text) } else { Type::Any };
        }
        if facts.is_not_null(names) { known.without_null() } else { known }
    }

    /// Reports a field that only those members of a step return which cannot have run here.
    fn of_another(&mut self, names: &[String], ranges: &[Range<usize>], facts: &Facts) {
        let anywhere = self.root(names, &Facts::default()).is_some_and(|(root, from)| exists(&root, &names[from..]));
        let Some((member, handler)) = self.member_without(names, 3, facts).filter(|_| anywhere) else { return };
        let message = format!(
            "`{}` is missing here: `{handler}`, which `{member}` calls, does not return it",
            names[..4].join("."),
        );
        let span = self.cx.tree.inside(self.pointer, ranges[3].clone());
        let finding = Finding::warning(FindingCode::MayBeMissing, span, message);
        self.findings.push(finding.help(format!("What holds here lets `steps.{}.via` be `{member}`.", names[1])));
    }

    /// Returns what is known when a field of a step's output is missing: which members can have returned it.
    fn without(&self, operand: &Node) -> Vec<Fact> {
        let Some((names, _)) = path(operand) else { return Vec::new() };
        let ["steps", step, "output", field, ..] = names.as_slice() else { return Vec::new() };
        let Some(index) = self.cx.index.get(step).filter(|index| self.scope.step != Some(**index)) else {
            return Vec::new();
        };
        let members = self.cx.members_output(*index);
        let some = members.iter().filter(|(_, type_)| type_.presence(field) != Presence::Always);
        let via: Vec<Value> = some.map(|(name, _)| Value::from(*name)).collect();
        if via.is_empty() || via.len() == members.len() {
            return Vec::new();
        }
        vec![Fact::OneOf(vec!["steps".to_owned(), (*step).to_owned(), "via".to_owned()], via)]
    }

    /// Returns what is known of the beginning of a path, and how many names that is.
    pub fn root(&self, names: &[String], facts: &Facts) -> Option<(Type<'a>, usize)> {
        let cx = self.cx;
        let scope = self.scope;
        Some(match names[0].as_str() {
            "input" => (cx.input.clone(), 1),
            "config" => (Type::Value(cx.config), 1),
            "run" if scope.place == Place::Finally => (Type::of(&ENDED_RUN), 1),
            "run" => (Type::of(&RUN), 1),
            "steps" => {
                let step = *cx.index.get(names.get(1)?.as_str())?;
                if scope.step == Some(step) {
                    return None;
                }
                match names.get(2).map(String::as_str) {
                    None => (Type::Kind(Kind::Map), 2),
                    Some("output") => {
                        let members = cx.members_output(step);
                        let via = [&names[..2], &["via".to_owned()]].concat();
                        let kept: Vec<Type<'a>> = members
                            .iter()
                            .filter(|(name, _)| facts.allows(&via, name))
                            .map(|(_, type_)| type_.clone())
                            .collect();
                        (cx.output_of(step, kept), 3)
                    }
                    Some(field) => (cx.step_field(&cx.steps[step], field)?, 3),
                }
            }
            "error" => (Type::of(&ERROR), 1),
            "output" => (scope.output.clone(), 1),
            "key" => (text_type(), 1),
            // Its text is filled in only when the handler is called, and judged there.
            "secrets" => (Type::Any, names.len()),
            "index" if scope.item.is_some() => (integer_type(), 1),
            name => match &scope.item {
                Some((item, known)) if *item == name => (known.clone(), 1),
                _ => return None,
            },
        })
    }

    /// Tells whether a path is always there.
    fn is_certain(&self, names: &[String]) -> bool {
        if matches!(names[0].as_str(), "steps" | "output" | "error") {
            return false;
        }
        let Some((mut known, from)) = self.root(names, &Facts::default()) else { return false };
        for name in &names[from..] {
            match known.field(name) {
                Field::Known(next) if known.presence(name) == Presence::Always => known = next,
                _ => return false,
            }
        }
        true
    }

    /// Tells that what a call returned, or why it failed, need not be there when it is undone.
    fn may_lack(&mut self, names: &[String], ranges: &[Range<usize>], facts: &Facts, guarded: bool) {
        let Some(call) = self.scope.afterwards.filter(|_| !guarded && !facts.is_defined(&names[..1])) else { return };
        let (message, help) = match (names[0].as_str(), call.undo) {
            ("output", true) => (
                format!(
                    "`output` may be missing: when the outcome of `{}` is unknown, it is undone without one",
                    call.uses
                ),
                "Give it a `default(...)`, guard it by `output is defined`, or undo by `key`, which is always there.",
            ),
            ("output", false) => (
                format!("`output` is missing: `confirm` is asked when `{}` gave no answer", call.uses),
                "Ask by `key`, or by what the call was given.",
            ),
            ("error", true) => (
                format!("`error` may be missing: `{}` may have succeeded before it is undone", call.uses),
                "Give it a `default(...)`, or guard it by `error is defined`.",
            ),
            _ => return,
        };
        let span = self.cx.tree.inside(self.pointer, ranges[0].clone());
        self.findings.push(Finding::warning(FindingCode::MayBeMissing, span, message).help(help));
    }

    /// Reports that the name at `i` need not be there; tells whether it did.
    fn lacking(
        &mut self,
        parent: &Type<'a>,
        names: &[String],
        i: usize,
        ranges: &[Range<usize>],
        facts: &Facts,
    ) -> bool {
        let presence = parent.presence(&names[i]);
        if matches!(presence, Presence::Always | Presence::Unsaid) {
            return false;
        }
        let whole = names[..=i].join(".");
        let above = names[..i].join(".");
        let (message, help) = match presence {
            Presence::OfNull => (
                format!("`{whole}` may be missing: `{above}` may be null"),
                format!("Give it a `default(...)`, or guard it by `{above} is not none`."),
            ),
            _ => match self.member_without(names, i, facts) {
                Some((member, handler)) => (
                    format!("`{whole}` may be missing: `{handler}`, which `{member}` calls, does not always return it"),
                    format!("Give it a `default(...)`, or guard it by `steps.{}.via`.", names[1]),
                ),
                None => (
                    format!("`{whole}` may be missing: {} does not require it", super::flow::origin(self, &names[..i])),
                    format!("Give it a `default(...)`, or guard it by `{whole} is defined`."),
                ),
            },
        };
        let span = self.cx.tree.inside(self.pointer, ranges[i].clone());
        self.findings.push(Finding::warning(FindingCode::MayBeMissing, span, message).help(help));
        true
    }

    /// Returns the member of a step, of several, that does not return a field which others do.
    fn member_without(&self, names: &[String], i: usize, facts: &Facts) -> Option<(&'a str, &'a str)> {
        let ["steps", step, "output"] = [names[0].as_str(), names.get(1)?, names.get(2)?] else { return None };
        names.get(i)?;
        let at = &self.cx.steps[*self.cx.index.get(step)?];
        if at.members.len() < 2 || i != 3 {
            return None;
        }
        let via = [&names[..2], &["via".to_owned()]].concat();
        let outputs = self.cx.members_output(self.cx.index[step]);
        let mut without = outputs.iter().filter(|(name, type_)| facts.allows(&via, name) && lacks(type_, &names[i]));
        let (name, _) = without.next()?;
        let member = at.members.iter().find(|m| m.name == *name)?;
        Some((member.name, member.call.uses))
    }

    /// Returns the type of a field of what is no path.
    fn member(&mut self, base: &Type<'a>, name: &str, at: &Range<usize>, guarded: bool) -> Type<'a> {
        let field = base.field(name);
        let Field::Known(known) = field else {
            self.no_field(&field, "the value", name, at);
            return Type::Any;
        };
        if !guarded && base.presence(name) == Presence::Optional {
            let span = self.cx.tree.inside(self.pointer, at.clone());
            let message = format!("`{name}` may be missing: its schema does not require it");
            let finding = Finding::warning(FindingCode::MayBeMissing, span, message);
            self.findings.push(finding.help("Give it a `default(...)`."));
        }
        known
    }

    fn no_field(&mut self, field: &Field<'a>, base: &str, name: &str, at: &Range<usize>) {
        let base = if base == "the value" { base.to_owned() } else { format!("`{base}`") };
        let span = self.cx.tree.inside(self.pointer, at.clone());
        let finding = match field {
            Field::Known(_) => return,
            Field::Absent(names) => {
                let message = format!("{base} has no field `{name}`");
                let names: Vec<&str> = names.iter().map(|name| &**name).collect();
                let help = self.cx.suggestions.help(name, &format!("fields of {base}"), names);
                Finding::error(FindingCode::UnknownField, span, message).help(help)
            }
            Field::None(kind) => {
                let message = format!("{base} is {kind} and has no field `{name}`");
                Finding::error(FindingCode::UnknownField, span, message)
            }
        };
        self.findings.push(finding);
    }

    /// Looks at the name of a field that a filter is given: `map(attribute='sku')`.
    fn attribute(&mut self, filter: &str, list: &Type<'a>, args: &Arguments) {
        let Some(node) = attribute_node(filter, args) else { return };
        let (N::Literal(Value::String(text)), Items::Known(mut known)) = (&node.kind, list.items()) else { return };
        let guarded = args.named.iter().any(|(name, _)| name == "default") || filter.ends_with("attr");
        let mut start = node.range.start + 1;
        for name in text.split('.') {
            let at = start..start + name.len();
            start = at.end + 1;
            if name.parse::<usize>().is_ok() {
                return;
            }
            let field = known.field(name);
            let Field::Known(next) = field else {
                self.no_field(&field, "the item", name, &at);
                return;
            };
            if !guarded && known.presence(name) == Presence::Optional {
                let span = self.cx.tree.inside(self.pointer, at);
                let message = format!("`{name}` may be missing in an item: its schema does not require it");
                let help = if filter == "map" {
                    "Say what to take instead: `map(attribute='...', default=...)`.".to_owned()
                } else {
                    format!("Keep the items that have it: `selectattr('{name}', 'defined')`.")
                };
                self.findings.push(Finding::warning(FindingCode::MayBeMissing, span, message).help(help));
                return;
            }
            known = next;
        }
    }
}

/// Tells whether a field is not in every value of a type.
fn lacks(type_: &Type<'_>, name: &str) -> bool {
    type_.presence(name) > Presence::OfNull || !matches!(type_.field(name), Field::Known(_))
}

/// Tells whether a type has a field at the end of a path.
fn exists(root: &Type<'_>, path: &[String]) -> bool {
    let mut known = root.clone();
    path.iter().all(|name| match known.field(name) {
        Field::Known(next) => {
            known = next;
            true
        }
        Field::Absent(_) | Field::None(_) => false,
    })
}

/// Returns the type of a value in which templates may stand; what is found on the way is dropped.
pub(super) fn shape<'a>(cx: &Context<'a>, scope: &Scope<'a>, shape: &Shape) -> Type<'a> {
    match shape {
        Shape::Literal(value) => Type::Literal(Rc::new(value.clone())),
        Shape::Expression(expression) => Infer::new(cx, scope, "").quiet(expression.node()),
        Shape::Text(_) => Type::Kind(Kind::Text),
        Shape::List(items) => Type::list(Type::union(items.iter().map(|item| self::shape(cx, scope, item)).collect())),
        Shape::Object(fields) => {
            Type::map(fields.iter().map(|(name, field)| (name.clone(), self::shape(cx, scope, field))).collect())
        }
    }
}

impl<'a> Infer<'_, 'a> {
    /// Returns the type of an expression and reports nothing.
    pub fn quiet(mut self, node: &Node) -> Type<'a> {
        let facts = self.scope.facts.clone();
        self.node(node, &facts)
    }
}

/// Returns the argument of a filter that names a field of the items.
fn attribute_node<'n>(filter: &str, args: &'n Arguments) -> Option<&'n Node> {
    let named = || args.named.iter().find(|(name, _)| name == "attribute").map(|(_, node)| node);
    match filter {
        "selectattr" | "rejectattr" => args.positional.first(),
        "sum" | "min" | "max" | "unique" => named().or_else(|| args.positional.first()),
        "sort" | "join" => named().or_else(|| args.positional.get(1)),
        "map" => named(),
        _ => None,
    }
}

fn math<'a>(op: MathOp, left: &Type<'a>, right: &Type<'a>) -> Type<'a> {
    let both = |kind: &str| left.is_only(kind) && right.is_only(kind);
    match op {
        MathOp::Concat => Type::Kind(Kind::Text),
        MathOp::Divide => Type::Kind(Kind::Number),
        MathOp::Power => {
            if both("number") {
                Type::Kind(Kind::Number)
            } else {
                Type::Any
            }
        }
        MathOp::Subtract | MathOp::FloorDivide | MathOp::Remainder if both("integer") => Type::Kind(Kind::Integer),
        MathOp::Subtract | MathOp::FloorDivide | MathOp::Remainder => Type::Kind(Kind::Number),
        MathOp::Add | MathOp::Multiply if both("integer") => Type::Kind(Kind::Integer),
        MathOp::Add | MathOp::Multiply if both("number") => Type::Kind(Kind::Number),
        MathOp::Add if left.is_only("string") || right.is_only("string") => Type::Kind(Kind::Text),
        MathOp::Multiply if left.is_only("string") || right.is_only("string") => Type::Kind(Kind::Text),
        MathOp::Add => match (left.is_only("array") && right.is_only("array"), left.items(), right.items()) {
            (true, Items::Known(left), Items::Known(right)) => Type::list(Type::union(vec![left, right])),
            _ => Type::Any,
        },
        MathOp::Multiply => Type::Any,
    }
}

/// Returns what a type leaves when its value holds as a condition.
fn truthy<'a>(type_: &Type<'a>) -> Type<'a> {
    match type_ {
        Type::Union(types, _) => {
            let kept = types.iter().filter(|one| one.value().is_none_or(truth));
            Type::union(kept.map(truthy).collect())
        }
        Type::Kind(Kind::Boolean) => Type::Literal(Rc::new(Value::Bool(true))),
        Type::Value(value) if !truth(value) => Type::Any,
        Type::Literal(value) if !truth(value) => Type::Any,
        other => other.without_null(),
    }
}

/// Returns what a type leaves when its value does not hold as a condition: little is known then.
fn falsy<'a>(type_: &Type<'a>) -> Type<'a> {
    match type_ {
        one if one.is_only("boolean") => Type::Literal(Rc::new(Value::Bool(false))),
        _ => Type::Any,
    }
}

fn sliced<'a>(base: &Type<'a>) -> Type<'a> {
    if base.is_only("string") {
        return Type::Kind(Kind::Text);
    }
    match base.items() {
        Items::Known(item) if base.is_only("array") => Type::list(item),
        _ => Type::Any,
    }
}

/// Returns what a filter makes of a type.
fn filtered<'a>(filter: &str, operand: &Type<'a>, args: &Arguments) -> Type<'a> {
    let item = || match operand.items() {
        Items::Known(item) => item,
        Items::None(_) => Type::Any,
    };
    match filter {
        "bool" => Type::Kind(Kind::Boolean),
        "capitalize" | "join" | "lower" | "replace" | "string" | "title" | "tojson" | "trim" | "upper" => {
            Type::Kind(Kind::Text)
        }
        "count" | "length" => Type::Kind(Kind::Integer),
        "int" | "float" if !args.positional.is_empty() || !args.named.is_empty() => Type::Any,
        "int" => Type::Kind(Kind::Integer),
        "float" => Type::Kind(Kind::Number),
        "abs" | "round" => Type::Kind(if operand.is_integer() { Kind::Integer } else { Kind::Number }),
        "first" | "last" | "max" | "min" => item(),
        "keys" | "split" => Type::list(Type::Kind(Kind::Text)),
        "items" | "dictsort" => Type::list(Type::list(Type::Any)),
        "list" if operand.is_only("array") => Type::list(item()),
        "list" | "values" | "reject" | "rejectattr" | "select" | "selectattr" => Type::list(kept(filter, item())),
        "reverse" | "sort" | "unique" => sliced(operand),
        "sum" => {
            let summed = match attribute_node("sum", args) {
                Some(node) => attribute_of(&item(), node),
                None => item(),
            };
            let whole =
                summed.is_integer() && !args.named.iter().any(|(name, _)| name == "start") && args.positional.len() < 2;
            Type::Kind(if whole { Kind::Integer } else { Kind::Number })
        }
        "map" => match (attribute_node("map", args), args.positional.first()) {
            (Some(node), _) => {
                let found = attribute_of(&item(), node);
                let instead = args.named.iter().any(|(name, _)| name == "default");
                Type::list(if instead { Type::Any } else { found })
            }
            (None, Some(Node { kind: N::Literal(Value::String(inner)), .. })) if known_filter(inner).is_some() => {
                if args.positional.len() > 1 {
                    return Type::list(Type::Any);
                }
                Type::list(filtered(inner, &item(), &Arguments::default()))
            }
            _ => Type::list(Type::Any),
        },
        _ => Type::Any,
    }
}

/// Returns the type of the items that a filter keeps: what it asked of them is not followed.
fn kept<'a>(filter: &str, item: Type<'a>) -> Type<'a> {
    let simple = ["string", "number", "boolean"].iter().any(|kind| item.is_only(kind));
    if matches!(filter, "select" | "reject") && simple { item } else { Type::Any }
}

fn attribute_of<'a>(item: &Type<'a>, node: &Node) -> Type<'a> {
    let N::Literal(Value::String(path)) = &node.kind else { return Type::Any };
    let mut known = item.clone();
    for name in path.split('.') {
        match known.field(name) {
            Field::Known(next) if name.parse::<usize>().is_err() => known = next,
            _ => return Type::Any,
        }
    }
    known
}
