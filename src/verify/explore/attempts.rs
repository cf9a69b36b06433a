//! A member's call: its attempts, one at a time, what each came to in the world, the death of the process, `confirm`, the
//! undo before a fallback and at a pass-over, and which member is next.

use crate::teeth::{Bug, awake};
use crate::verify::findings::{Answer, Attempt, Part, Problem, Reader, Spot, UndoEnd, World};
use crate::verify::sketch::{Failing, Member, OnError};

use super::after::{After, Told};
use super::backward::Undone;
use super::rules::Rules;
use super::state::{Attempts, CallEnd, Code, Now, Phase, Stage, State, Verdict};

impl Rules<'_> {
    /// Returns a member of a step.
    pub fn member(&self, spot: Spot) -> &Member {
        &self.members(spot.step)[spot.member]
    }

    /// Returns the members of a step, none for a wait.
    pub fn members(&self, step: usize) -> &[Member] {
        self.sketch.steps[step].members()
    }

    fn failing(&self, spot: Spot, code: Code) -> &Failing {
        let member = self.member(spot);
        match code {
            Code::Ending(ix) => &member.endings[ix],
            Code::Refused => &member.refused,
            Code::CutOff => &member.cut_off,
        }
    }

    /// A member is called. If its `with` cannot be read there is no attempt, and nothing can have happened.
    pub fn call(&self, mut after: After, spot: Spot) -> Vec<After> {
        after.told.push(Told::Called(spot));
        let part = if spot.member == 0 { Part::Step(spot.step) } else { Part::Fallback((spot.step, spot.member)) };
        after.reached.push(part);
        let reader = Reader::With((spot.step, spot.member));
        let read = self.read(after, &self.member(spot).reads, reader, Some(spot)).into_iter();
        read.flat_map(|(mut after, missed)| {
            if missed {
                return self.end_call(after, spot, Code::Refused, false);
            }
            after.state.task_mut(spot.step, spot.item).now = Now::Attempt(Attempts::first(spot.member));
            vec![after]
        })
        .collect()
    }

    /// Whatever can become of the attempts of each item.
    pub fn attempts(&self, state: &State) -> Vec<After> {
        let mut moves = Vec::new();
        for (step, item) in state.begun(self.sketch) {
            let of = |attempts: Attempts| Spot { step, item, member: attempts.member };
            match state.task(step, item).now {
                Now::Attempt(attempts) => {
                    moves.extend(self.succeed(state, of(attempts)));
                    moves.extend(self.fail(state, of(attempts), attempts));
                }
                Now::CutOff(attempts) => moves.extend(self.recover(state, of(attempts), attempts)),
                Now::Between(attempts, ending) => moves.extend(self.go_on(state, of(attempts), attempts, ending)),
                Now::Asked(..) | Now::Undo(..) | Now::Ended(_) => {}
            }
        }
        moves
    }

    /// An attempt succeeds.
    fn succeed(&self, state: &State, spot: Spot) -> Vec<After> {
        let mut after = After::from(state);
        after.told.push(Told::Tried(spot, Attempt::Succeeded));
        self.change_the_world(&mut after, spot, World::Done);
        after.state.tried_mut(spot).end = Some(CallEnd::Succeeded);
        vec![self.end_task(after, spot, Verdict::Succeeded(Some(spot.member)))]
    }

    /// An attempt fails, in each of the ways there are. It is repeated if that is allowed, an attempt is left, and the run
    /// still goes forward.
    fn fail(&self, state: &State, spot: Spot, attempts: Attempts) -> Vec<After> {
        let member = self.member(spot);
        let mut moves = Vec::new();
        for (ix, failing) in member.endings.iter().enumerate() {
            for world in worlds(member, failing.clear) {
                let mut after = After::from(state);
                after.told.push(Told::Tried(spot, Attempt::Failed(ix, *world)));
                mar(&mut after, attempts);
                self.change_the_world(&mut after, spot, *world);
                let unclear = is_unclear(member, attempts.unclear, !failing.clear);
                let left = attempts.number < member.attempts;
                if failing.retried && left && state.phase == Phase::Forward {
                    let attempts = Attempts { unclear: unclear && member.acts(), marred: true, ..attempts };
                    after.state.task_mut(spot.step, spot.item).now = Now::Between(attempts, ix);
                    moves.push(after);
                } else {
                    moves.extend(self.end_call(after, spot, Code::Ending(ix), unclear));
                }
            }
        }
        moves
    }

    /// A failed attempt is repeated when its time has come; in a drain it is not, and stays what it was.
    fn go_on(&self, state: &State, spot: Spot, attempts: Attempts, ending: usize) -> Vec<After> {
        let member = self.member(spot);
        let mut after = After::from(state);
        if state.phase == Phase::Drain {
            let unclear = is_unclear(member, attempts.unclear, !member.endings[ending].clear);
            return self.end_call(after, spot, Code::Ending(ending), unclear);
        }
        after.reached.push(Part::Retry((spot.step, spot.member)));
        let next = Attempts { number: attempts.number + 1, ..attempts };
        after.state.task_mut(spot.step, spot.item).now = Now::Attempt(next);
        vec![after]
    }

    /// Whoever carries attempts out dies: the process, and with it every attempt that is under way, or one worker of many
    /// with some of them. Each has come to anything. An undo, a confirm, a wait and whatever waits for its time are as
    /// they were when the run is taken up again.
    pub fn death(&self, state: &State) -> Vec<After> {
        let alive = After::from(state);
        let mut ways: Vec<After> = Vec::new();
        let mut under_way = 0;
        for (step, item) in state.begun(self.sketch) {
            let Now::Attempt(attempts) = state.task(step, item).now else { continue };
            under_way += 1;
            let spot = Spot { step, item, member: attempts.member };
            let cut = |after: &After, world: World| {
                let mut after = after.clone();
                after.told.push(Told::Tried(spot, Attempt::CutOff(world)));
                mar(&mut after, attempts);
                self.change_the_world(&mut after, spot, world);
                let unclear = attempts.unclear || self.member(spot).acts();
                let attempts = Attempts { unclear, marred: true, ..attempts };
                after.state.task_mut(spot.step, spot.item).now = Now::CutOff(attempts);
                after
            };
            let worlds = worlds(self.member(spot), false);
            let others = std::iter::once(&alive).chain(&ways);
            let dies: Vec<After> =
                others.flat_map(|after| worlds.iter().map(move |world| cut(after, *world))).collect();
            ways.extend(dies);
        }
        ways.retain(|after| after.told.len() == under_way || !awake(Bug::ExploreDeathTakesAll));
        ways
    }

    /// An attempt that was cut off is repeated if its handler allows that, and uses up none of the attempts. Otherwise,
    /// and in a drain, nobody knows how far it came.
    fn recover(&self, state: &State, spot: Spot, attempts: Attempts) -> Vec<After> {
        let mut after = After::from(state);
        let forward = state.phase == Phase::Forward || awake(Bug::ExploreCutOffRepeatedInDrain);
        if self.member(spot).repeatable && forward {
            after.state.task_mut(spot.step, spot.item).now = Now::Attempt(attempts);
            return vec![after];
        }
        self.end_call(after, spot, Code::CutOff, true)
    }

    /// A request that is on its way lands, wherever it comes from and whatever was decided since.
    pub fn landings(&self, state: &State) -> Vec<After> {
        let landing = |spot: Spot| {
            let landed = state.tried(spot).standing.landed().filter(|_| !awake(Bug::ExploreNothingLands))?;
            let mut after = After::from(state);
            after.state.tried_mut(spot).standing = landed;
            Some(after)
        };
        state.spots(self.sketch).into_iter().filter_map(landing).collect()
    }

    /// An attempt came to something in the world, if its member has an effect at all.
    fn change_the_world(&self, after: &mut After, spot: Spot, came_to: World) {
        let member = self.member(spot);
        if member.effect.is_some() {
            let tried = after.state.tried_mut(spot);
            tried.standing = tried.standing.after(came_to, member.repeat);
        }
    }

    /// The call of a member ends badly: whoever may have acted is asked about, once.
    fn end_call(&self, mut after: After, spot: Spot, code: Code, unclear: bool) -> Vec<After> {
        let member = self.member(spot);
        let tried = after.state.tried_mut(spot);
        tried.may_have_acted = unclear && member.acts();
        tried.end = Some(if unclear { CallEnd::Unknown } else { CallEnd::Failed });
        if unclear && member.confirm.is_some() {
            after.state.task_mut(spot.step, spot.item).now = Now::Asked(spot.member, code);
            return vec![after];
        }
        self.after_call(after, spot, code)
    }

    /// The answers that each `confirm` can give.
    pub fn confirms(&self, state: &State) -> Vec<After> {
        let mut moves = Vec::new();
        for (step, item) in state.begun(self.sketch) {
            if let Now::Asked(member, code) = state.task(step, item).now {
                moves.extend(self.confirm(state, Spot { step, item, member }, code));
            }
        }
        moves
    }

    /// A `confirm` says what the world is at this moment, or that nobody knows.
    fn confirm(&self, state: &State, spot: Spot, code: Code) -> Vec<After> {
        let member = self.member(spot);
        let Some(confirm) = &member.confirm else { unreachable!("only a member with a confirm is asked about") };
        let mut after = After::from(state);
        after.reached.push(Part::Confirm((spot.step, spot.member)));
        let reader = Reader::Confirm((spot.step, spot.member));
        let mut moves = Vec::new();
        for (after, missed) in self.read(after, &confirm.reads, reader, Some(spot)) {
            let standing = after.state.tried(spot).standing;
            let (worldless, done) = (member.effect.is_none(), standing.is_done());
            if !missed && (worldless || done) {
                moves.extend(self.found_done(after.clone(), spot));
            }
            if !missed && (worldless || !done || awake(Bug::ExploreConfirmGuesses)) {
                moves.extend(self.found_not_done(after.clone(), spot, code, confirm.blocks_late));
            }
            moves.extend(self.found_nothing(after, spot, code, missed));
        }
        moves
    }

    /// It was done: the member has succeeded.
    fn found_done(&self, mut after: After, spot: Spot) -> Vec<After> {
        after.told.push(Told::Confirmed(spot, Answer::Done));
        after.state.tried_mut(spot).end = Some(CallEnd::Succeeded);
        vec![self.end_task(after, spot, Verdict::Succeeded(Some(spot.member)))]
    }

    /// It was not done: the member has failed. A late original is refused from now on, or still counts.
    fn found_not_done(&self, mut after: After, spot: Spot, code: Code, blocks_late: bool) -> Vec<After> {
        after.told.push(Told::Confirmed(spot, Answer::NotDone));
        let tried = after.state.tried_mut(spot);
        tried.end = Some(CallEnd::Failed);
        if blocks_late {
            tried.standing = tried.standing.refused_late();
        }
        if blocks_late || awake(Bug::ExploreNotDoneIsOver) {
            tried.may_have_acted = false;
        }
        self.after_call(after, spot, code)
    }

    /// Nobody knows, or nobody could be asked.
    fn found_nothing(&self, mut after: After, spot: Spot, code: Code, missed: bool) -> Vec<After> {
        after.told.push(Told::Confirmed(spot, Answer::Unknown));
        if !missed {
            after.fault();
        }
        self.after_call(after, spot, code)
    }

    /// A member has ended badly: the next fallback, after the undo of what may have acted, or the end of the item.
    fn after_call(&self, after: After, spot: Spot, code: Code) -> Vec<After> {
        if after.state.phase != Phase::Forward {
            let verdict = verdict(&after.state, spot);
            return vec![self.end_task(after, spot, verdict)];
        }
        let owed = self.owed(&after.state, spot) && !awake(Bug::ExploreFallbackBeforeUndo);
        let passes = self.sketch.steps[spot.step].on_error == OnError::Continue;
        let next = self.next_member(after, spot, code, spot.member + 1).into_iter();
        next.flat_map(|(mut after, next)| match next {
            Some(_) if owed => {
                after.state.task_mut(spot.step, spot.item).now = Now::Undo(spot.member, next);
                vec![after]
            }
            None if owed && passes && !awake(Bug::ExplorePassedOverAsItIs) => {
                after.state.task_mut(spot.step, spot.item).now = Now::Undo(spot.member, None);
                vec![after]
            }
            Some(next) => self.call(after, Spot { member: next, ..spot }),
            None => {
                let verdict = verdict(&after.state, spot);
                vec![self.end_task(after, spot, verdict)]
            }
        })
        .collect()
    }

    /// The next member is the first from `from` on whose `errors` has the code and whose `when` holds; none if a `when`
    /// before it cannot be read.
    fn next_member(&self, after: After, spot: Spot, code: Code, from: usize) -> Vec<(After, Option<usize>)> {
        let taken_by = &self.failing(spot, code).taken_by;
        let members = self.members(spot.step);
        let Some(next) = (from..members.len()).find(|member| taken_by.contains(member)) else {
            return vec![(after, None)];
        };
        let Some(when) = &members[next].when else { return vec![(after, Some(next))] };
        let reader = Reader::FallbackWhen((spot.step, next));
        let read = self.read(after, &when.reads, reader, None).into_iter();
        read.flat_map(|(after, missed)| {
            if missed {
                return vec![(after, None)];
            }
            let asked = self.ask(after, &when.truth, None).into_iter();
            asked
                .flat_map(
                    |(after, holds)| {
                        if holds { vec![(after, Some(next))] } else { self.next_member(after, spot, code, next + 1) }
                    },
                )
                .collect()
        })
        .collect()
    }

    /// Tells whether a member must be undone: it has an undo, succeeded or may have acted, and was not undone.
    pub fn owed(&self, state: &State, spot: Spot) -> bool {
        let tried = state.tried(spot);
        let acted = tried.end == Some(CallEnd::Succeeded) || tried.may_have_acted;
        self.member(spot).undo.is_some() && acted && tried.undo.is_none()
    }

    /// The undos before a fallback, and of what is passed over, end.
    pub fn undos_on_the_way(&self, state: &State) -> Vec<After> {
        let mut moves = Vec::new();
        for (step, item) in state.begun(self.sketch) {
            let Now::Undo(member, next) = state.task(step, item).now else { continue };
            let spot = Spot { step, item, member };
            for mut undone in self.undo(After::from(state), spot) {
                undone.after.told.push(Told::PutRight(spot, undone.end));
                moves.extend(self.after_undo(undone, spot, next));
            }
        }
        moves
    }

    /// After the undo the fallback is called; not if the undo has failed, nor in a drain.
    fn after_undo(&self, undone: Undone, spot: Spot, next: Option<usize>) -> Vec<After> {
        let Undone { mut after, end, called } = undone;
        if let Some(next) = next
            && after.state.phase == Phase::Forward
            && (end == UndoEnd::Done || awake(Bug::ExploreFallbackAfterFailedUndo))
        {
            return self.call(after, Spot { member: next, ..spot });
        }
        let verdict = verdict(&after.state, spot);
        let passed_over = next.is_none();
        if called && passed_over && self.sketch.steps[spot.step].pivot && verdict == Verdict::Unknown {
            after.problems.push(Problem::PivotUndone((spot.step, spot.member)));
        }
        vec![self.end_task(after, spot, verdict)]
    }

    /// An item ends, and its step with it or not.
    fn end_task(&self, mut after: After, spot: Spot, verdict: Verdict) -> After {
        debug_assert_eq!(
            after.state.steps[spot.step].stage,
            Stage::Calling,
            "an item ends while its step is under way"
        );
        after.state.task_mut(spot.step, spot.item).now = Now::Ended(verdict);
        self.end_item(after, spot.step, spot.item, verdict)
    }
}

/// Returns how an item ends with a member that did not succeed: it is unknown if that member is, if an earlier one is that
/// was not undone, or if an undo has failed.
fn verdict(state: &State, last: Spot) -> Verdict {
    let members = &state.task(last.step, last.item).members;
    let unknown = members.iter().enumerate().any(|(ix, tried)| {
        let settled = ix != last.member && tried.undo == Some(UndoEnd::Done);
        let unknown = tried.end == Some(CallEnd::Unknown) && !settled;
        unknown || tried.undo == Some(UndoEnd::Failed)
    });
    if unknown { Verdict::Unknown } else { Verdict::Failed }
}

/// Returns what an attempt that failed can have come to: nothing if the failure is clear, anything otherwise. What has no
/// effect comes to nothing.
fn worlds(member: &Member, clear: bool) -> &'static [World] {
    match (clear, member.effect) {
        (true, _) | (_, None) => &[World::Nothing],
        (false, Some(_)) => &[World::Nothing, World::Done, World::OnItsWay],
    }
}

/// Tells whether a member may have acted after one more failure. Of one that does not act only the last attempt counts.
fn is_unclear(member: &Member, before: bool, now: bool) -> bool {
    if member.acts() && !awake(Bug::ExploreUnclearForgotten) { before || now } else { now }
}

/// Counts the fault of a member whose attempts were not a single success, once.
fn mar(after: &mut After, attempts: Attempts) {
    if !attempts.marred || awake(Bug::ExploreEachAttemptAFault) {
        after.fault();
    }
}
