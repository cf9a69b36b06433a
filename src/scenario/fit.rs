//! Whether a scenario fits its workflow: names of steps, handlers, effects and members exist.

use std::collections::BTreeSet;

use super::read::{Case, Suite, Verb, keys};
use crate::diag::{Finding, FindingCode, Span};
use crate::dsl::Part;
use crate::dsl::tree::join;
use crate::engine::Workflow;
use crate::handlers::contract::Contracts;
use crate::limits::Limits;
use crate::plan::{Action, Plan};
use crate::suggest::nearest;
use crate::verify::sketch::Sketch;

/// The names that checks may begin with.
const ROOTS: [&str; 6] = ["run", "runs", "output", "steps", "ledger", "calls"];

/// Returns what of a case has no counterpart in the workflow.
pub(super) fn fit(
    suite: &Suite,
    case: &Case,
    workflow: &Workflow,
    contracts: &Contracts,
    limits: &Limits,
) -> Vec<Finding> {
    let plan = &workflow.plan;
    let mut fitting = Fitting { suite, plan, findings: Vec::new() };
    for problem in case.faults.check(plan) {
        let (place, message) = split(&problem);
        let at = place.map_or_else(|| case.places.faults.clone(), |n| join(&case.places.faults, n));
        let span = suite.tree.span(&at, Part::Value);
        fitting.findings.push(Finding::error(FindingCode::UnknownValue, span, message));
    }
    for (n, deed) in case.then.iter().enumerate() {
        let at = join(&case.places.then, &n.to_string());
        if let Some(step) = &deed.step {
            let at = join(&at, "when");
            let span = suite.tree.inside(&at, 0..step.as_str().len());
            fitting.step_at(step.as_str(), span);
        }
        match &deed.verb {
            Verb::Retry { from: Some(step) } => fitting.step(step.as_str(), &join(&at, "retry"), Part::Value),
            Verb::MarkDone { step, .. } => {
                fitting.step(step.as_str(), &join(&join(&at, "mark_done"), "step"), Part::Value)
            }
            _ => {}
        }
        if let Some(run) = deed.run {
            let count = case.runs.as_ref().map_or(1, |runs| runs.count);
            if run >= count {
                let span = suite.tree.span(&join(&at, "run"), Part::Value);
                let message = format!("there is no run {run}: the runs are numbered 0 to {}", count - 1);
                fitting.findings.push(Finding::error(FindingCode::OutOfRange, span, message));
            }
        }
    }
    if let Some(story) = &case.story
        && let (Some(loaded), _) = workflow.definition.clone().reopen(limits)
    {
        let mut sketch = Sketch::of(plan, &loaded.parsed.document);
        for misfit in story.course(plan, &mut sketch).err().unwrap_or_default() {
            let at = format!("{}{}", case.places.story, misfit.at);
            let span = suite.tree.span(&at, misfit.part);
            let finding = Finding::error(FindingCode::UnknownValue, span, misfit.message);
            fitting.findings.push(finding.help_if(misfit.help));
        }
    }
    let at = &case.places.expect;
    for step in keys(&case.expect.steps) {
        fitting.step(step, &join(&join(at, "steps"), step), Part::Key);
    }
    for (n, step) in case.expect.undone.iter().flatten().enumerate() {
        // An item of a `foreach` is written `pack[2]`.
        let name = step.split('[').next().unwrap_or(step);
        fitting.step(name, &join(&join(at, "undone"), &n.to_string()), Part::Value);
    }
    for (step, expected) in &case.expect.steps {
        if let Some(via) = expected.via.as_ref().and_then(|via| via.as_str()) {
            fitting.member(step, via, &join(&join(&join(at, "steps"), step), "via"));
        }
    }
    let handlers: BTreeSet<&str> = contracts.keys().map(crate::names::HandlerName::as_str).collect();
    for handler in keys(&case.expect.calls) {
        fitting.known("there is no handler", handler, &handlers, &join(&join(at, "calls"), handler));
    }
    let effects = effects(contracts);
    if !effects.is_empty() {
        for effect in keys(&case.expect.ledger) {
            fitting.known("no handler has the effect", effect, &effects, &join(&join(at, "ledger"), effect));
        }
    }
    for (n, (_, check)) in case.checks.iter().enumerate() {
        for reference in check.references() {
            let (Some(root), Some(range)) = (reference.path.first(), reference.ranges.first()) else { continue };
            if !ROOTS.contains(&root.as_str()) {
                let at = join(&join(at, "check"), &n.to_string());
                let span = suite.tree.inside(&at, range.clone());
                let finding = Finding::error(FindingCode::UnknownVariable, span, format!("a check knows no `{root}`"))
                    .help(format!("It may read {}.", ROOTS.join(", ")));
                fitting.findings.push(finding);
            }
        }
    }
    fitting.findings
}

/// Returns the names of all effects and of what undoes them.
pub(super) fn effects(contracts: &Contracts) -> BTreeSet<&str> {
    let undos = contracts.values().filter_map(|c| c.undoes.as_ref()).map(|u| u.as_.as_str());
    contracts.values().filter_map(|c| c.effect.as_deref()).chain(undos).collect()
}

/// Splits the place off a problem with a rule: `faults[2]: ...`.
fn split(problem: &str) -> (Option<&str>, &str) {
    let parts = problem.strip_prefix("faults[").and_then(|rest| rest.split_once("]: "));
    parts.map_or((None, problem), |(number, message)| (Some(number), message))
}

struct Fitting<'a> {
    suite: &'a Suite,
    plan: &'a Plan,
    findings: Vec<Finding>,
}

impl Fitting<'_> {
    fn step(&mut self, name: &str, at: &str, part: Part) {
        self.step_at(name, self.suite.tree.span(at, part));
    }

    fn step_at(&mut self, name: &str, span: Span) {
        if self.plan.find(&name.into()).is_some() {
            return;
        }
        let names = self.plan.steps.iter().map(|s| s.name.as_str());
        let finding = Finding::error(FindingCode::UnknownStep, span, format!("the workflow has no step `{name}`"));
        let near = nearest(name, names.clone());
        let all = names.collect::<Vec<_>>().join(", ");
        self.findings.push(
            finding.help(near.map_or_else(|| format!("Its steps are {all}."), |n| format!("Did you mean `{n}`?"))),
        );
    }

    fn member(&mut self, step: &str, via: &str, at: &str) {
        let Some(ix) = self.plan.find(&step.into()) else { return };
        let Action::Call(members) = &self.plan.step(ix).action else { return };
        let names: BTreeSet<&str> = members.iter().map(|m| m.name.as_str()).collect();
        if !names.contains(via) {
            let message = format!("step `{step}` has no member `{via}`");
            let help = format!("Its members are {}.", names.into_iter().collect::<Vec<_>>().join(", "));
            let span = self.suite.tree.span(at, Part::Value);
            self.findings.push(Finding::error(FindingCode::UnknownValue, span, message).help(help));
        }
    }

    fn known(&mut self, what: &str, name: &str, names: &BTreeSet<&str>, at: &str) {
        if names.contains(name) {
            return;
        }
        let near = nearest(name, names.iter().copied());
        let span = self.suite.tree.span(at, Part::Key);
        let finding = Finding::error(FindingCode::UnknownValue, span, format!("{what} `{name}`"));
        self.findings.push(finding.help_if(near.map(|n| format!("Did you mean `{n}`?"))));
    }
}
