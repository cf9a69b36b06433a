//! Templates: whether they parse, and whether every name in them exists at its place.
//!
//! Besides findings this yields what was read where, from which other rules take the graph and what is used.

use std::collections::HashSet;
use std::ops::Range;

use serde_json::Value;

use super::context::Context;
use super::facts;
use super::infer::Infer;
use super::literals;
use super::paths::{After, Paths, Place, Scope};
use super::types::{Items, Type, kind_of};
use crate::diag::{Finding, FindingCode, Span};
use crate::dsl::setting;
use crate::dsl::tree::join;
use crate::plan::calls::{self, At, CallAt, Role};
use crate::plan::compile::condition_text;
use crate::plan::settings;
use crate::template::{Expression, Reference, Shape, Template, TemplateError};
use crate::time::Timestamp;

/// A path that was read.
pub(crate) struct Reading {
    /// The JSON pointer of the string it stands in.
    pub pointer: String,
    /// The path.
    pub reference: Reference,
    /// The step whose template it is; none in `finally`, `output` and policies.
    pub step: Option<usize>,
    /// Whether it stands in `finally`.
    pub finally: bool,
}

/// What one walk over all templates found.
#[derive(Default)]
pub(crate) struct Readings {
    /// All paths that were read, in file order as far as defaults allow.
    pub all: Vec<Reading>,
    /// The places of `/` operators between operands that are not known to be other than whole numbers.
    pub divisions: Vec<Span>,
    /// The steps with a template that cannot be understood, so that what they read is not all known.
    pub broken: HashSet<usize>,
}

impl Readings {
    /// Returns the steps that each step reads, with the reading.
    pub fn of_steps<'r>(&'r self, cx: &'r Context<'_>) -> impl Iterator<Item = (usize, usize, &'r Reading)> {
        self.all.iter().filter_map(|reading| {
            let from = reading.step?;
            Some((from, step_read(cx, &reading.reference)?, reading))
        })
    }
}

/// Returns the step that a path leads into.
pub(crate) fn step_read(cx: &Context<'_>, reference: &Reference) -> Option<usize> {
    match reference.path.as_slice() {
        [steps, name, ..] if steps == "steps" => cx.index.get(name.as_str()).copied(),
        _ => None,
    }
}

/// Checks all templates.
pub(crate) fn check<'a>(cx: &'a Context<'a>, findings: &mut Vec<Finding>) -> Readings {
    let mut walk = Walk { cx, findings, readings: Readings::default(), policies_seen: HashSet::new() };
    walk.workflow();
    walk.readings
}

struct Walk<'a, 'f> {
    cx: &'a Context<'a>,
    findings: &'f mut Vec<Finding>,
    readings: Readings,
    /// Policies of defaults and named retries are met once for every use; one look is enough.
    policies_seen: HashSet<String>,
}

impl<'a> Walk<'a, '_> {
    fn workflow(&mut self) {
        let cx = self.cx;
        let document = cx.document;
        if let Some(deadline) = &document.deadline {
            self.policy(&deadline.0, "/deadline");
        }
        for (name, service) in &document.services {
            let at = join("/services", name);
            if let Some(breaker) = &service.breaker {
                self.policy(&breaker.failures.0, &format!("{at}/breaker/failures"));
                self.policy(&breaker.within.0, &format!("{at}/breaker/within"));
                self.policy(&breaker.cooldown.0, &format!("{at}/breaker/cooldown"));
            }
            if let Some(concurrency) = &service.concurrency {
                self.policy(&concurrency.0, &format!("{at}/concurrency"));
            }
        }
        for (name, retry) in &document.retries {
            self.retry(&At { value: retry, pointer: join("/retries", name) });
        }
        for i in 0..cx.steps.len() {
            self.step(i);
        }
        for call in &cx.finally {
            self.call(call, &self.scope(Place::Finally));
        }
        for defaults in &cx.unused_defaults {
            let mut scope = self.scope(Place::Afterwards);
            // Whether the handler will be called inside a `foreach` is not known.
            scope.item = Some(("item", Type::Any));
            scope.output = cx.contract(defaults.handler).map_or(Type::Any, |c| Type::of(&c.output));
            for call in &defaults.calls {
                scope.afterwards = Some(After { uses: defaults.handler, undo: call.role == Role::Compensate });
                self.call(call, &scope);
            }
            self.default_policies(defaults.handler);
        }
        if let Some(output) = &document.output {
            let value = Value::Object(output.clone());
            self.tree(&value, "/output", &self.scope(Place::Output));
        }
    }

    fn scope(&self, place: Place) -> Scope<'a> {
        Scope::of(place, None)
    }

    fn step(&mut self, i: usize) {
        let cx = self.cx;
        let at = &cx.steps[i];
        let step = at.step;
        let before = Scope { step: Some(i), ..self.scope(Place::Step) };
        let outside = Scope { facts: cx.facts(i), ..before.clone() };
        if let Some(when) = &step.when {
            self.expression(&condition_text(when), &join(&at.at, "when"), &before);
        }
        let mut inside = outside.clone();
        if let Some(foreach) = &step.foreach {
            let pointer = join(&at.at, "foreach");
            if let Some((list, type_)) = self.expression(foreach, &pointer, &outside) {
                self.is_a_list(&list, &type_, &pointer);
                inside.facts = inside.facts.and(facts::evaluated(list.node()));
            }
        }
        inside.item = cx.item_of(i);
        if let Some(concurrency) = &step.concurrency {
            self.policy(&concurrency.0, &join(&at.at, "concurrency"));
        }
        if let Some(wait) = &step.wait {
            let pointer = join(&at.at, "wait");
            if let Some(until) = &wait.until {
                let pointer = join(&pointer, "until");
                if let Some((time, type_)) = self.expression(until, &pointer, &outside) {
                    self.is_a_time(&time, &type_, &pointer);
                }
            }
            for (time, key) in [(&wait.for_, "for"), (&wait.timeout, "timeout")] {
                if let Some(time) = time {
                    self.policy(&time.0, &join(&pointer, key));
                }
            }
        }
        if step.workflow.is_some()
            && let Some(with) = &step.with
        {
            self.tree(with, &join(&at.at, "with"), &Scope { place: Place::With, ..inside.clone() });
        }
        for member in &at.members {
            let mut inside = inside.clone();
            if let Some(when) = &member.when {
                let scope = Scope { place: Place::FallbackWhen, ..inside.clone() };
                if let Some((when, _)) = self.expression(&condition_text(when.value), &when.pointer, &scope) {
                    inside.facts = inside.facts.and(facts::of(when.node(), true));
                }
            }
            let place = if member.call.role == Role::Fallback { Place::FallbackWith } else { Place::With };
            self.call(&member.call, &Scope { place, ..inside.clone() });
            let output = cx.contract(member.call.uses).map_or(Type::Any, |c| Type::of(&c.output));
            let mut afterwards = Scope { place: Place::Afterwards, output, ..inside.clone() };
            for call in member.confirm.iter().chain(&member.compensate) {
                afterwards.afterwards = Some(After { uses: member.call.uses, undo: call.role == Role::Compensate });
                self.call(call, &afterwards);
            }
        }
    }

    fn call(&mut self, call: &CallAt<'a>, scope: &Scope<'a>) {
        match &call.with {
            Some(with) => {
                let (template, broken) = self.tree(with.value, &with.pointer, scope);
                literals::check_call(self.cx, call, scope, Some((&template, broken)), self.findings);
            }
            None => literals::check_call(self.cx, call, scope, None, self.findings),
        }
        if let Some(timeout) = &call.timeout {
            self.policy(&timeout.value.0, &timeout.pointer);
        }
        if let Some(retry) = &call.retry {
            self.retry(retry);
        }
    }

    fn default_policies(&mut self, handler: &str) {
        let Some(policies) = self.cx.document.defaults.get(handler) else { return };
        let at = join("/defaults", handler);
        if let Some(timeout) = &policies.timeout {
            self.policy(&timeout.0, &join(&at, "timeout"));
        }
        if let Some(retry) = &policies.retry {
            self.retry(&At { value: retry, pointer: join(&at, "retry") });
        }
    }

    fn retry(&mut self, retry: &At<'a, crate::dsl::document::Retry>) {
        let merged = calls::retry(self.cx.document, retry);
        let count: Option<(&Value, &str)> = merged.attempts.as_ref().map(|at| (&at.value.0, at.pointer.as_str()));
        let factor = merged.factor.as_ref().map(|at| (&at.value.0, at.pointer.as_str()));
        let durations = [&merged.delay, &merged.max_delay, &merged.within];
        let durations =
            durations.into_iter().flatten().map(|at: &At<'_, setting::Duration>| (&at.value.0, &*at.pointer));
        for (value, pointer) in count.into_iter().chain(factor).chain(durations) {
            self.policy(value, pointer);
        }
    }

    fn policy(&mut self, value: &Value, pointer: &str) {
        if let Some(text) = settings::template(value)
            && self.policies_seen.insert(pointer.to_owned())
        {
            self.expression(text, pointer, &self.scope(Place::Policy));
        }
    }

    fn expression(&mut self, text: &str, pointer: &str, scope: &Scope<'a>) -> Option<(Expression, Type<'a>)> {
        match Expression::parse(text) {
            Ok(expression) => {
                for reference in expression.references() {
                    self.reference(reference.clone(), pointer.to_owned(), scope);
                }
                for range in expression.uses_division() {
                    self.division(expression.references(), pointer, range);
                }
                let type_ = self.infer(pointer, scope, |infer| infer.node(expression.node(), &scope.facts));
                Some((expression, type_))
            }
            Err(error) => {
                self.syntax(pointer, error, scope);
                None
            }
        }
    }

    /// Finds out the type of what stands in one string, and keeps what was found on the way.
    fn infer<T>(&mut self, pointer: &str, scope: &Scope<'a>, look: impl FnOnce(&mut Infer<'_, 'a>) -> T) -> T {
        let mut infer = Infer::new(self.cx, scope, pointer);
        let result = look(&mut infer);
        // Policies are read before a run, where all that they may read is there.
        if scope.place != Place::Policy {
            self.findings.append(&mut infer.findings);
        }
        result
    }

    fn shape(&mut self, shape: &Shape, pointer: &str, scope: &Scope<'a>) {
        match shape {
            Shape::Literal(_) => {}
            Shape::Expression(expression) => {
                self.infer(pointer, scope, |infer| infer.node(expression.node(), &scope.facts));
            }
            Shape::Text(text) => self.infer(pointer, scope, |infer| infer.parts(text.parts(), &scope.facts)),
            Shape::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.shape(item, &format!("{pointer}/{i}"), scope);
                }
            }
            Shape::Object(fields) => {
                for (name, field) in fields {
                    self.shape(field, &join(pointer, name), scope);
                }
            }
        }
    }

    /// Looks at a value in which templates may stand; returns it with the places of those that cannot be understood.
    fn tree(&mut self, value: &Value, at: &str, scope: &Scope<'a>) -> (Template, HashSet<String>) {
        let (template, errors) = Template::parse(value);
        let mut broken = HashSet::new();
        for (inner, error) in errors {
            let pointer = format!("{at}{inner}");
            self.syntax(&pointer, error, scope);
            broken.insert(pointer);
        }
        self.shape(template.shape(), at, scope);
        let references = template.references();
        for (inner, range) in template.uses_division() {
            let beside: Vec<Reference> =
                references.iter().filter(|(p, _)| *p == inner).map(|(_, r)| r.clone()).collect();
            self.division(&beside, &format!("{at}{inner}"), range);
        }
        for (inner, reference) in references {
            self.reference(reference, format!("{at}{inner}"), scope);
        }
        (template, broken)
    }

    fn syntax(&mut self, pointer: &str, error: TemplateError, scope: &Scope<'a>) {
        self.readings.broken.extend(scope.step);
        let span = match error.range {
            Some(range) => self.cx.tree.inside(pointer, range),
            None => self.cx.value(pointer),
        };
        let help = error.help.or_else(|| self.meant(pointer));
        self.findings.push(Finding::error(FindingCode::TemplateSyntax, span, error.message).help_if(help));
    }

    /// Guesses what a bare expression that cannot be understood was meant to be.
    fn meant(&self, pointer: &str) -> Option<String> {
        let key = pointer.rsplit('/').next().filter(|key| matches!(*key, "when" | "foreach" | "until"))?;
        let text = self.cx.tree.value().pointer(pointer)?.as_str()?.trim();
        if key == "until" && text.starts_with(|c: char| c.is_ascii_digit()) {
            return Some(format!("A time that is written out is a text in quotes: `until: \"'{text}'\"`."));
        }
        let template = text.contains("{{");
        template.then(|| format!("`{key}` is an expression as a whole: write it without `{{{{` and `}}}}`."))
    }

    /// Keeps a `/` one side of which is a path to whole numbers, and the other no fraction.
    fn division(&mut self, references: &[Reference], pointer: &str, operator: Range<usize>) {
        let text = self.cx.tree.value().pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        if [text.get(..operator.start), text.get(operator.end..)].into_iter().flatten().enumerate().any(is_fraction) {
            return;
        }
        let beside = references.iter().filter(|r| {
            let (Some(first), Some(last)) = (r.ranges.first(), r.ranges.last()) else { return false };
            // Only blanks may stand between an operand and its operator; anything longer is another expression.
            (last.end <= operator.start && operator.start - last.end <= 2)
                || (first.start >= operator.end && first.start - operator.end <= 2)
        });
        let types: Vec<_> = beside.filter_map(|r| self.cx.path_type(&r.path)).collect();
        if !types.is_empty() && types.iter().all(Type::is_integer) {
            self.readings.divisions.push(self.cx.tree.inside(pointer, operator));
        }
    }

    fn is_a_time(&mut self, expression: &Expression, type_: &Type<'a>, pointer: &str) {
        const HELP: &str =
            "Give it an expression that yields a text such as `2030-01-31T12:00:00Z`, with the offset from UTC.";
        let found = if let Some(value) = expression.literal() {
            match value.as_str() {
                Some(text) if Timestamp::parse(text).is_ok() => None,
                Some(text) => Some(format!("`{text}` is not one with its offset")),
                None => Some(format!("this is {}", kind_of(&value))),
            }
        } else {
            type_.never_text().map(|kind| format!("this is {kind}"))
        };
        if let Some(found) = found {
            let message = format!("`until` needs a date and time, and {found}");
            self.findings.push(Finding::error(FindingCode::NotATime, self.cx.value(pointer), message).help(HELP));
        }
    }

    fn is_a_list(&mut self, expression: &Expression, type_: &Type<'a>, pointer: &str) {
        let kind = if let Some(value) = expression.literal() {
            if value.is_array() { None } else { Some(kind_of(&value)) }
        } else {
            match type_.items() {
                Items::None(kind) => Some(kind),
                Items::Known(_) => None,
            }
        };
        if let Some(kind) = kind {
            let finding = Finding::error(
                FindingCode::NotAList,
                self.cx.value(pointer),
                format!("`foreach` needs a list, and this is {kind}"),
            );
            self.findings.push(finding.help("Give it an expression that yields a list, such as `input.items`."));
        }
    }

    fn reference(&mut self, reference: Reference, pointer: String, scope: &Scope<'a>) {
        if let Some(finding) = (Paths { cx: self.cx }).judge(&reference, &pointer, scope) {
            self.findings.push(finding);
        }
        let finally = scope.place == Place::Finally;
        self.readings.all.push(Reading { pointer, reference, step: scope.step, finally });
    }
}

/// Tells whether a text ends (the left side of an operator, 0) or begins (the right side, 1) with a decimal fraction.
fn is_fraction((side, text): (usize, &str)) -> bool {
    let in_number = |c: char| c.is_ascii_digit() || c == '.';
    let number = if side == 0 {
        let text = text.trim_end();
        &text[text.trim_end_matches(in_number).len()..]
    } else {
        let text = text.trim_start();
        &text[..text.len() - text.trim_start_matches(in_number).len()]
    };
    number.contains('.') && number.starts_with(|c: char| c.is_ascii_digit())
}
