//! Whether the names of a path exist at the place where it is read.

use super::context::{Context, ENDED_RUN, ERROR, RUN, integer_type, text_type};
use super::facts::Facts;
use super::types::{Field, Type};
use crate::diag::{Finding, FindingCode, Span};
use crate::dsl::tree::join;
use crate::template::Reference;

/// What a template may read besides `input`, `config`, `run` and `steps`.
#[derive(Clone, Debug)]
pub(super) struct Scope<'a> {
    /// Where it stands.
    pub place: Place,
    /// The step it belongs to.
    pub step: Option<usize>,
    /// The name and type of the item, inside `foreach`.
    pub item: Option<(&'a str, Type<'a>)>,
    /// What the call that is confirmed or undone returned.
    pub output: Type<'a>,
    /// The call that is confirmed or undone.
    pub afterwards: Option<After<'a>>,
    /// What is known to hold.
    pub facts: Facts,
}

/// A call that is confirmed or undone.
#[derive(Clone, Copy, Debug)]
pub(super) struct After<'a> {
    /// Its handler.
    pub uses: &'a str,
    /// Whether it is undone, and not asked about.
    pub undo: bool,
}

/// Where a template stands, as far as it decides what it may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
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

impl Scope<'_> {
    /// Returns what can be read at a place by which nothing more is known.
    pub fn of(place: Place, step: Option<usize>) -> Self {
        Self { place, step, item: None, output: Type::Any, afterwards: None, facts: Facts::default() }
    }
}

/// Judges paths in one workflow.
pub(super) struct Paths<'a> {
    /// The workflow.
    pub cx: &'a Context<'a>,
}

impl<'a> Paths<'a> {
    /// Returns what is wrong with a path.
    pub fn judge(&self, reference: &Reference, pointer: &str, scope: &Scope<'a>) -> Option<Finding> {
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
                    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
                    let help = self.cx.suggestions.help(&path[i], &format!("fields of `{parent}`"), names);
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
            if cx.left_out(&join("/steps", name)) {
                return Ok(None);
            }
            let finding = Finding::error(FindingCode::UnknownStep, at(1), format!("unknown step `{name}`"));
            let help = self.cx.suggestions.help(name, "steps", cx.steps.iter().map(|s| s.name));
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
                let help = self.cx.suggestions.help(field, "fields of a step", ["status", "output", "error", "via"]);
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
        if self.cx.left_out("/secrets") && declared.is_empty() {
            return None;
        }
        let Some(name) = reference.path.get(1) else {
            let finding = Finding::error(FindingCode::SecretMisused, at(0), "`secrets` without the name of a secret");
            return Some(finding.help("Write `secrets.NAME`."));
        };
        if !declared.contains(name) {
            let finding = Finding::error(FindingCode::UnknownSecret, at(1), format!("unknown secret `{name}`"));
            let help = match self.cx.suggestions.nearest(name, declared.iter().map(String::as_str)) {
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
        finding.help(self.cx.suggestions.help(name, "names that can be read here", names))
    }
}
