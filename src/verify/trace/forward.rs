//! Forward: which steps may begin, what comes next for an item, and how steps end (SPEC 6.2, 6.5, 6.8, 6.18, 6.19).

use crate::failure::Failure;
use crate::machine::event::{Outcome, Place, SkipReason};
use crate::names::StepName;
use crate::payload::Payload;
use crate::plan::{self, Action, OnError, OnSkip, Wait, WaitLimit};
use crate::teeth::{Bug, awake};
use crate::template::Expression;
use crate::time::Timestamp;

use super::state::{Done, Item, Phase, Try, Undone, Verdict, Way};
use super::{Model, Violation, demand, wrong};

/// What may come next for an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing before what is under way has ended.
    Nothing,
    /// An attempt of this member.
    Attempt(usize),
    /// The question whether this member has worked.
    Ask(usize),
    /// The undo of this member.
    Undo(usize),
    /// Its end.
    End(Verdict),
}

/// What can be said about a condition before it is evaluated: nothing, if it depends on values.
fn constant(when: Option<&Expression>) -> Option<bool> {
    let Some(when) = when else { return Some(true) };
    when.literal().and_then(|value| value.as_bool())
}

impl Model {
    /// Demands that the run goes forward and nothing keeps it from it.
    pub(super) fn may_go_forward(&self) -> Result<(), Violation> {
        self.at_work()?;
        demand(self.phase == Phase::Forward, "nothing new starts on the way back")?;
        // In the commit in which a step fails, others may begin that may begin with it.
        let later = |failed: usize| self.steps[failed].ended_at < self.now;
        demand(!self.first_failure().is_some_and(later), "nothing new starts after a failure")?;
        let late = self.punctual && self.deadline.is_some_and(|deadline| self.now > deadline.max(self.since));
        demand(!late, "nothing new starts after the deadline")
    }

    /// Returns the step whose failure stops the run.
    pub(super) fn first_failure(&self) -> Option<usize> {
        let stops = |ix: &usize| {
            let step = &self.steps[*ix];
            step.is_bad() && !step.waived && self.plan.steps[*ix].on_error == OnError::Compensate
        };
        (0..self.steps.len()).filter(stops).min_by_key(|ix| self.steps[*ix].ended)
    }

    /// Demands that a step may begin, or be skipped for one of its reasons.
    fn may_begin_step(&self, ix: usize) -> Result<(), Violation> {
        self.may_go_forward()?;
        let (step, plan) = (&self.steps[ix], &self.plan.steps[ix]);
        demand(step.way == Way::Pending, "the step has begun already")?;
        let needs = plan.needs.iter().all(|n| self.steps[n.0 as usize].satisfies(self.plan.step(*n)));
        demand(needs, "the step needs one that has not ended")
    }

    /// Tells whether all that a step needs was skipped, and it is for that reason.
    fn skipped_by_needs(&self, ix: usize) -> bool {
        let plan = &self.plan.steps[ix];
        let all = plan.needs.iter().all(|n| self.steps[n.0 as usize].way == Way::Skipped);
        !plan.needs.is_empty() && all && plan.on_skip == Some(OnSkip::Skip)
    }

    /// Demands that a step may run.
    fn may_run(&self, ix: usize) -> Result<(), Violation> {
        self.may_begin_step(ix)?;
        demand(!self.skipped_by_needs(ix), "the step is skipped, as all that it needs was")?;
        demand(constant(self.plan.steps[ix].when.as_ref()) != Some(false), "the step is skipped, its `when` is false")
    }

    /// Demands that an item may begin: that of a step without `foreach` when the step may run.
    pub(super) fn may_begin_item(&self, ix: usize, item: usize) -> Result<(), Violation> {
        let (step, plan) = (&self.steps[ix], &self.plan.steps[ix]);
        let Some(foreach) = &plan.foreach else {
            // A step that starts afresh does not ask its condition again.
            return if step.way == Way::Active { Ok(()) } else { self.may_run(ix) };
        };
        demand(step.way == Way::Active, "the items are not known, or over")?;
        demand(step.items[item].verdict.is_none(), "the item is over")?;
        let under_way = step.items.iter().filter(|item| item.under_way()).count();
        demand(under_way < foreach.concurrency as usize, "too many items are under way")?;
        let stopped = plan.on_error != OnError::Continue && step.items.iter().any(Item::is_bad);
        demand(!stopped, "no item begins after one has failed")
    }

    pub(super) fn skip(&mut self, step: &StepName, reason: SkipReason) -> Result<(), Violation> {
        let ix = self.step_ix(step)?;
        self.may_begin_step(ix)?;
        match reason {
            SkipReason::Needs => demand(self.skipped_by_needs(ix), "not all that it needs was skipped")?,
            SkipReason::When => {
                demand(constant(self.plan.steps[ix].when.as_ref()) != Some(true), "its `when` holds")?;
            }
        }
        self.steps[ix].way = Way::Skipped;
        Ok(())
    }

    pub(super) fn list(&mut self, step: &StepName, items: &Payload) -> Result<(), Violation> {
        let ix = self.step_ix(step)?;
        self.may_run(ix)?;
        let plan = &self.plan.steps[ix];
        let (Some(foreach), Action::Call(members)) = (&plan.foreach, &plan.action) else {
            return wrong("the step has no items");
        };
        let Some(list) = items.value().as_array() else { return wrong("the items are no list") };
        let same = foreach.items.literal().is_none_or(|literal| literal == **items.value());
        demand(same, "these are not the items")?;
        demand(list.len() as u64 <= self.limits.items, "there are too many items")?;
        let items = vec![Item::new(members.len()); list.len()];
        self.steps[ix].items = items;
        self.steps[ix].way = Way::Active;
        Ok(())
    }

    pub(super) fn wait(
        &mut self,
        step: &StepName,
        until: Option<Timestamp>,
        name: Option<&str>,
    ) -> Result<(), Violation> {
        let ix = self.step_ix(step)?;
        if self.steps[ix].way != Way::Active {
            self.may_run(ix)?;
        }
        self.may_go_forward()?;
        let Action::Wait(wait) = &self.plan.steps[ix].action else { return wrong("the step does not wait") };
        let fits = match wait {
            Wait::For(time) => name.is_none() && until == Some(self.now.after(*time)),
            Wait::Until(_) => name.is_none() && until.is_some(),
            Wait::Signal { name: of, limit, .. } => {
                let until = match limit {
                    WaitLimit::None => until.is_none(),
                    WaitLimit::For(time) => until == Some(self.now.after(*time)),
                    WaitLimit::Until(_) => until.is_some(),
                };
                name == Some(of) && until
            }
        };
        demand(fits, "it waits for something else")?;
        self.steps[ix].way = Way::Waiting { until, since: self.now };
        Ok(())
    }

    /// Returns what may come next for an item of a call: several things where the rules leave it open.
    pub(super) fn next(&self, ix: usize, item: usize) -> Vec<Next> {
        let (plan, state) = (&self.plan.steps[ix], &self.steps[ix].items[item]);
        let Action::Call(members) = &plan.action else { return Vec::new() };
        let forward = self.phase == Phase::Forward;
        if state.verdict.is_some() {
            return Vec::new();
        }
        let under_way = |tries: &super::Tries| matches!(tries.now, Try::Running { .. });
        if state.members.iter().any(|m| under_way(&m.forward) || under_way(&m.confirm) || under_way(&m.undo)) {
            return vec![Next::Nothing];
        }
        let Some(m) = state.current else {
            return if forward { vec![Next::Attempt(0)] } else { vec![Next::Nothing] };
        };
        let member = &state.members[m];
        if member.forward.now != Try::Over && forward {
            return vec![Next::Attempt(m)];
        }
        if member.done == Done::Yes {
            return vec![Next::End(Verdict::Succeeded)];
        }
        if member.done == Done::Unclear && members[m].confirm.is_some() && member.answer.is_none() {
            return vec![Next::Ask(m)];
        }
        let end = Next::End(self.verdict(state));
        let to_undo = member.may_have_acted() && members[m].compensate.is_some();
        if !forward {
            // An undo before a fallback that the drain came across may be tried again at once or have its turn later.
            let tried = to_undo && matches!(member.undo.now, Try::Backoff(_) | Try::CutOff);
            return if tried { vec![end, Next::Undo(m)] } else { vec![end] };
        }
        if member.undone == Undone::Failed {
            return vec![end];
        }
        let to_undo = to_undo && member.undone == Undone::No;
        let (candidates, certain) = self.candidates(members, state, m);
        let mut next = Vec::new();
        if to_undo && (!candidates.is_empty() || plan.on_error == OnError::Continue) {
            next.push(Next::Undo(m));
        } else {
            next.extend(candidates.iter().map(|c| Next::Attempt(*c)));
        }
        if !certain && (plan.on_error != OnError::Continue || !to_undo) {
            next.push(end);
        }
        next
    }

    /// Returns the fallbacks that may be tried after member `m`, and whether one of them is.
    fn candidates(&self, members: &[plan::Member], state: &Item, m: usize) -> (Vec<usize>, bool) {
        let Some(error) = &state.members[m].error else { return (Vec::new(), false) };
        let mut found = Vec::new();
        for (ix, fallback) in members.iter().enumerate().skip(m + 1) {
            let taken = fallback.errors.as_ref().is_none_or(|codes| codes.contains(&error.code));
            match constant(fallback.when.as_ref()) {
                _ if !taken => {}
                Some(false) => {}
                Some(true) => {
                    found.push(ix);
                    return (found, true);
                }
                None => found.push(ix),
            }
        }
        (found, false)
    }

    /// Returns how an item ends of which nothing has worked.
    fn verdict(&self, item: &Item) -> Verdict {
        let current = item.current.expect("it is asked about items that have begun");
        let left = |(ix, m): (usize, &super::state::Member)| {
            // What an undo has settled is settled, except for the member with which the item ends.
            m.done == Done::Unclear && (ix == current || m.undone != Undone::Yes) && !awake(Bug::ModelForgetsUnclear)
        };
        // If the undo before a fallback fails, the step is unknown whatever a confirm has said.
        let stuck = self.phase == Phase::Forward && item.members[current].undone == Undone::Failed;
        if stuck || item.members.iter().enumerate().any(left) { Verdict::Unknown } else { Verdict::Failed }
    }

    pub(super) fn settle(&mut self, place: &Place, outcome: &Outcome) -> Result<(), Violation> {
        let ix = self.step_ix(&place.step)?;
        let (verdict, error) = match outcome {
            Outcome::Succeeded { .. } => (Verdict::Succeeded, None),
            Outcome::Failed { error } => (Verdict::Failed, Some(error)),
            Outcome::Unknown { error } => (Verdict::Unknown, Some(error)),
        };
        let plan = self.plan.clone();
        let way = self.steps[ix].way;
        match (&plan.steps[ix].action, way) {
            (_, Way::Pending) => {
                // Its `when`, its list or its time could not be evaluated.
                self.may_run(ix)?;
                let error = error.filter(|error| matches!(error.code.as_str(), "template" | "limit"));
                let evaluated = {
                    let step = &plan.steps[ix];
                    let condition = step.when.as_ref().is_some_and(|when| when.literal().is_none());
                    condition || step.foreach.is_some() || matches!(step.action, Action::Wait(_))
                };
                demand(error.is_some() && evaluated, "a step ends that has not begun")?;
            }
            (Action::Wait(wait), Way::Waiting { until, since }) => {
                self.end_wait(ix, wait, until, since, outcome)?;
            }
            (Action::Call(_), Way::Active) if plan.steps[ix].foreach.is_some() && place.item.is_none() => {
                self.may_end_list(ix, verdict, error)?;
            }
            (Action::Call(_), Way::Active) => {
                let (_, item) = self.place_ix(place)?;
                demand(self.next(ix, item).contains(&Next::End(verdict)), "the item does not end like that now")?;
                let state = &self.steps[ix].items[item];
                let last = state.current.and_then(|m| state.members[m].error.as_ref()).map(|e| &e.code);
                let other = error.is_some_and(|e| {
                    last.is_some_and(|l| *l != e.code && !matches!(e.code.as_str(), "template" | "limit" | "crashed"))
                });
                demand(!other, "the error is not the last attempt's")?;
                self.steps[ix].items[item].verdict = Some(verdict);
                if let (Some(item), true) = (place.item, verdict != Verdict::Succeeded) {
                    self.steps[ix].culprit.get_or_insert(item);
                }
                if plan.steps[ix].foreach.is_some() {
                    return Ok(());
                }
            }
            _ => return wrong("the step is not under way"),
        }
        self.end_step(ix, verdict, error);
        Ok(())
    }

    /// Notes the end of a step.
    pub(super) fn end_step(&mut self, ix: usize, verdict: Verdict, error: Option<&Failure>) {
        let (drained, ended, ended_at) = (self.phase != Phase::Forward, self.events, self.now);
        let step = &mut self.steps[ix];
        step.way = Way::Ended(verdict);
        step.error = error.cloned();
        (step.drained, step.ended, step.ended_at) = (drained, ended, ended_at);
    }

    fn end_wait(
        &mut self,
        ix: usize,
        wait: &Wait,
        until: Option<Timestamp>,
        since: Timestamp,
        outcome: &Outcome,
    ) -> Result<(), Violation> {
        let now = self.now;
        let fails_with = |code: &str| matches!(outcome, Outcome::Failed { error } if error.code == code);
        if self.phase != Phase::Forward {
            return demand(fails_with("cancelled"), "a wait ends `cancelled` when the run stops");
        }
        self.at_work()?;
        let begun = self.since.max(since);
        let due = |exact: bool| {
            demand(until.is_some_and(|until| now >= until), "the wait ends before its time")?;
            demand(!exact || until.is_some_and(|until| now == until.max(begun)), "the wait ends after its time")
        };
        match (wait, outcome) {
            (Wait::For(_) | Wait::Until(_), Outcome::Succeeded { .. }) => due(self.punctual),
            (Wait::Signal { .. }, Outcome::Failed { .. }) => {
                demand(fails_with("signal_timeout"), "a signal that does not come is `signal_timeout`")?;
                due(self.punctual)
            }
            (Wait::Signal { name, .. }, Outcome::Succeeded { output }) => {
                let punctual = self.punctual;
                let Some(signal) = self.signals.iter_mut().find(|s| !s.taken && s.name == *name) else {
                    return wrong("there is no signal that is not used");
                };
                demand(
                    output.as_ref().is_none_or(|output| *output == signal.data),
                    "the oldest signal has other data",
                )?;
                demand(until.is_none_or(|until| signal.at.max(since) <= until), "the signal came too late")?;
                let exact = now == signal.at.max(begun);
                signal.taken = true;
                self.steps[ix].data = Some(signal.data.clone());
                demand(!punctual || exact, "the signal was not taken when it came")
            }
            _ => wrong("a wait does not end like that"),
        }
    }

    fn may_end_list(&self, ix: usize, verdict: Verdict, error: Option<&Failure>) -> Result<(), Violation> {
        let (step, plan) = (&self.steps[ix], &self.plan.steps[ix]);
        demand(!step.items.iter().any(Item::under_way), "items are under way")?;
        let bad = step.items.iter().any(Item::is_bad);
        let done = step.items.iter().all(|item| item.verdict.is_some());
        let passes = plan.on_error == OnError::Continue;
        let expected = match (done, bad) {
            (true, false) => Verdict::Succeeded,
            (true, true) if passes => Verdict::Succeeded,
            (false, _) if self.phase == Phase::Forward && (passes || !bad) => return wrong("items are left"),
            // The step ends as its first item that failed.
            _ => match step.culprit {
                Some(item) => step.items[item as usize].verdict.unwrap_or(Verdict::Failed),
                None => Verdict::Failed,
            },
        };
        // The outputs of all items together may be larger than what is recorded of a step.
        let too_large = expected == Verdict::Succeeded && error.is_some_and(|error| error.code == "limit");
        demand(verdict == expected || (verdict == Verdict::Failed && too_large), "the items ended otherwise")?;
        let named = step.culprit.is_none_or(|item| error.is_none_or(|e| e.message.contains(&format!("item {item}"))));
        demand(passes || named, "the step does not name the item that failed first")
    }

    /// Demands that nothing can go on by itself. With `signals`, waits for signals without an end may be left.
    pub(super) fn nothing_can_go_on(&self, signals: bool) -> Result<(), Violation> {
        demand(self.first_failure().is_none(), "a failure is left without a consequence")?;
        for (ix, step) in self.steps.iter().enumerate() {
            let name = &self.plan.steps[ix].name;
            let idle = match step.way {
                Way::Pending => self.may_begin_step(ix).is_err(),
                Way::Waiting { until, .. } => {
                    let signal = match &self.plan.steps[ix].action {
                        Action::Wait(Wait::Signal { name, .. }) => {
                            self.signals.iter().any(|s| !s.taken && s.name == *name)
                        }
                        _ => false,
                    };
                    signals && until.is_none() && !signal
                }
                Way::Active => false,
                Way::Skipped | Way::Ended(_) => true,
            };
            demand(idle, &format!("`{name}` could go on"))?;
        }
        let all = self.steps.iter().zip(&self.plan.steps).all(|(step, plan)| step.satisfies(plan));
        demand(!all, "everything has ended, but the run has not")
    }
}
