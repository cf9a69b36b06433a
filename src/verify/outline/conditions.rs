//! What templates read, and what their conditions depend on.

use std::collections::HashMap;

use super::presence;
use crate::plan::{Action, Plan};
use crate::teeth::{Bug, awake};
use crate::template::{Asked, Expression, Logic, Scope, Template, Use};
use crate::verify::sketch::{Aspect, Decision, Read, Site, StepEnding, Truth};

/// What is always there of an error; its details may be absent.
const ERROR_FIELDS: [&str; 3] = ["code", "kind", "message"];

/// What is there of `run` while the run goes on.
const RUN_FIELDS: [&str; 3] = ["id", "workflow", "started_at"];

/// Whose template it is, and so what it sees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Eyes {
    step: Option<usize>,
    /// The member whose `output` and `error` it sees.
    result_of: Option<usize>,
}

impl Eyes {
    /// A template of no step.
    pub(super) fn outside() -> Self {
        Self { step: None, result_of: None }
    }

    /// A template of a step, or of one of its members.
    pub(super) fn of_step(step: usize) -> Self {
        Self { step: Some(step), result_of: None }
    }

    /// A template of the `confirm` or `compensate` of a member.
    pub(super) fn of_result(step: usize, member: usize) -> Self {
        Self { step: Some(step), result_of: Some(member) }
    }
}

/// The free conditions of a workflow, each once.
pub(super) struct Conditions<'a> {
    plan: &'a Plan,
    /// What is known before the run.
    known: Scope,
    texts: Vec<String>,
    index: HashMap<String, usize>,
}

impl<'a> Conditions<'a> {
    pub(super) fn new(plan: &'a Plan, known: Scope) -> Self {
        Self { plan, known, texts: Vec::new(), index: HashMap::new() }
    }

    pub(super) fn texts(self) -> Vec<String> {
        self.texts
    }

    pub(super) fn decision(&mut self, condition: &Expression, pointer: &str, eyes: Eyes) -> Decision {
        let truth = self.truth(&condition.logic(&self.known), eyes);
        Decision { truth, reads: self.expression(condition, pointer, eyes), site: Site::at(pointer) }
    }

    pub(super) fn expression(&mut self, expression: &Expression, pointer: &str, eyes: Eyes) -> Vec<Read> {
        let uses = expression.uses(&self.known);
        uses.iter().filter_map(|used| self.read(used, pointer, eyes)).collect()
    }

    pub(super) fn template(&mut self, template: &Template, pointer: &str, eyes: Eyes) -> Vec<Read> {
        let uses = template.uses(&self.known);
        uses.iter().filter_map(|(inner, used)| self.read(used, &format!("{pointer}{inner}"), eyes)).collect()
    }

    /// Returns what a use reads that may be missing; nothing if it can never be asked for.
    fn read(&mut self, used: &Use, pointer: &str, eyes: Eyes) -> Option<Read> {
        let (step, what, name) = match used.path.as_slice() {
            [steps, name, field, ..] if steps == "steps" => {
                let what = match field.as_str() {
                    "output" => Aspect::Output,
                    "error" => Aspect::Error,
                    "via" => Aspect::Via,
                    _ => return None,
                };
                (self.step(name)?, what, &used.ranges[1])
            }
            [output, ..] if output == "output" && eyes.result_of.is_some() => {
                (eyes.step?, Aspect::OwnOutput, &used.ranges[0])
            }
            [error, ..] if error == "error" && eyes.result_of.is_some() => {
                (eyes.step?, Aspect::OwnError, &used.ranges[0])
            }
            _ => return None,
        };
        let when = self.truth(&used.when, eyes);
        (when != Truth::Const(false)).then(|| Read { step, what, when, site: Site::within(pointer, name) })
    }

    fn step(&self, name: &str) -> Option<usize> {
        self.plan.find(&name.into()).map(|ix| ix.0 as usize)
    }

    fn truth(&mut self, logic: &Logic, eyes: Eyes) -> Truth {
        match logic {
            Logic::Const(known) => Truth::Const(*known),
            Logic::Open => Truth::Open,
            Logic::Defined(asked) => self.defined(asked, eyes),
            Logic::Among(asked, values) => {
                let known = self.step_field(asked).and_then(|(step, field)| {
                    let truths = values.iter().map(|value| self.is_value(step, field, value));
                    truths.collect::<Option<Vec<_>>>()
                });
                known.map_or_else(|| self.free(asked, eyes), any)
            }
            Logic::Other(asked) => self.free(asked, eyes),
            Logic::Not(inner) => not(self.truth(inner, eyes)),
            Logic::All(parts) => all(parts.iter().map(|part| self.truth(part, eyes)).collect()),
            Logic::Any(parts) => any(parts.iter().map(|part| self.truth(part, eyes)).collect()),
        }
    }

    /// Returns the step and the field of it that a question is about.
    fn step_field<'q>(&self, asked: &'q Asked) -> Option<(usize, &'q str)> {
        match asked.path.as_slice() {
            [steps, name, field] if steps == "steps" => Some((self.step(name)?, field)),
            _ => None,
        }
    }

    /// Whether a step's status or member is this value; nothing for other fields.
    fn is_value(&self, step: usize, field: &str, value: &serde_json::Value) -> Option<Truth> {
        Some(match (field, value.as_str()) {
            ("status", Some("succeeded")) => Truth::Ended(step, StepEnding::Ok),
            ("status", Some("failed")) => Truth::Ended(step, StepEnding::Failed),
            ("status", Some("unknown")) => Truth::Ended(step, StepEnding::Unknown),
            ("status", Some("skipped")) => Truth::Ended(step, StepEnding::Skipped),
            ("via", Some(name)) => match &self.plan.steps[step].action {
                Action::Call(members) => {
                    let member = members.iter().position(|member| member.name == name);
                    member.map_or(Truth::Const(false), |member| Truth::Via(step, member))
                }
                Action::Wait(_) => Truth::Const(false),
            },
            ("status" | "via", _) => Truth::Const(false),
            _ => return None,
        })
    }

    /// Whether a path is there.
    fn defined(&mut self, asked: &Asked, eyes: Eyes) -> Truth {
        match asked.path.as_slice() {
            [steps, name, rest @ ..] if steps == "steps" => match (self.step(name), rest) {
                (Some(step), [output, path @ ..]) if output == "output" => self.in_output(step, path, asked, eyes),
                (Some(step), [error, path @ ..]) if error == "error" => {
                    let has = Truth::Has(step, Aspect::Error);
                    match path {
                        [] => has,
                        [field] if ERROR_FIELDS.contains(&field.as_str()) => has,
                        _ => all(vec![has, self.free(asked, eyes)]),
                    }
                }
                (Some(step), [via]) if via == "via" => Truth::Has(step, Aspect::Via),
                (Some(_), [] | [_]) => Truth::Const(true),
                _ => self.free(asked, eyes),
            },
            [output, path @ ..] if output == "output" => {
                let (Some(step), Some(member)) = (eyes.step, eyes.result_of) else { return Truth::Open };
                let has = Truth::Has(step, Aspect::OwnOutput);
                if presence::in_member(self.plan, step, member, path) { has } else { all(vec![has, Truth::Open]) }
            }
            [error, path @ ..] if error == "error" => {
                let (Some(step), Some(_)) = (eyes.step, eyes.result_of) else { return Truth::Open };
                match path {
                    [] => Truth::Has(step, Aspect::OwnError),
                    [field] if ERROR_FIELDS.contains(&field.as_str()) => Truth::Has(step, Aspect::OwnError),
                    _ => all(vec![Truth::Has(step, Aspect::OwnError), Truth::Open]),
                }
            }
            [input, path @ ..] if input == "input" && presence::in_input(self.plan, path) => Truth::Const(true),
            [run] if run == "run" => Truth::Const(true),
            [run, field] if run == "run" && RUN_FIELDS.contains(&field.as_str()) => Truth::Const(true),
            [secrets, _] if secrets == "secrets" => Truth::Const(true),
            _ => self.free(asked, eyes),
        }
    }

    /// Whether a step has an output and this path is in it.
    fn in_output(&mut self, step: usize, path: &[String], asked: &Asked, eyes: Eyes) -> Truth {
        let has = Truth::Has(step, Aspect::Output);
        let always = presence::in_outputs(self.plan, step, path);
        if always.iter().all(|always| *always) {
            return has;
        }
        if self.plan.steps[step].foreach.is_some() || !always.contains(&true) {
            return all(vec![has, self.free(asked, eyes)]);
        }
        let by_member = always.iter().enumerate().map(|(member, always)| {
            let via = Truth::Via(step, member);
            if *always { via } else { all(vec![via, self.free(asked, eyes)]) }
        });
        any(by_member.collect())
    }

    /// A condition that depends on values: free, or open where the values are not the same wherever it is asked.
    fn free(&mut self, asked: &Asked, eyes: Eyes) -> Truth {
        let item = eyes.step.and_then(|step| self.plan.steps[step].foreach.as_ref()).map(|list| list.var.as_str());
        let varies = |name: &String| {
            matches!(name.as_str(), "index" | "error" | "output" | "key") || Some(name.as_str()) == item
        };
        if asked.names.iter().any(varies) {
            return Truth::Open;
        }
        if let Some(&known) = self.index.get(&asked.text)
            && !awake(Bug::OutlineConditionsApart)
        {
            return Truth::Free(known);
        }
        self.index.insert(asked.text.clone(), self.texts.len());
        self.texts.push(asked.text.clone());
        Truth::Free(self.texts.len() - 1)
    }
}

fn not(truth: Truth) -> Truth {
    match truth {
        Truth::Const(known) => Truth::Const(!known),
        Truth::Not(inner) => *inner,
        other => Truth::Not(Box::new(other)),
    }
}

fn all(parts: Vec<Truth>) -> Truth {
    let mut kept: Vec<Truth> = Vec::new();
    for part in parts {
        match part {
            Truth::Const(true) => {}
            Truth::Const(false) => return Truth::Const(false),
            Truth::All(inner) => kept.extend(inner),
            other => kept.push(other),
        }
    }
    joined(kept, true)
}

fn any(parts: Vec<Truth>) -> Truth {
    let mut kept: Vec<Truth> = Vec::new();
    for part in parts {
        match part {
            Truth::Const(false) => {}
            Truth::Const(true) => return Truth::Const(true),
            Truth::Any(inner) => kept.extend(inner),
            other => kept.push(other),
        }
    }
    joined(kept, false)
}

/// Joins what is left of a list: each once, and decided if one part is the opposite of another.
fn joined(parts: Vec<Truth>, by_and: bool) -> Truth {
    let mut kept: Vec<Truth> = Vec::new();
    for part in parts {
        if part != Truth::Open && kept.contains(&part) {
            continue;
        }
        let opposite = not(part.clone());
        if part != Truth::Open && opposite != Truth::Open && kept.contains(&opposite) {
            return Truth::Const(!by_and);
        }
        kept.push(part);
    }
    match kept.len() {
        0 => Truth::Const(by_and),
        1 => kept.remove(0),
        _ if by_and => Truth::All(kept),
        _ => Truth::Any(kept),
    }
}
