//! The runs of a test, one after the other: what is injected into each follows from the run without faults.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::judge;
use super::{Injection, Method, Site, TestFailure, TestReport, TestedRun, Testing};
use crate::engine::Workflow;
use crate::faults::{Action, Attempts, Fault, Faults, Kind};
use crate::handlers::contract::Contracts;
use crate::machine::event::CallKind;
use crate::names::HandlerName;
use crate::plan::Action as StepAction;
use crate::scenario::judge::{Effects, compare};
use crate::scenario::play::{self, CrashPoint, Ending, Script};
use crate::scenario::read::{Case, Deed, Verb};
use crate::scenario::{Mismatch, crash_points};
use crate::teeth::{Bug, awake};

/// The calls that do something.
const ACTS: [CallKind; 2] = [CallKind::Forward, CallKind::Finally];

pub(super) struct Session<'a> {
    testing: &'a Testing,
    workflow: Arc<Workflow>,
    effects: Effects,
    case: Case,
    report: TestReport,
}

/// A place where a fault is injected, and what is called there.
#[derive(Clone)]
struct Target {
    site: Site,
    kind: CallKind,
    handler: HandlerName,
}

impl<'a> Session<'a> {
    pub(super) fn new(testing: &'a Testing, workflow: Arc<Workflow>, contracts: &Contracts) -> Self {
        let mut case = Case::of(&workflow.plan.name, testing.input.clone());
        case.seed = testing.seed;
        case.setup = testing.setup.clone();
        case.faults = testing.faults.clone();
        let signals = testing.signals.iter().map(|(step, name, data)| Deed {
            when: format!("{step}.waiting"),
            step: Some(step.clone()),
            status: "waiting".to_owned(),
            after: Duration::ZERO,
            run: None,
            verb: Verb::Signal { name: name.clone(), data: data.clone(), id: None },
        });
        case.then = signals.collect();
        let report = TestReport { workflow: testing.workflow.display().to_string(), ..TestReport::default() };
        Self { testing, workflow, effects: Effects::of(contracts), case, report }
    }

    pub(super) fn run(mut self) -> TestReport {
        let calm = self.play(Vec::new(), None);
        let mut wrong: Vec<Mismatch> = calm.unmet.iter().map(|text| Mismatch::said("signal", text.clone())).collect();
        wrong.extend(judge::general(&self.workflow.plan, &calm, &calm, &self.effects));
        self.close(Injection::None, &calm, wrong);
        if !self.report.passed() {
            // Nothing can be held against a run that is wrong itself.
            return self.report;
        }
        let targets = self.targets(&calm);
        let methods = &self.testing.methods;
        let wants = |method| methods.contains(&method);
        let mut failing = Vec::new();
        if [Method::FailSteps, Method::FailUndos, Method::RepeatUndos].into_iter().any(wants) {
            for target in self.with_members(&targets) {
                failing.push((target.clone(), self.fail(&target, &calm, wants(Method::FailSteps))));
            }
        }
        if wants(Method::RepeatSteps) {
            for target in &targets {
                self.repeat(target, &calm);
            }
        }
        if wants(Method::RepeatUndos) {
            for (target, ending) in &failing {
                self.repeat_undos(target, ending, &calm);
            }
        }
        if wants(Method::FailUndos) {
            self.fail_undos(&failing, &calm);
        }
        if wants(Method::Crash) {
            self.crash(&calm);
        }
        self.report
    }

    fn play(&self, rules: Vec<Fault>, crash: Option<CrashPoint>) -> Ending {
        let mut case = self.case.clone();
        case.faults = Faults::before(rules, &self.case.faults);
        let registry = (self.testing.registry)();
        let script = Script {
            case: &case,
            workflow: &self.workflow,
            registry: &registry,
            limits: &self.testing.limits,
            secrets: Some(&self.testing.secrets),
            watch: None,
        };
        play::play(script, crash)
    }

    /// Asks the user's checks, and notes what is wrong.
    fn close(&mut self, injection: Injection, ending: &Ending, mut wrong: Vec<Mismatch>) {
        if let (Some((report, _)), Some(handlers)) = (judge::run_of(ending), &ending.handlers) {
            let run = TestedRun { injection: &injection, report, ledger: &ending.ledger, handlers };
            let said = self.testing.checks.iter().filter_map(|check| check(&run).err());
            wrong.extend(said.map(|why| Mismatch::said("check", why)));
        }
        if !wrong.is_empty() {
            let history = ending.histories.first().cloned().unwrap_or_default();
            self.report.failures.push(TestFailure { injection, wrong, history });
        }
    }

    fn rule(&self, site: &Site, kind: CallKind, action: Action) -> Fault {
        Fault {
            step: Some(site.step.clone()),
            handler: None,
            member: site.member.as_deref().map(Into::into),
            item: site.item,
            call: Kind::from(kind),
            attempts: Attempts::default(),
            from: None,
            until: None,
            action,
        }
    }

    fn error(&self) -> Action {
        let (code, kind) = self.testing.error.clone();
        Action::Error { code, kind, message: "injected by a test".to_owned() }
    }

    /// Returns where the run without faults called a handler to do something.
    fn targets(&mut self, calm: &Ending) -> Vec<Target> {
        let mut seen = BTreeSet::new();
        let mut targets = Vec::new();
        for attempt in calm.attempts.iter().filter(|attempt| ACTS.contains(&attempt.kind)) {
            let site = Site { step: attempt.step.clone(), item: attempt.item, member: None };
            if seen.insert((site.clone(), attempt.kind)) {
                targets.push(Target { site, kind: attempt.kind, handler: attempt.handler.clone() });
            }
        }
        let reached: BTreeSet<&str> = targets.iter().map(|target| target.site.step.as_str()).collect();
        let calls = self.workflow.plan.steps.iter().filter(|step| matches!(step.action, StepAction::Call(_)));
        let unreached = calls.map(|step| step.name.to_string()).filter(|name| !reached.contains(name.as_str()));
        self.report.unreached = unreached.collect();
        targets
    }

    /// Adds the members that were called, one by one, where a step has several.
    fn with_members(&self, targets: &[Target]) -> Vec<Target> {
        let plan = &self.workflow.plan;
        let mut all = Vec::new();
        for target in targets {
            all.push(target.clone());
            let step = plan.find(&target.site.step).filter(|_| target.kind == CallKind::Forward);
            if let Some(StepAction::Call(members)) = step.map(|ix| &plan.step(ix).action)
                && members.len() > 1
            {
                let site = Site { member: Some(members[0].name.to_string()), ..target.site.clone() };
                all.push(Target { site, ..target.clone() });
            }
        }
        all
    }

    /// Lets a step fail. Returns how that ended, for what is done to the undos.
    fn fail(&mut self, target: &Target, calm: &Ending, told: bool) -> Ending {
        let Target { site, kind, .. } = target;
        let ending = self.play(vec![self.rule(site, *kind, self.error())], None);
        if told {
            self.report.injections += 1;
            let plan = Arc::clone(&self.workflow);
            let mut wrong = judge::general(&plan.plan, calm, &ending, &self.effects);
            let fired = judge::fired(&ending, site, &ACTS);
            if fired {
                wrong.extend(judge::failed(&plan.plan, site, *kind, self.testing.error.0.as_str(), &ending));
            } else if !awake(Bug::UnfiredInjection) {
                wrong.push(judge::unfired("error", site));
            }
            self.close(Injection::Fail(site.clone()), &ending, wrong);
        }
        ending
    }

    /// Tells whether a handler may be called twice with the same key; says so in the report if not.
    fn may_repeat(&mut self, what: &str, handler: &HandlerName, repeatable: bool) -> bool {
        if !repeatable {
            let text = format!("repeating {what}: `{handler}` does not say that it is `keyed()` or `safe()`");
            if !self.report.left_out.contains(&text) {
                self.report.left_out.push(text);
            }
        }
        repeatable
    }

    fn repeat(&mut self, target: &Target, calm: &Ending) {
        let Target { site, kind, handler } = target;
        let workflow = Arc::clone(&self.workflow);
        let contract = |call: &crate::plan::Call| call.contract.as_ref().is_some_and(|c| c.repeatable());
        let repeatable = match workflow.plan.find(&site.step).map(|ix| &workflow.plan.step(ix).action) {
            Some(StepAction::Call(members)) => members.iter().all(|member| contract(&member.call)),
            _ => workflow.plan.finally.iter().filter(|f| f.name == site.step).all(|f| contract(&f.call)),
        };
        if !self.may_repeat(&format!("`{site}`"), handler, repeatable) {
            return;
        }
        if !judge::succeeded(calm, site, *kind) {
            self.report.left_out.push(format!("repeating `{site}`: it fails without a fault"));
            return;
        }
        self.report.injections += 1;
        let ending = self.play(vec![self.rule(site, *kind, Action::Repeat)], None);
        let mut wrong = judge::general(&workflow.plan, calm, &ending, &self.effects);
        if !judge::fired(&ending, site, &ACTS) && !awake(Bug::UnfiredInjection) {
            wrong.push(judge::unfired("second call", site));
        }
        wrong.extend(judge::same(calm, &ending, &self.testing.ignored, false));
        self.close(Injection::Repeat(site.clone()), &ending, wrong);
    }

    fn undo_handler(&self, undo: &Site) -> Option<(HandlerName, bool)> {
        let plan = &self.workflow.plan;
        let StepAction::Call(members) = &plan.step(plan.find(&undo.step)?).action else { return None };
        let member = members.iter().find(|member| Some(member.name.as_str()) == undo.member.as_deref())?;
        let call = member.compensate.as_ref()?;
        Some((call.handler.clone(), call.repeatable()))
    }

    fn repeat_undos(&mut self, target: &Target, failed: &Ending, calm: &Ending) {
        let workflow = Arc::clone(&self.workflow);
        let mut undos = BTreeSet::new();
        for undo in judge::undos(&workflow.plan, failed) {
            let Some((handler, repeatable)) = self.undo_handler(&undo) else { continue };
            if self.may_repeat(&format!("the undo of `{undo}`"), &handler, repeatable) {
                undos.insert(undo);
            }
        }
        if undos.is_empty() {
            return;
        }
        self.report.injections += 1;
        let mut rules = vec![self.rule(&target.site, target.kind, self.error())];
        rules.extend(undos.iter().map(|undo| self.rule(undo, CallKind::Undo, Action::Repeat)));
        let ending = self.play(rules, None);
        let mut wrong = judge::general(&workflow.plan, calm, &ending, &self.effects);
        let missed = undos.iter().filter(|undo| !judge::fired(&ending, undo, &[CallKind::Undo]));
        wrong.extend(missed.map(|undo| judge::unfired("second undo", undo)));
        wrong.extend(judge::same(failed, &ending, &self.testing.ignored, false));
        self.close(Injection::RepeatUndos(target.site.clone()), &ending, wrong);
    }

    fn fail_undos(&mut self, failing: &[(Target, Ending)], calm: &Ending) {
        let workflow = Arc::clone(&self.workflow);
        // Each undo fails once: after the first failure that brings it about and ends the run.
        let mut after = BTreeMap::new();
        for (target, ending) in failing {
            let ends = judge::run_of(ending).is_some_and(|(report, _)| report.status == "failed");
            if !ends {
                continue;
            }
            for undo in judge::undos(&workflow.plan, ending) {
                after.entry(undo).or_insert((target, ending));
            }
        }
        for (undo, (target, failed)) in after {
            self.report.injections += 1;
            let error = Action::Error {
                code: self.testing.error.0.clone(),
                kind: crate::failure::ErrorKind::Permanent,
                message: "injected by a test".to_owned(),
            };
            let rules =
                vec![self.rule(&target.site, target.kind, self.error()), self.rule(&undo, CallKind::Undo, error)];
            let ending = self.play(rules, None);
            let mut wrong = judge::general(&workflow.plan, calm, &ending, &self.effects);
            if judge::fired(&ending, &undo, &[CallKind::Undo]) {
                wrong.extend(judge::owed(&workflow.plan, &undo, failed, &ending));
            } else {
                wrong.push(judge::unfired("failure of the undo", &undo));
            }
            self.close(Injection::FailUndo { undo, after: target.site.clone() }, &ending, wrong);
        }
    }

    fn crash(&mut self, calm: &Ending) {
        let workflow = Arc::clone(&self.workflow);
        for (point, text) in crash_points(calm) {
            self.report.crash_points += 1;
            let ending = self.play(Vec::new(), Some(point));
            let mut wrong = judge::general(&workflow.plan, calm, &ending, &self.effects);
            if !ending.crashed {
                wrong.push(Mismatch::said("injection", "the process did not come to where it was to die".to_owned()));
            }
            if !judge::cut_off_for_good(&ending) {
                wrong.extend(judge::same(calm, &ending, &self.testing.ignored, true));
                wrong.extend(compare(calm, &ending, &self.effects));
            }
            self.close(Injection::Crash(text), &ending, wrong);
        }
    }
}
