//! From a checked workflow to its sketch.
//!
//! It reads the plan for what the calls are, and the document for where each thing stands and for what the plan has no
//! place for: the invariants, and which effects are harmless. It knows nothing of what follows from a sketch.

mod conditions;
mod endings;
mod presence;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use self::endings::ending_of;

use self::conditions::{Conditions, Eyes};
use super::sketch::{
    ATTEMPTS_MAX, Act, Confirm, Finally, IfAbsent, Invariant, Member, Repeat, Site, Sketch, Step, Undo, Wait,
};
use crate::check::invariant;
use crate::dsl::document::Document;
use crate::dsl::tree::join;
use crate::plan::calls::{self, CallAt, MemberAt};
use crate::plan::{self, Action, Plan, WaitLimit};
use crate::teeth::{Bug, awake};
use crate::template::Scope;

impl Sketch {
    /// Makes the sketch of a workflow that was checked without errors; `document` is what `plan` was made of.
    #[must_use]
    pub fn of(plan: &Plan, document: &Document) -> Self {
        let mut known = Scope::default();
        known.vars.insert("config".into(), Arc::clone(&plan.config));
        Outline { plan, document, conditions: Conditions::new(plan, known), effects: Effects::default() }.sketch()
    }
}

/// The names of effects, each once.
#[derive(Default)]
struct Effects {
    names: Vec<String>,
    index: HashMap<String, usize>,
}

impl Effects {
    fn place(&mut self, name: &str) -> usize {
        if let Some(&place) = self.index.get(name) {
            return place;
        }
        self.index.insert(name.to_owned(), self.names.len());
        self.names.push(name.to_owned());
        self.names.len() - 1
    }
}

struct Outline<'a> {
    plan: &'a Plan,
    document: &'a Document,
    conditions: Conditions<'a>,
    effects: Effects,
}

impl Outline<'_> {
    fn sketch(mut self) -> Sketch {
        let steps = (0..self.plan.steps.len()).map(|ix| self.step(ix)).collect();
        let output = self.plan.output.as_ref();
        let output = output.map(|output| self.conditions.template(output, "/output", Eyes::outside()));
        let finally = self.plan.finally.iter().map(|step| {
            let at = join(&join("/finally", step.name.as_str()), "with");
            let reads = self.conditions.template(&step.call.with, &at, Eyes::outside());
            Finally { name: step.name.to_string(), reads }
        });
        let finally = finally.collect();
        let invariants = self.document.invariants.iter().enumerate().filter_map(|(i, written)| {
            let formula = invariant::parse(&written.never).ok()?;
            Some(Invariant { text: written.never.clone(), formula, site: Site::at(format!("/invariants/{i}/never")) })
        });
        Sketch {
            name: self.plan.name.clone(),
            steps,
            order: self.plan.order.iter().map(|ix| ix.0 as usize).collect(),
            effects: self.effects.names,
            deadline: self.plan.deadline.is_some(),
            output: output.unwrap_or_default(),
            finally,
            invariants: invariants.collect(),
            conditions: self.conditions.texts(),
        }
    }

    fn step(&mut self, ix: usize) -> Step {
        let plan = self.plan;
        let step = &plan.steps[ix];
        let at = join("/steps", step.name.as_str());
        let eyes = Eyes::of_step(ix);
        let when = step.when.as_ref().map(|when| self.conditions.decision(when, &join(&at, "when"), eyes));
        let items =
            step.foreach.as_ref().map(|list| self.conditions.expression(&list.items, &join(&at, "foreach"), eyes));
        let act = match &step.action {
            Action::Wait(wait) => Act::Wait(self.wait(wait, &join(&at, "wait"), eyes)),
            Action::Call(members) => {
                let written = self.document.steps.get(step.name.as_str());
                let written = written
                    .map(|written| calls::members(self.document, step.name.as_str(), written))
                    .unwrap_or_default();
                let both = members.iter().zip(&written).enumerate();
                Act::Call(both.map(|(m, (member, at))| self.member(ix, members, m, member, at)).collect())
            }
        };
        let let_in = match &step.action {
            Action::Call(members) => self.plan.guard_of(&members[0].call).is_some() && !awake(Bug::OutlineNobodyLetsIn),
            Action::Wait(_) => false,
        };
        Step {
            name: step.name.to_string(),
            needs: step.needs.iter().map(|need| need.0 as usize).collect(),
            when,
            on_skip: step.on_skip,
            on_error: step.on_error,
            pivot: step.pivot,
            items,
            concurrency: step.foreach.as_ref().map_or(1, |list| list.concurrency),
            let_in,
            act,
            site: Site::at(at),
        }
    }

    fn wait(&mut self, wait: &plan::Wait, at: &str, eyes: Eyes) -> Wait {
        let until = match wait {
            plan::Wait::Until(until) | plan::Wait::Signal { limit: WaitLimit::Until(until), .. } => Some(until),
            plan::Wait::For(_) | plan::Wait::Signal { .. } => None,
        };
        Wait {
            reads: until.map(|until| self.conditions.expression(until, &join(at, "until"), eyes)).unwrap_or_default(),
            signal: matches!(wait, plan::Wait::Signal { .. }),
            limited: !matches!(wait, plan::Wait::Signal { limit: WaitLimit::None, .. }),
        }
    }

    fn member(
        &mut self,
        ix: usize,
        members: &[plan::Member],
        m: usize,
        member: &plan::Member,
        at: &MemberAt<'_>,
    ) -> Member {
        let eyes = Eyes::of_step(ix);
        let after = Eyes::of_result(ix, m);
        let contract = member.call.contract.as_deref();
        let effect = contract.and_then(|c| c.effect.as_deref());
        let when = member.when.as_ref().zip(at.when.as_ref());
        Member {
            name: member.name.to_string(),
            handler: member.call.handler.to_string(),
            when: when.map(|(when, at)| self.conditions.decision(when, &at.pointer, eyes)),
            reads: self.with(&member.call, &at.call, eyes),
            effect: effect.map(|effect| self.effects.place(effect)),
            repeat: contract.map_or(Repeat::Once, |c| c.repeat),
            repeatable: member.call.repeatable(),
            attempts: u8::try_from(member.call.retry.attempts.clamp(1, ATTEMPTS_MAX)).expect("it is at most 3"),
            endings: endings::endings(self.plan, members, m),
            refused: endings::engine(members, m, "template", true),
            cut_off: endings::engine(members, m, "crashed", false),
            confirm: member.confirm.as_ref().zip(at.confirm.as_ref()).map(|(call, at)| Confirm {
                handler: call.handler.to_string(),
                reads: self.with(call, at, after),
                blocks_late: call.contract.as_ref().is_some_and(|c| c.blocks_late),
                site: Site::at(&at.at),
            }),
            undo: member.compensate.as_ref().zip(at.compensate.as_ref()).map(|(call, at)| {
                let declared = call.contract.as_ref().and_then(|c| c.undoes.as_ref());
                let reads = self.with(call, at, after);
                Undo {
                    handler: call.handler.to_string(),
                    reads: if awake(Bug::OutlineUndoReadsNothing) { Vec::new() } else { reads },
                    undoes: effect.is_some() && declared.map(|undoes| undoes.effect.as_str()) == effect,
                    undone: declared.map(|undoes| undoes.as_.clone()),
                    // What declares no undoing knows of nothing that could be absent.
                    if_absent: declared.map_or(IfAbsent::Ok, |undoes| undoes.if_absent),
                    blocks_late: call.contract.as_ref().is_some_and(|c| c.blocks_late)
                        || awake(Bug::OutlineUndoRefusesLate),
                    site: Site::at(&at.at),
                }
            }),
            harmless: at.harmless,
            site: Site::at(&at.call.at),
        }
    }

    fn with(&mut self, call: &plan::Call, at: &CallAt<'_>, eyes: Eyes) -> Vec<super::sketch::Read> {
        match &at.with {
            Some(with) => self.conditions.template(&call.with, &with.pointer, eyes),
            None => Vec::new(),
        }
    }
}
