//! Forward: which steps may begin and how, waits, the items of a step, and how steps and the run end well.

use crate::teeth::{Bug, awake};
use crate::verify::findings::{Part, Problem, Reader, Spot, Stop};
use crate::verify::sketch::{Act, Decision, OnError, OnSkip, Read, Step as Plan, Wait};

use super::after::{After, Told};
use super::rules::Rules;
use super::state::{Attempts, Phase, Stage, State, Task, Verdict};

impl Rules<'_> {
    /// Every step whose needs are satisfied may begin.
    pub fn beginnings(&self, state: &State) -> Vec<After> {
        self.may_begin(state).flat_map(|step| self.begin(After::from(state), step)).collect()
    }

    fn may_begin(&self, state: &State) -> impl Iterator<Item = usize> {
        let may = |step: &usize| {
            let needs = &self.sketch.steps[*step].needs;
            state.steps[*step].stage == Stage::Pending && needs.iter().all(|need| self.satisfies(state, *need))
        };
        (0..self.sketch.steps.len()).filter(may)
    }

    /// Returns a step that begins in one commit with what satisfied the last of its needs: nobody has to let it in.
    fn begins_at_once(&self, state: &State) -> Option<usize> {
        let late = |step: &usize| self.sketch.steps[*step].is_let_in() || awake(Bug::ExploreBeginsLate);
        self.may_begin(state).find(|step| !late(step))
    }

    /// A step satisfies who needs it when it has succeeded or was skipped, or has ended otherwise and is passed over.
    fn satisfies(&self, state: &State, step: usize) -> bool {
        match state.steps[step].stage {
            Stage::Skipped | Stage::Ended(Verdict::Succeeded(_)) => true,
            Stage::Ended(Verdict::Failed | Verdict::Unknown) => self.sketch.steps[step].on_error == OnError::Continue,
            Stage::Pending | Stage::Waiting | Stage::Calling => false,
        }
    }

    /// A step begins: it is skipped with all that it needs, or asks its `when`.
    fn begin(&self, after: After, step: usize) -> Vec<After> {
        let plan = &self.sketch.steps[step];
        let skipped = |need: &usize| after.state.steps[*need].stage == Stage::Skipped;
        let all_skipped = !plan.needs.is_empty() && plan.needs.iter().all(skipped);
        if all_skipped && plan.on_skip != Some(OnSkip::Run) && !awake(Bug::ExploreSkipNotPassedOn) {
            return vec![skip(after, step)];
        }
        match &plan.when {
            Some(when) => self.ask_when(after, step, when),
            None => self.act(after, step),
        }
    }

    /// `when` decides whether a step is skipped; if it cannot be read the step fails.
    fn ask_when(&self, after: After, step: usize, when: &Decision) -> Vec<After> {
        let read = self.read(after, &when.reads, Reader::When(step), None).into_iter();
        read.flat_map(|(after, missed)| {
            if missed {
                return vec![self.unreadable(after, step)];
            }
            let asked = self.ask(after, &when.truth, None).into_iter();
            asked
                .flat_map(|(mut after, holds)| {
                    after.reached.push(Part::When(step, holds));
                    if holds { self.act(after, step) } else { vec![skip(after, step)] }
                })
                .collect()
        })
        .collect()
    }

    /// A step does what it is there for.
    fn act(&self, after: After, step: usize) -> Vec<After> {
        let plan = &self.sketch.steps[step];
        match (&plan.act, &plan.items) {
            (Act::Wait(wait), _) => self.begin_wait(after, step, wait),
            (Act::Call(_), Some(reads)) => self.list(after, step, reads),
            (Act::Call(_), None) => {
                let mut after = after;
                after.price.begun += 1;
                after.state.step_mut(step).stage = Stage::Calling;
                self.begin_item(after, step, None)
            }
        }
    }

    /// A template of a step cannot be read before anything was called: the step fails.
    fn unreadable(&self, mut after: After, step: usize) -> After {
        after.told.push(Told::Unreadable(step));
        self.end_step(after, step, Verdict::Failed)
    }

    /// A wait begins, if its `until` can be read.
    fn begin_wait(&self, after: After, step: usize, wait: &Wait) -> Vec<After> {
        let read = self.read(after, &wait.reads, Reader::Until(step), None).into_iter();
        read.map(|(mut after, missed)| {
            if missed {
                return self.unreadable(after, step);
            }
            after.price.begun += 1;
            after.state.step_mut(step).stage = Stage::Waiting;
            after.told.push(Told::Waits(step));
            after.reached.push(Part::Step(step));
            let bounded = wait.limited || (self.sketch.deadline && !awake(Bug::ExploreDeadlineEndsNoWait));
            if wait.signal && !bounded {
                after.problems.push(Problem::WaitsForEver(step));
            }
            after
        })
        .collect()
    }

    /// What a step waits for comes, or a signal does not come in time. A wait ends at once when the run stops. It may have
    /// been over just before: nothing begins any more in a run that is being put down, nor between two times that have both
    /// come when somebody looks.
    pub fn waits(&self, state: &State) -> Vec<After> {
        let mut moves = Vec::new();
        for (step, plan) in self.sketch.steps.iter().enumerate() {
            let (Act::Wait(wait), Stage::Waiting) = (&plan.act, state.steps[step].stage) else { continue };
            let drains = state.phase == Phase::Drain;
            if drains {
                moves.push(self.end_step(After::from(state), step, Verdict::Failed));
                if plan.pivot || awake(Bug::ExploreNoWaitOverBefore) {
                    continue;
                }
            }
            let mut came = After::from(state);
            came.told.push(Told::Came(step));
            moves.push(self.end_step(came, step, Verdict::Succeeded(None)));
            if wait.signal && wait.limited && !(drains && plan.on_error == OnError::Compensate) {
                let mut missed = After::from(state);
                missed.told.push(Told::Missed(step));
                missed.fault();
                moves.push(self.end_step(missed, step, Verdict::Failed));
            }
        }
        moves
    }

    /// A step with items has none or some; without any it has succeeded.
    fn list(&self, after: After, step: usize, reads: &[Read]) -> Vec<After> {
        let read = self.read(after, reads, Reader::Items(step), None).into_iter();
        read.flat_map(|(after, missed)| {
            if missed {
                return vec![self.unreadable(after, step)];
            }
            let of = |items: usize| {
                let mut after = after.clone();
                after.told.push(Told::Lists(step));
                let state = after.state.step_mut(step);
                (state.stage, state.items) = (Stage::Calling, items);
                if items == 0 { self.end_step(after, step, Verdict::Succeeded(None)) } else { after }
            };
            (0..=self.items).map(of).collect()
        })
        .collect()
    }

    /// A further item of a list begins, if there is room, and none has ended badly that is not passed over.
    pub fn further_items(&self, state: &State) -> Vec<After> {
        let lists = (0..self.sketch.steps.len()).filter(|step| self.has_room(state, *step));
        lists.flat_map(|step| self.further_item(state, step)).collect()
    }

    /// Returns a list of which an item begins in one commit with what made room for it.
    fn lists_at_once(&self, state: &State) -> Option<usize> {
        let at_once = |step: &usize| !self.sketch.steps[*step].let_in && self.has_room(state, *step);
        (0..self.sketch.steps.len()).find(at_once)
    }

    fn further_item(&self, state: &State, step: usize) -> Vec<After> {
        let item = u32::try_from(state.steps[step].tasks.len()).expect("a list is short");
        let mut after = After::from(state);
        after.price.begun += u32::from(item == 0);
        self.begin_item(after, step, Some(item))
    }

    /// Tells whether a further item of a step can begin.
    fn has_room(&self, state: &State, step: usize) -> bool {
        let (plan, list) = (&self.sketch.steps[step], &state.steps[step]);
        let items_left = plan.items.is_some() && list.stage == Stage::Calling && list.tasks.len() < list.items;
        items_left && list.running() < plan.concurrency as usize && !no_item_begins_after(list.bad, plan)
    }

    /// Tells whether a commit is not complete: steps that begin at once, or the items of a list that begin as soon as there
    /// is room, are still missing, or that a failure stops the run.
    pub fn is_in_a_commit(&self, state: &State) -> bool {
        state.phase == Phase::Forward && (self.begins_more(state) || self.stops_by(state).is_some())
    }

    fn begins_more(&self, state: &State) -> bool {
        self.begins_at_once(state).is_some() || self.lists_at_once(state).is_some()
    }

    /// Goes on with a commit that is not complete. Whatever else may begin does, also where a step fails as soon as it
    /// begins.
    pub fn in_a_commit(&self, state: &State) -> Vec<After> {
        // A list is begun with its first items.
        if let Some(list) = self.lists_at_once(state) {
            return self.further_item(state, list);
        }
        if let Some(step) = self.begins_at_once(state) {
            return self.begin(After::from(state), step);
        }
        let stop = |step: usize| self.stop(After::from(state), Stop::Failed(step));
        self.stops_by(state).map(stop).into_iter().collect()
    }

    /// Returns the step that stops the run: it has failed, and `on_error` says so.
    fn stops_by(&self, state: &State) -> Option<usize> {
        let failed =
            |step: &usize| matches!(state.steps[*step].stage, Stage::Ended(Verdict::Failed | Verdict::Unknown));
        let stops = |step: &usize| self.sketch.steps[*step].on_error == OnError::Compensate;
        (0..self.sketch.steps.len()).filter(failed).find(stops).filter(|_| state.phase == Phase::Forward)
    }

    /// A step, or an item of one, makes its first call.
    fn begin_item(&self, mut after: After, step: usize, item: Option<u32>) -> Vec<After> {
        let Act::Call(members) = &self.sketch.steps[step].act else { unreachable!("only calls have items") };
        after.state.step_mut(step).tasks.push(Task::new(Attempts::first(0), members.len()));
        self.call(after, Spot { step, item, member: 0 })
    }

    /// A step without items ends as its call does; one with items when the last that is under way has ended and none
    /// begins any more.
    pub fn end_item(&self, mut after: After, step: usize, item: Option<u32>, verdict: Verdict) -> After {
        if item.is_none() {
            return self.end_step(after, step, verdict);
        }
        let forward = after.state.phase == Phase::Forward;
        let list = after.state.step_mut(step);
        if list.bad.is_none() && matches!(verdict, Verdict::Failed | Verdict::Unknown) {
            list.bad = Some(verdict);
        }
        let all_begun = list.tasks.len() == list.items;
        let none_begins = !forward || all_begun || no_item_begins_after(list.bad, &self.sketch.steps[step]);
        let over = list.running() == 0 && none_begins;
        if over { self.end_list(after, step) } else { after }
    }

    /// In a drain a list ends of which no item is under way.
    pub fn lists_without_an_item_under_way(&self, state: &State) -> Vec<After> {
        let idle = |step: &usize| {
            let (plan, list) = (&self.sketch.steps[*step], &state.steps[*step]);
            plan.items.is_some() && list.stage == Stage::Calling && list.running() == 0
        };
        let lists = (0..self.sketch.steps.len()).filter(idle);
        lists.map(|step| self.end_list(After::from(state), step)).collect()
    }

    /// A list ends: well if all items were done or passed over, else as the first item that ended badly.
    fn end_list(&self, after: After, step: usize) -> After {
        let list = &after.state.steps[step];
        let all = list.tasks.len() == list.items;
        let passes = self.sketch.steps[step].on_error == OnError::Continue;
        let verdict = match list.bad {
            Some(_) if all && passes => Verdict::Succeeded(None),
            Some(bad) => bad,
            None if all => Verdict::Succeeded(None),
            None => Verdict::Failed,
        };
        self.end_step(after, step, verdict)
    }

    /// A step ends. If that is a failure that stops the run, it does so in the same commit, of which it is the last part.
    fn end_step(&self, mut after: After, step: usize, verdict: Verdict) -> After {
        after.state.step_mut(step).stage = Stage::Ended(verdict);
        match self.stops_by(&after.state) {
            Some(by) if !self.begins_more(&after.state) || awake(Bug::ExploreStopsBeforeAllBegin) => {
                self.stop(after, Stop::Failed(by))
            }
            _ => after,
        }
    }

    /// When every step has ended well enough the output is made, and the run is completed.
    pub fn complete(&self, state: &State) -> Vec<After> {
        if !self.all_satisfied(state) {
            return Vec::new();
        }
        let read = self.read(After::from(state), &self.sketch.output, Reader::Output, None).into_iter();
        read.map(|(mut after, missed)| {
            if missed {
                return self.stop(after, Stop::Output);
            }
            after.state.phase = if self.an_undo_failed(state) { Phase::Incomplete } else { Phase::Completed };
            after
        })
        .collect()
    }

    /// Tells whether every step has ended well enough for the run to be completed.
    pub fn all_satisfied(&self, state: &State) -> bool {
        (0..self.sketch.steps.len()).all(|step| self.satisfies(state, step))
    }

    /// Returns the steps for which a run is parked that rests because nothing can go on: they have failed and say `park`.
    pub fn parked(&self, state: &State) -> Vec<usize> {
        if state.phase != Phase::Forward {
            return Vec::new();
        }
        let failed =
            |step: &usize| matches!(state.steps[*step].stage, Stage::Ended(Verdict::Failed | Verdict::Unknown));
        let parks = |step: &usize| self.sketch.steps[*step].on_error == OnError::Park;
        (0..self.sketch.steps.len()).filter(failed).filter(parks).collect()
    }
}

/// A step is skipped.
fn skip(mut after: After, step: usize) -> After {
    after.state.step_mut(step).stage = Stage::Skipped;
    after.told.push(Told::Skipped(step));
    after
}

/// Tells whether an item that has ended badly keeps further ones from beginning.
fn no_item_begins_after(bad: Option<Verdict>, plan: &Plan) -> bool {
    bad.is_some() && plan.on_error != OnError::Continue && !awake(Bug::ExploreItemsGoOn)
}
