//! Templates: whether they parse, and whether every name in them exists at its place.
//!
//! Besides findings this yields what was read where, from which other rules take the graph and what is used.

use std::collections::HashSet;
use std::ops::Range;

use serde_json::Value;

use super::context::{Context, ENDED_RUN, ERROR, RUN, integer_type, text_type};
use super::suggest;
use super::types::{Field, Items, Type, kind_of};
use crate::diag::{Finding, FindingCode, Span};
use crate::dsl::setting;
use crate::dsl::tree::join;
use crate::plan::calls::{self, At, CallAt, Role};
use crate::plan::compile::condition_text;
use crate::plan::settings;
use crate::template::{Expression, Reference, Template, TemplateError};

/// What a template may read besides `input`, `config`, `run` and `steps`.
#[derive(Clone, Debug)]
struct Scope<'a> {
    /// Where it stands.
    place: Place,
    /// The step it belongs to.
    step: Option<usize>,
    /// The name and type of the item, inside `foreach`.
    item: Option<(&'a str, Type<'a>)>,
    /// What the call that is confirmed or undone returned.
    output: Type<'a>,
}

/// Where a template stands, as far as it decides what it may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a policy field.
    Policy,
    /// In a `when`, `foreach` or `until` of a step.
    Step,
    /// In the `with` of a step.
    With,
    /// In the `when` of a fallback.
    FallbackWhen,
    /// In the `with` of a fallback.
    FallbackWith,
    /// In the `with` of a `confirm` or `compensate`.
    Afterwards,
    /// In the `with` of a `finally` step.
    Finally,
    /// In the `output`.
    Output,
}

impl Place {
    fn has_secrets(self) -> bool {
        matches!(self, Self::With | Self::FallbackWith | Self::Afterwards | Self::Finally)
    }
}

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
        Scope { place, step: None, item: None, output: Type::Any }
    }

    fn step(&mut self, i: usize) {
        let cx = self.cx;
        let at = &cx.steps[i];
        let step = at.step;
        let outside = Scope { step: Some(i), ..self.scope(Place::Step) };
        if let Some(when) = &step.when {
            self.expression(&condition_text(when), &join(&at.at, "when"), &outside);
        }
        let mut inside = outside.clone();
        if let Some(foreach) = &step.foreach {
            let pointer = join(&at.at, "foreach");
            if let Some(list) = self.expression(foreach, &pointer, &outside) {
                self.is_a_list(&list, &pointer);
            }
            inside.item = Some((step.as_.as_deref().unwrap_or("item"), cx.item_type(step)));
        }
        if let Some(concurrency) = &step.concurrency {
            self.policy(&concurrency.0, &join(&at.at, "concurrency"));
        }
        if let Some(wait) = &step.wait {
            let pointer = join(&at.at, "wait");
            if let Some(until) = &wait.until {
                self.expression(until, &join(&pointer, "until"), &outside);
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
            if let Some(when) = &member.when {
                let scope = Scope { place: Place::FallbackWhen, ..inside.clone() };
                self.expression(&condition_text(when.value), &when.pointer, &scope);
            }
            let place = if member.call.role == Role::Fallback { Place::FallbackWith } else { Place::With };
            self.call(&member.call, &Scope { place, ..inside.clone() });
            let output = cx.contract(member.call.uses).map_or(Type::Any, |c| Type::of(&c.output));
            let afterwards = Scope { place: Place::Afterwards, output, ..inside.clone() };
            for call in member.confirm.iter().chain(&member.compensate) {
                self.call(call, &afterwards);
            }
        }
    }

    fn call(&mut self, call: &CallAt<'a>, scope: &Scope<'a>) {
        if let Some(with) = &call.with {
            self.tree(with.value, &with.pointer, scope);
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

    fn expression(&mut self, text: &str, pointer: &str, scope: &Scope<'a>) -> Option<Expression> {
        match Expression::parse(text) {
            Ok(expression) => {
                for reference in expression.references() {
                    self.reference(reference.clone(), pointer.to_owned(), scope);
                }
                for range in expression.uses_division() {
                    self.division(expression.references(), pointer, range, scope);
                }
                Some(expression)
            }
            Err(error) => {
                self.syntax(pointer, error);
                None
            }
        }
    }

    fn tree(&mut self, value: &Value, at: &str, scope: &Scope<'a>) {
        let (template, errors) = Template::parse(value);
        for (inner, error) in errors {
            self.syntax(&format!("{at}{inner}"), error);
        }
        let references = template.references();
        for (inner, range) in template.uses_division() {
            let beside: Vec<Reference> =
                references.iter().filter(|(p, _)| *p == inner).map(|(_, r)| r.clone()).collect();
            self.division(&beside, &format!("{at}{inner}"), range, scope);
        }
        for (inner, reference) in references {
            self.reference(reference, format!("{at}{inner}"), scope);
        }
    }

    fn syntax(&mut self, pointer: &str, error: TemplateError) {
        let span = match error.range {
            Some(range) => self.cx.tree.inside(pointer, range),
            None => self.cx.value(pointer),
        };
        self.findings.push(Finding::error(FindingCode::TemplateSyntax, span, error.message).help_if(error.help));
    }

    /// Keeps a `/` unless one side of it is a path to what is not known to be a whole number.
    fn division(&mut self, references: &[Reference], pointer: &str, operator: Range<usize>, scope: &Scope<'a>) {
        let _ = scope;
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

    fn is_a_list(&mut self, expression: &Expression, pointer: &str) {
        let kind = if let Some(value) = expression.literal() {
            if value.is_array() { None } else { Some(kind_of(&value)) }
        } else {
            match expression.references() {
                [path] if path.plain => match self.cx.path_type(&path.path).map(|known| known.items()) {
                    Some(Items::None(kind)) => Some(kind),
                    _ => None,
                },
                _ => None,
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
        if let Some(finding) = self.judge(&reference, &pointer, scope) {
            self.findings.push(finding);
        }
        let finally = scope.place == Place::Finally;
        self.readings.all.push(Reading { pointer, reference, step: scope.step, finally });
    }

    /// Returns what is wrong with a path.
    fn judge(&self, reference: &Reference, pointer: &str, scope: &Scope<'a>) -> Option<Finding> {
        let cx = self.cx;
        let path = &reference.path;
        let at = |i: usize| cx.tree.inside(pointer, reference.ranges[i].clone());
        let whole = || {
            let range = reference.ranges[0].start..reference.ranges[reference.ranges.len() - 1].end;
            cx.tree.inside(pointer, range)
        };
        let first = path[0].as_str();
        if scope.place == Place::Policy && first != "config" {
            let finding =
                Finding::error(FindingCode::NotInScope, at(0), format!("`{first}` cannot be read in a policy"));
            return Some(
                finding.help("Policy fields may refer to `config` only, so that they are known before a run."),
            );
        }
        let (known, from) = match first {
            "input" => (cx.input.clone(), 1),
            "config" => (Type::Value(cx.config), 1),
            "run" if scope.place == Place::Finally => (Type::of(&ENDED_RUN), 1),
            "run" => {
                let ended = ["status", "compensation", "error"];
                if path.get(1).is_some_and(|name| ended.contains(&name.as_str())) {
                    let message = format!("`run.{}` is not known before the run has ended", path[1]);
                    let finding = Finding::error(FindingCode::NotInScope, at(1), message);
                    return Some(finding.help("Only the steps under `finally` can read it."));
                }
                (Type::of(&RUN), 1)
            }
            "steps" => match self.step_type(reference, pointer, scope) {
                Ok(found) => found?,
                Err(finding) => return Some(*finding),
            },
            "secrets" => return self.secret(reference, &at, whole(), scope),
            "error" if matches!(scope.place, Place::FallbackWhen | Place::FallbackWith | Place::Afterwards) => {
                (Type::of(&ERROR), 1)
            }
            "output" if scope.place == Place::Afterwards => (scope.output.clone(), 1),
            "key" if scope.place == Place::Afterwards => (text_type(), 1),
            "index" if scope.item.is_some() => (integer_type(), 1),
            name => match &scope.item {
                Some((item, known)) if *item == name => (known.clone(), 1),
                _ => return Some(self.unknown_variable(name, at(0), scope)),
            },
        };
        let mut known = known;
        for i in from..path.len() {
            match known.field(&path[i]) {
                Field::Known(next) => known = next,
                Field::Absent(names) => {
                    let parent = path[..i].join(".");
                    let (code, message) = match first {
                        "config" => {
                            (FindingCode::UnknownConfig, format!("unknown configuration `{parent}.{}`", path[i]))
                        }
                        _ => (FindingCode::UnknownField, format!("`{parent}` has no field `{}`", path[i])),
                    };
                    let help = suggest::help(&path[i], &format!("fields of `{parent}`"), names);
                    return Some(Finding::error(code, at(i), message).help(help));
                }
                Field::None(kind) => {
                    let parent = path[..i].join(".");
                    let message = format!("`{parent}` is {kind} and has no field `{}`", path[i]);
                    return Some(Finding::error(FindingCode::UnknownField, at(i), message));
                }
            }
        }
        None
    }

    /// Returns the type of `steps.STEP.FIELD` and from where on its fields are to be looked up; nothing where the path
    /// ends before.
    #[expect(clippy::type_complexity, reason = "it is used once")]
    fn step_type(
        &self,
        reference: &Reference,
        pointer: &str,
        scope: &Scope<'a>,
    ) -> Result<Option<(Type<'a>, usize)>, Box<Finding>> {
        let cx = self.cx;
        let path = &reference.path;
        let at = |i: usize| cx.tree.inside(pointer, reference.ranges[i].clone());
        let Some(name) = path.get(1) else {
            let finding = Finding::error(FindingCode::UnknownStep, at(0), "`steps` without the name of a step");
            return Err(Box::new(
                finding.help("Write `steps.NAME.output`: which steps are needed must be known before a run."),
            ));
        };
        let Some(&i) = cx.index.get(name.as_str()) else {
            let finding = Finding::error(FindingCode::UnknownStep, at(1), format!("unknown step `{name}`"));
            let help = suggest::help(name, "steps", cx.steps.iter().map(|s| s.name));
            return Err(Box::new(finding.help(help)));
        };
        if scope.step == Some(i) {
            let finding = Finding::error(FindingCode::NeedsItself, at(1), format!("step `{name}` refers to itself"));
            let help = match scope.place {
                Place::Afterwards => "What the call returned is `output` here, and why it failed is `error`.",
                Place::FallbackWhen | Place::FallbackWith => "Why the member before failed is `error` here.",
                _ => "A step can read only what other steps returned before it.",
            };
            return Err(Box::new(finding.help(help)));
        }
        let Some(field) = path.get(2) else { return Ok(None) };
        match cx.step_field(&cx.steps[i], field) {
            Some(known) => Ok(Some((known, 3))),
            None => {
                let message = format!("a step has no `{field}`");
                let finding = Finding::error(FindingCode::UnknownField, at(2), message);
                // A field of the output itself is the commonest mistake: `steps.reserve.total`.
                let help = match cx.steps[i].output.field(field) {
                    Field::Known(Type::Any) | Field::Absent(_) | Field::None(_) => {
                        suggest::help(field, "fields of a step", ["status", "output", "error", "via"])
                    }
                    Field::Known(_) => format!("Did you mean `steps.{name}.output.{field}`?"),
                };
                Err(Box::new(finding.help(help)))
            }
        }
    }

    fn secret(
        &self,
        reference: &Reference,
        at: &dyn Fn(usize) -> Span,
        whole: Span,
        scope: &Scope<'a>,
    ) -> Option<Finding> {
        let declared = &self.cx.document.secrets;
        let Some(name) = reference.path.get(1) else {
            let finding = Finding::error(FindingCode::SecretMisused, at(0), "`secrets` without the name of a secret");
            return Some(finding.help("Write `secrets.NAME`."));
        };
        if !declared.contains(name) {
            let finding = Finding::error(FindingCode::UnknownSecret, at(1), format!("unknown secret `{name}`"));
            let help = match suggest::nearest(name, declared.iter().map(String::as_str)) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => format!("Declare it at the top of the file: `secrets: [{name}]`."),
            };
            return Some(finding.help(help));
        }
        if !scope.place.has_secrets() {
            let message = "a secret can be read only inside `with`";
            let finding = Finding::error(FindingCode::SecretMisused, whole, message);
            return Some(finding.help("Give it to the handler that needs it, in its `with`."));
        }
        if !reference.plain || reference.path.len() > 2 {
            let message = "a secret stands alone or in text, without filters and operators";
            let finding = Finding::error(FindingCode::SecretMisused, whole, message);
            return Some(finding.help(format!(
                "Write `{{{{ secrets.{name} }}}}`: its value is filled in only when the handler is called."
            )));
        }
        None
    }

    fn unknown_variable(&self, name: &str, span: Span, scope: &Scope<'a>) -> Finding {
        let cx = self.cx;
        let elsewhere = match name {
            "output" | "key" => Some("It can be read only inside `confirm` and `compensate`."),
            "error" => Some("It can be read only inside a fallback, `confirm` and `compensate`."),
            "item" | "index" => match (&scope.item, scope.step.map(|i| cx.steps[i].step)) {
                (Some((item, _)), _) => {
                    let finding = Finding::error(FindingCode::UnknownVariable, span, format!("unknown name `{name}`"));
                    return finding.help(format!("The item is called `{item}` here, after `as`."));
                }
                (None, Some(step)) if step.foreach.is_some() => {
                    Some("`when` and `foreach` are decided once, before there is an item.")
                }
                _ => Some("It can be read only inside a step with `foreach`."),
            },
            _ => None,
        };
        if let Some(help) = elsewhere {
            return Finding::error(FindingCode::NotInScope, span, format!("there is no `{name}` here")).help(help);
        }
        let finding = Finding::error(FindingCode::UnknownVariable, span, format!("unknown name `{name}`"));
        if cx.index.contains_key(name) {
            return finding.help(format!("Write `steps.{name}.output` for what the step `{name}` returned."));
        }
        if let (Field::Known(Type::Schemas(_)), Type::Schemas(_)) = (cx.input.field(name), &cx.input) {
            return finding.help(format!("Write `input.{name}` for the field of the input."));
        }
        if cx.config.get(name).is_some() {
            return finding.help(format!("Write `config.{name}` for the configuration."));
        }
        let mut names = vec!["input", "config", "run", "steps"];
        if scope.place.has_secrets() {
            names.push("secrets");
        }
        if matches!(scope.place, Place::FallbackWhen | Place::FallbackWith | Place::Afterwards) {
            names.push("error");
        }
        if scope.place == Place::Afterwards {
            names.extend(["output", "key"]);
        }
        if let Some((item, _)) = &scope.item {
            names.extend([item, "index"]);
        }
        finding.help(suggest::help(name, "names that can be read here", names))
    }
}
