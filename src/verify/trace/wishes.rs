//! What comes from outside: processes that come and go, signals, operators (SPEC 6.6, 6.10, 6.13, 6.17, 6.18).

use crate::machine::event::{Compensation, Place, RunStarted};
use crate::names::StepName;
use crate::payload::Payload;
use crate::plan::{Action, Wait};

use super::state::{Done, Item, Member, Phase, Signal, Tries, Try, Undone, Way};
use super::{Model, Violation, demand};

impl Model {
    pub(super) fn begin(&mut self, started: &RunStarted) -> Result<(), Violation> {
        let deadline = self.plan.deadline.map(|deadline| self.now.after(deadline));
        demand(started.deadline == deadline, "the deadline is another")?;
        self.deadline = deadline;
        self.phase = Phase::Forward;
        self.since = self.now;
        self.life = 1;
        Ok(())
    }

    /// Demands that a process is at work on the run.
    pub(super) fn at_work(&self) -> Result<(), Violation> {
        demand(self.phase != Phase::Final, "the run is final")?;
        demand(self.parked.is_none(), "the run is parked")?;
        demand(!self.down, "the process has put the run down")?;
        demand(self.deaths < 3, "a third death parks the run")
    }

    pub(super) fn resume(&mut self, clean: bool) -> Result<(), Violation> {
        demand(self.phase != Phase::Final, "a final run is not resumed")?;
        let in_order = self.down || self.parked.is_some();
        let life = self.life;
        let running = |tries: &Tries| matches!(tries.now, Try::Running { life: of, .. } if of == life);
        // A run of which nothing was under way is not to blame for the death of its process.
        let died = !in_order && self.all_tries().any(running);
        demand(!(clean && died) && (clean || !in_order), "the process before was not put down like that")?;
        self.deaths += u32::from(died);
        self.life += 1;
        self.down = false;
        let lacking = |code: &str| matches!(code, "handler_missing" | "handler_changed" | "secret_missing");
        if self.parked.as_ref().is_some_and(|(code, _)| lacking(code.as_str())) {
            self.unpark();
        }
        self.since = self.now;
        Ok(())
    }

    pub(super) fn interrupt(&mut self) -> Result<(), Violation> {
        demand(!self.down && self.phase != Phase::Final, "there is nothing to put down")?;
        self.down = true;
        Ok(())
    }

    /// Goes on after a park. The deadline did not run meanwhile.
    pub(super) fn unpark(&mut self) {
        if let Some((_, since)) = self.parked.take() {
            let parked = self.now.since(since);
            self.deadline = self.deadline.map(|deadline| deadline.after(parked));
            self.since = self.now;
        }
    }

    pub(super) fn signal(&mut self, id: Option<&str>, name: &str, data: &Payload) -> Result<(), Violation> {
        demand(self.phase != Phase::Final, "a final run takes no signal")?;
        let waits = |action: &Action| matches!(action, Action::Wait(Wait::Signal { name: of, .. }) if of == name);
        demand(self.plan.steps.iter().any(|step| waits(&step.action)), "no step waits for such a signal")?;
        let known = id.is_some() && self.signals.iter().any(|signal| signal.id.as_deref() == id);
        demand(!known, "a signal that was sent twice is recorded once")?;
        let (id, name, data) = (id.map(str::to_owned), name.to_owned(), data.clone());
        self.signals.push(Signal { id, name, data, at: self.now, taken: false });
        Ok(())
    }

    pub(super) fn retry(&mut self, from: Option<&StepName>) -> Result<(), Violation> {
        demand(self.parked.is_some(), "only a parked run is retried")?;
        let pivot = self.parked.as_ref().is_some_and(|(code, _)| *code == "pivot");
        self.unpark();
        self.deaths = 0;
        if pivot {
            self.phase = Phase::Forward;
            self.cause = None;
        }
        if self.phase != Phase::Forward {
            return Ok(());
        }
        let plan = self.plan.clone();
        for (ix, step) in plan.steps.iter().enumerate() {
            let chosen = from.is_none_or(|name| *name == step.name);
            let passed = self.steps[ix].satisfies(step) && !self.steps[ix].drained;
            if self.steps[ix].is_bad() && chosen && !passed {
                self.start_afresh(ix);
            } else {
                // A person has seen this failure, and it stops nothing any more.
                self.steps[ix].waived |= self.steps[ix].is_bad();
            }
        }
        Ok(())
    }

    fn start_afresh(&mut self, ix: usize) {
        let step = &mut self.steps[ix];
        (step.error, step.culprit, step.drained) = (None, None, false);
        step.waived = false;
        for item in step.items.iter_mut().filter(|item| item.is_bad()) {
            afresh(item);
        }
        // A list that was known is known, and a member that may have acted is under way; all else begins anew.
        let listed = self.plan.steps[ix].foreach.is_some() && !step.items.is_empty();
        let again = step.items.iter().any(Item::under_way);
        step.way = if listed || again { Way::Active } else { Way::Pending };
    }

    pub(super) fn compensate(&mut self) -> Result<(), Violation> {
        let owes = self.conclusion.as_ref().is_some_and(|c| c.compensation == Compensation::Incomplete);
        demand(self.phase == Phase::Final && owes, "nothing is left to undo")?;
        demand(!self.past_pivot() || self.cause.is_none(), "a pivot is not rolled back")?;
        self.phase = Phase::Undo;
        self.leave = false;
        self.since = self.now;
        let members = self.steps.iter_mut().flat_map(|step| &mut step.items).flat_map(|item| &mut item.members);
        for member in members.filter(|member| member.undone == Undone::Failed) {
            let last = member.undo.last;
            member.undone = Undone::No;
            member.undo = Tries { last, ..member.undo.afresh() };
        }
        Ok(())
    }

    pub(super) fn mark_done(&mut self, place: &Place) -> Result<(), Violation> {
        let (step, item) = self.place_ix(place)?;
        demand(self.phase == Phase::Final, "repairs are for runs that have ended")?;
        let members = &mut self.steps[step].items[item].members;
        for member in members.iter_mut().filter(|member| member.done != Done::No) {
            member.undone = Undone::Yes;
        }
        self.undid = true;
        let compensation = self.compensation();
        if let Some(conclusion) = &mut self.conclusion {
            conclusion.compensation = compensation;
        }
        Ok(())
    }
}

/// Lets an item that failed start once more: with the member that may have acted and the same key, or from the first
/// member with new keys.
fn afresh(item: &mut Item) {
    let unsure = |m: &Member| m.may_have_acted() && m.undone != Undone::Yes;
    let again = item.members.iter().rposition(unsure);
    item.verdict = None;
    item.current = again;
    for (ix, member) in item.members.iter_mut().enumerate() {
        let (same, unsure) = (Some(ix) == again, unsure(member));
        if !unsure && member.error.is_some() {
            member.generation += 1;
        }
        member.forward = member.forward.afresh();
        member.forward.input &= same;
        member.confirm = member.confirm.afresh();
        member.answer = None;
        member.undo = member.undo.afresh();
        (member.confirm.input, member.undo.input) = (false, false);
        (member.undone, member.error) = (Undone::No, None);
        // Nobody remembers of a denial but that it left a doubt.
        member.done = if unsure { Done::Unclear } else { Done::No };
    }
}
