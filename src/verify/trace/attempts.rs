//! Attempts: when one may begin, how it may end, and what that says about the world (SPEC 6.2 to 6.6).

use crate::failure::{ErrorKind, Failure};
use crate::machine::event::{Answer, CallId, CallKind};
use crate::names::MemberName;
use crate::time::Timestamp;

use super::forward::Next;
use super::retries::{kind_fits, retry_fits};
use super::state::{Done, Phase, Try, Undone, Verdict, Way};
use super::{Model, Violation, demand, wrong};

impl Model {
    pub(super) fn call_started(
        &mut self,
        id: &CallId,
        via: &MemberName,
        attempt: u32,
        until: Timestamp,
        input: bool,
        probe: bool,
    ) -> Result<(), Violation> {
        let plan = self.plan.clone();
        let (call, member) = Self::planned(&plan, id)?;
        demand(member.is_none_or(|member| member.name == *via), "another member is named")?;
        let guard = plan.guard_of(call);
        let breaker = guard.and_then(|name| plan.services.get(name)).and_then(|service| service.breaker);
        demand(!probe || breaker.is_some(), "a probe without a breaker")?;
        self.may_begin(id, guard.is_some())?;
        let (at, life, punctual) = (self.now, self.life, self.punctual);
        let tries = self.tries(id)?;
        demand(attempt == tries.last + 1, "the numbers of attempts have a gap")?;
        demand(!punctual || until == at.after(call.timeout), "the attempt does not end when its timeout is over")?;
        demand(input != tries.input, "the input is recorded with the first attempt")?;
        tries.input = true;
        tries.last = attempt;
        tries.first_at.get_or_insert(at);
        tries.now = Try::Running { until, life };
        self.chosen(id)
    }

    /// Demands that a call may be made now, or be refused.
    fn may_begin(&self, id: &CallId, guarded: bool) -> Result<(), Violation> {
        self.at_work()?;
        let tries = if id.kind == CallKind::Finally {
            let ix = self.plan.finally.iter().position(|step| step.name == id.place.step);
            let ix = ix.ok_or_else(|| Violation("no such `finally` step".into()))?;
            demand(self.phase == Phase::Ending, "a `finally` step before the end")?;
            let next = self.finally.iter().position(|tries| tries.now != Try::Over);
            demand(next == Some(ix), "`finally` steps run once, in file order")?;
            &self.finally[ix]
        } else {
            let (step, item) = self.place_ix(&id.place)?;
            let ix = usize::from(id.member);
            let member = &self.steps[step].items[item].members[ix];
            match id.kind {
                CallKind::Forward => {
                    self.may_go_forward()?;
                    if self.steps[step].items[item].current.is_none() {
                        self.may_begin_item(step, item)?;
                    }
                    demand(self.next(step, item).contains(&Next::Attempt(ix)), "this member is not the next")?;
                    &member.forward
                }
                CallKind::Confirm => {
                    demand(self.next(step, item).contains(&Next::Ask(ix)), "there is nothing to ask about now")?;
                    &member.confirm
                }
                _ if self.phase == Phase::Undo => {
                    self.may_undo(step, item, ix)?;
                    &member.undo
                }
                _ => {
                    demand(self.next(step, item).contains(&Next::Undo(ix)), "there is nothing to undo now")?;
                    &member.undo
                }
            }
        };
        match tries.now {
            Try::Running { .. } => wrong("an attempt is under way"),
            Try::Over => wrong("there is no attempt left"),
            Try::Backoff(due) => {
                demand(self.now >= due, "an attempt comes before its time")?;
                let exact = self.punctual && !guarded && id.kind != CallKind::Undo;
                demand(!exact || self.now == due.max(self.since), "an attempt comes after its time")
            }
            Try::None | Try::CutOff => Ok(()),
        }
    }

    /// Notes which member is tried.
    fn chosen(&mut self, id: &CallId) -> Result<(), Violation> {
        if id.kind == CallKind::Forward {
            let (step, item) = self.place_ix(&id.place)?;
            self.steps[step].way = Way::Active;
            self.steps[step].items[item].current = Some(usize::from(id.member));
        }
        Ok(())
    }

    /// Demands that an attempt of this life is under way, and ends it.
    fn ended(&mut self, id: &CallId, attempt: u32) -> Result<(), Violation> {
        let (now, life, punctual) = (self.now, self.life, self.punctual);
        let tries = self.tries(id)?;
        demand(tries.last == attempt, "another attempt is under way")?;
        match tries.now {
            Try::Running { life: of, .. } if of != life => wrong("the attempt died with its process"),
            Try::Running { until, .. } => demand(!punctual || now <= until, "the attempt had timed out"),
            _ => wrong("no attempt is under way"),
        }
    }

    /// Demands that an attempt was cut off by the death of its process.
    fn died(&mut self, id: &CallId, attempt: u32) -> Result<(), Violation> {
        let life = self.life;
        let tries = self.tries(id)?;
        let dead = matches!(tries.now, Try::Running { life: of, .. } if of < life);
        demand(dead && tries.last == attempt, "no attempt was cut off")
    }

    pub(super) fn call_succeeded(&mut self, id: &CallId, attempt: u32) -> Result<(), Violation> {
        self.ended(id, attempt)?;
        self.deaths = 0;
        self.tries(id)?.now = Try::Over;
        match id.kind {
            CallKind::Forward => {
                let (step, item) = self.place_ix(&id.place)?;
                let member = self.member_mut(id)?;
                (member.done, member.undone) = (Done::Yes, Undone::No);
                self.steps[step].items[item].verdict = Some(Verdict::Succeeded);
                if id.place.item.is_none() {
                    self.end_step(step, Verdict::Succeeded, None);
                }
            }
            CallKind::Undo => {
                self.member_mut(id)?.undone = Undone::Yes;
                self.undid = true;
            }
            CallKind::Finally => {}
            CallKind::Confirm => return wrong("a confirm is answered, it does not succeed"),
        }
        Ok(())
    }

    pub(super) fn call_failed(
        &mut self,
        id: &CallId,
        attempt: u32,
        error: &Failure,
        retry_at: Option<Timestamp>,
    ) -> Result<(), Violation> {
        kind_fits(error)?;
        let plan = self.plan.clone();
        let (call, _) = Self::planned(&plan, id)?;
        let (at, punctual) = (self.now, self.punctual);
        let crashed = error.code == "crashed";
        if attempt == 0 {
            self.may_begin(id, true)?;
            let waits = error.code == "breaker_open" && id.kind != CallKind::Forward;
            demand(
                retry_at.is_some() == waits,
                "what was not called is not repeated, but for a breaker on the way back",
            )?;
            let breaker = plan.guard_of(call).and_then(|name| plan.services.get(name)).and_then(|s| s.breaker);
            match error.code.as_str() {
                "template" | "limit" => {}
                "breaker_open" => demand(breaker.is_some(), "no breaker can be open")?,
                _ => return wrong("the handler was not called for no reason"),
            }
            self.chosen(id)?;
        } else if crashed {
            self.died(id, attempt)?;
            let repeated = match id.kind {
                CallKind::Forward => call.repeatable() && self.phase != Phase::Drain,
                CallKind::Undo => call.repeatable(),
                CallKind::Confirm | CallKind::Finally => true,
            };
            demand(!repeated, "what was cut off is repeated")?;
        } else {
            let deadline = self.tries(id)?.now;
            self.ended(id, attempt)?;
            if let (Try::Running { until, .. }, "timeout") = (deadline, error.code.as_str()) {
                demand(!punctual || at >= until, "the attempt timed out before its time")?;
            }
        }
        // A call that never reached its handler is no sign of life.
        if !crashed && attempt > 0 {
            self.deaths = 0;
        }
        let drain = self.phase == Phase::Drain;
        let tries = self.tries(id)?;
        if attempt > 0 {
            tries.failed += 1;
            match id.kind {
                CallKind::Forward if drain => demand(retry_at.is_none(), "nothing is retried while the run stops")?,
                CallKind::Undo if drain && retry_at.is_none() => {}
                _ => retry_fits(call, tries, error, at, retry_at)?,
            }
        }
        tries.now = retry_at.map_or(Try::Over, Try::Backoff);
        if error.code == "timeout" {
            tries.given_up.push(attempt);
        }
        match id.kind {
            CallKind::Forward => {
                let member = self.member_mut(id)?;
                if error.kind == ErrorKind::Unknown && member.done == Done::No {
                    member.done = Done::Unclear;
                }
                member.error = Some(error.clone());
            }
            CallKind::Undo if retry_at.is_none() => self.member_mut(id)?.undone = Undone::Failed,
            // What cannot be asked has no answer.
            CallKind::Confirm | CallKind::Undo | CallKind::Finally => {}
        }
        Ok(())
    }

    pub(super) fn call_cut_off(&mut self, id: &CallId, attempt: u32) -> Result<(), Violation> {
        let plan = self.plan.clone();
        let (call, planned) = Self::planned(&plan, id)?;
        self.died(id, attempt)?;
        // To ask once more does no harm, and `finally` runs at least once.
        let repeated = call.repeatable() || matches!(id.kind, CallKind::Confirm | CallKind::Finally);
        demand(repeated, "what must not be repeated is repeated after a crash")?;
        let drain = id.kind == CallKind::Forward && self.phase == Phase::Drain;
        demand(!drain, "what is cut off while the run stops is unknown")?;
        self.tries(id)?.now = Try::CutOff;
        if id.kind == CallKind::Forward {
            // What has no effect and no undo leaves no trace.
            let acts = call.contract.as_ref().is_none_or(|c| c.effect.is_some());
            let acts = acts || planned.is_some_and(|member| member.compensate.is_some());
            let member = self.member_mut(id)?;
            if member.done == Done::No && acts {
                member.done = Done::Unclear;
            }
        }
        Ok(())
    }

    pub(super) fn confirmed(&mut self, id: &CallId, attempt: u32, answer: Answer) -> Result<(), Violation> {
        demand(id.kind == CallKind::Confirm, "only a confirm is answered")?;
        let plan = self.plan.clone();
        let (call, _) = Self::planned(&plan, id)?;
        let life = self.life;
        match self.tries(id)?.now {
            Try::Running { life: of, .. } if of < life => {
                self.died(id, attempt)?;
                demand(answer == Answer::Unknown, "an answer that was cut off says nothing")?;
            }
            Try::Running { .. } => {
                // The last of the tries may have failed, which is an answer too: no more than time bounds it.
                self.ended(id, attempt)?;
            }
            Try::Over => demand(answer == Answer::Unknown, "a confirm that has failed says nothing")?,
            _ => return wrong("who was not asked does not answer"),
        }
        if answer != Answer::Unknown {
            self.deaths = 0;
        }
        self.tries(id)?.now = Try::Over;
        let blocks_late = call.contract.as_ref().is_some_and(|contract| contract.blocks_late);
        let member = self.member_mut(id)?;
        demand(member.answer.is_none(), "a confirm is asked once")?;
        member.answer = Some(answer);
        member.done = match answer {
            Answer::Done => Done::Yes,
            Answer::NotDone if blocks_late => Done::No,
            Answer::NotDone => Done::MayCome,
            Answer::Unknown => member.done,
        };
        Ok(())
    }

    pub(super) fn late(&mut self, id: &CallId, attempt: u32) -> Result<(), Violation> {
        let tries = self.tries(id)?;
        // An answer that comes after one was taken for its attempt shows that the other was taken wrongly.
        let given_up = tries.given_up.iter().position(|of| *of == attempt);
        let Some(given_up) = given_up else { return wrong("this attempt was not given up, so its answer is not late") };
        tries.given_up.swap_remove(given_up);
        Ok(())
    }
}
