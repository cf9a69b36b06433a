//! Backward and to the end: drain, undo, park, `finally`, and how the run ends (SPEC 6.9 to 6.13, 6.20).

use crate::machine::event::{Cause, Compensation, Conclusion, Status};
use crate::names::Code;
use crate::plan::{Action, StepIx};

use super::state::{Done, Item, Member, Phase, Try, Undone, Verdict, Way};
use super::{Model, Violation, demand, wrong};

impl Model {
    /// Tells whether a step is a pivot that succeeded or stays unknown.
    pub(super) fn past_pivot(&self) -> bool {
        let past = |verdict: Option<Verdict>| matches!(verdict, Some(Verdict::Succeeded | Verdict::Unknown));
        // One item is enough: what it did cannot be taken back.
        let items = |step: &super::Step| step.items.iter().any(|item| past(item.verdict));
        let ended = |step: &super::Step| matches!(step.way, Way::Ended(verdict) if past(Some(verdict)));
        self.steps.iter().zip(&self.plan.steps).any(|(step, plan)| plan.pivot && (ended(step) || items(step)))
    }

    pub(super) fn drain(&mut self, cause: &Cause) -> Result<(), Violation> {
        let given_up = matches!(cause, Cause::Cancelled { compensate: false, .. });
        let at_pivot = self.phase == Phase::Drain && self.parked.as_ref().is_some_and(|(code, _)| *code == "pivot");
        demand(self.phase == Phase::Forward || (at_pivot && given_up), "once a drain has begun nothing changes it")?;
        match cause {
            Cause::Failed { place: Some(place), error } => {
                self.at_work()?;
                let Some(first) = self.first_failure() else { return wrong("no step has failed") };
                let (step, plan) = (&self.steps[first], &self.plan.steps[first]);
                demand(plan.name == place.step && place.item == step.culprit, "the first cause is another")?;
                demand(step.error.as_ref() == Some(error), "the cause has another error")?;
            }
            Cause::Failed { place: None, error } => {
                self.at_work()?;
                let full = error.code == "limit" && self.events * 2 > self.limits.events;
                let made = self.plan.output.is_some() && self.all_ended();
                demand(full || made, "neither the output nor a limit can have failed")?;
            }
            Cause::Deadline { error } => {
                self.at_work()?;
                demand(error.code == "deadline", "a deadline has its own code")?;
                let Some(deadline) = self.deadline else { return wrong("there is no deadline") };
                demand(self.now >= deadline, "the deadline has not come")?;
                let exact = self.now == deadline.max(self.since);
                demand(!self.punctual || exact, "the deadline came after its time")?;
            }
            Cause::Cancelled { compensate, .. } => {
                demand(!self.past_pivot() || !compensate, "a pivot is not rolled back")?;
                self.leave = !compensate;
                if self.parked.as_ref().is_some_and(|(code, _)| *code == "recovery") {
                    self.deaths = 0;
                }
                self.unpark();
            }
        }
        self.phase = Phase::Drain;
        self.cause = Some(cause.clone());
        let members = self.steps.iter_mut().flat_map(|step| &mut step.items).flat_map(|item| &mut item.members);
        for member in members.filter(|member| member.forward.now == Try::CutOff) {
            // It is not begun again, so nobody knows how far it came.
            (member.forward.now, member.done) = (Try::Over, Done::Unclear);
        }
        // A deadline that has passed once has no more to say.
        if matches!(cause, Cause::Deadline { .. }) {
            self.deadline = None;
        }
        Ok(())
    }

    /// Tells whether every step has ended so that the run can be completed.
    fn all_ended(&self) -> bool {
        self.steps.iter().zip(&self.plan.steps).all(|(step, plan)| step.satisfies(plan))
    }

    /// Demands that the drain is over: what was under way has ended, and waits too.
    fn drained(&self) -> Result<(), Violation> {
        let over = |step: &super::Step| !matches!(step.way, Way::Active | Way::Waiting { .. });
        demand(self.steps.iter().all(over), "something is still under way")
    }

    pub(super) fn start_undo(&mut self) -> Result<(), Violation> {
        self.at_work()?;
        demand(self.phase == Phase::Drain, "there is nothing to turn back from")?;
        self.drained()?;
        demand(!self.past_pivot(), "a pivot is not rolled back")?;
        demand(!self.leave, "the operator wants left what was done")?;
        self.phase = Phase::Undo;
        Ok(())
    }

    /// Tells whether a member's effect must be undone: in a run that goes back, or in one that went on.
    fn is_owed(&self, step: usize, item: &Item, ix: usize) -> bool {
        let Action::Call(members) = &self.plan.steps[step].action else { return false };
        let member = &item.members[ix];
        let back = self.cause.is_some() && member.done == Done::Yes;
        members[ix].compensate.is_some() && (back || member.may_have_acted()) && member.undone != Undone::Yes
    }

    /// Returns the members whose undo is owed.
    fn owed(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.steps.iter().enumerate().flat_map(move |(ix, step)| {
            let items = step.items.iter();
            items.flat_map(move |item| {
                let owed = move |m: &usize| self.is_owed(ix, item, *m);
                (0..item.members.len()).filter(owed).map(move |m| (ix, &item.members[m]))
            })
        })
    }

    /// Demands that a member may be undone now: all that depends on its step has been.
    pub(super) fn may_undo(&self, step: usize, item: usize, ix: usize) -> Result<(), Violation> {
        let state = &self.steps[step].items[item];
        demand(self.is_owed(step, state, ix), "there is nothing to undo, or it is undone")?;
        demand(state.members[ix].undone == Undone::No, "its undo has failed for good")?;
        let after = |other: usize| other != step && self.depends(other, step);
        let open = self.owed().any(|(other, m)| m.undone == Undone::No && after(other));
        demand(!open, "something that depends on it is not undone yet")
    }

    /// Tells whether a step depends on another, through others too.
    fn depends(&self, step: usize, on: usize) -> bool {
        let mut seen = vec![false; self.steps.len()];
        let mut left = vec![step];
        while let Some(ix) = left.pop() {
            for StepIx(need) in &self.plan.steps[ix].needs {
                if *need as usize == on {
                    return true;
                }
                if !std::mem::replace(&mut seen[*need as usize], true) {
                    left.push(*need as usize);
                }
            }
        }
        false
    }

    /// Demands that a conclusion is the one that the run has come to.
    fn concludes(&self, conclusion: &Conclusion) -> Result<(), Violation> {
        self.at_work()?;
        match self.phase {
            Phase::Forward => {
                demand(self.all_ended(), "not everything has ended")?;
                demand(self.first_failure().is_none(), "a failed step stops the run")?;
            }
            Phase::Drain => {
                demand(self.leave, "what was done is not undone")?;
                self.drained()?;
            }
            Phase::Undo => {
                demand(!self.owed().any(|(_, m)| m.undone == Undone::No), "something is not undone yet")?;
            }
            Phase::New | Phase::Ending | Phase::Final => return wrong("the end is decided once"),
        }
        let status = match &self.cause {
            None => Status::Completed,
            Some(Cause::Failed { .. } | Cause::Deadline { .. }) => Status::Failed,
            Some(Cause::Cancelled { .. }) => Status::Cancelled,
        };
        demand(conclusion.status == status, &format!("the status is {status:?}"))?;
        let compensation = self.compensation();
        demand(conclusion.compensation == compensation, &format!("the compensation is {compensation:?}"))?;
        let error = match &self.cause {
            None => None,
            Some(Cause::Failed { error, .. } | Cause::Deadline { error }) => Some(error),
            // The operator's reason, in whatever words.
            Some(Cause::Cancelled { .. }) => return Ok(()),
        };
        demand(conclusion.error.as_ref() == error, "the first cause is kept, and it is another")
    }

    pub(super) fn compensation(&self) -> Compensation {
        match (self.owed().next(), self.undid) {
            (Some(_), _) => Compensation::Incomplete,
            (None, true) => Compensation::Complete,
            (None, false) => Compensation::NoneNeeded,
        }
    }

    pub(super) fn end(&mut self, conclusion: &Conclusion) -> Result<(), Violation> {
        demand(!self.finally.is_empty() && self.conclusion.is_none(), "there is nothing to run at the end")?;
        self.concludes(conclusion)?;
        self.phase = Phase::Ending;
        self.conclusion = Some(conclusion.clone());
        Ok(())
    }

    pub(super) fn finish(&mut self, conclusion: &Conclusion) -> Result<(), Violation> {
        if self.phase == Phase::Ending {
            self.at_work()?;
            demand(self.finally.iter().all(|tries| tries.now == Try::Over), "`finally` steps are left")?;
            demand(self.conclusion.as_ref() == Some(conclusion), "the end was decided otherwise")?;
        } else {
            self.concludes(conclusion)?;
            demand(self.finally.is_empty() || self.conclusion.is_some(), "the `finally` steps did not run")?;
        }
        demand(!self.all_tries().any(|tries| matches!(tries.now, Try::Running { .. })), "an attempt is under way")?;
        self.phase = Phase::Final;
        self.conclusion = Some(conclusion.clone());
        Ok(())
    }

    pub(super) fn park(&mut self, code: &Code) -> Result<(), Violation> {
        demand(self.parked.is_none() && self.phase != Phase::Final, "there is nothing to park")?;
        demand(!self.down, "no process has the run")?;
        match code.as_str() {
            "step" => {
                demand(self.phase == Phase::Forward, "a run on its way back is not parked for a step")?;
                let bad = |(step, plan): (&super::Step, &crate::plan::Step)| step.is_bad() && !step.satisfies(plan);
                demand(self.steps.iter().zip(&self.plan.steps).any(bad), "no step has failed")?;
                self.nothing_can_go_on(false)?;
            }
            "pivot" => {
                demand(self.phase == Phase::Drain && self.past_pivot() && !self.leave, "no pivot is in the way")?;
                self.drained()?;
            }
            "recovery" => demand(self.deaths >= 3, "the process has not died three times")?,
            // Whether a handler or a secret is there, and what it takes, the events do not say.
            "handler_missing" | "handler_changed" | "secret_missing" => {}
            _ => return wrong("there is no such reason to park"),
        }
        demand(self.deaths < 3 || *code == "recovery", "a third death parks the run")?;
        self.parked = Some((code.clone(), self.now));
        Ok(())
    }
}
