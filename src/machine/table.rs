//! How events change the state of a run: one table, no event left out.
//!
//! An event that the state does not allow is refused. That is a mistake of flowrun's own or a damaged journal, and
//! the run is left alone rather than guessed at.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::call::{Change, Why};
use super::event::{Answer, CallKind, Cause, Entry, Event, Outcome, Place};
use super::state::{
    Alarm, CallIx, CallState, End, ItemState, MemberState, Parked, Phase, Progress, RunState, Signal, Stage, UndoOrder,
    count, members_of,
};
use crate::failure::ErrorKind;
use crate::failure::Failure;
use crate::names::StepName;
use crate::payload::Payload;
use crate::plan::{OnError, Plan, Step, StepIx};
use crate::teeth::{Bug, awake, reach};
use crate::time::Timestamp;

/// Codes of parked runs that lack something in the process: a resume looks for it again.
pub const OBSTACLES: [&str; 3] = ["handler_missing", "handler_changed", "secret_missing"];

/// An event that cannot have happened in the state it was applied to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {number} ({event}) is impossible here: {why}")]
pub struct IllegalTransition {
    /// The number of the event in its run.
    pub number: u64,
    /// The event, in short.
    pub event: String,
    /// What forbids it.
    pub why: &'static str,
}

impl RunState {
    /// Changes the state by one event.
    ///
    /// # Errors
    /// When the event cannot have happened now; the state is then of no more use.
    pub fn apply(&mut self, plan: &Plan, entry: &Entry) -> Result<(), IllegalTransition> {
        let number = self.events;
        self.events += 1;
        self.put_down = entry.event == Event::RunInterrupted;
        let (phase, parked) = (self.phase.clone(), if self.parked.is_some() { ", parked" } else { "" });
        self.change(plan, entry.at, &entry.event).map_err(|why| IllegalTransition {
            number,
            event: super::history::type_of(&entry.event).to_owned(),
            why,
        })?;
        if is_heard(&entry.event) {
            self.deaths = 0;
        }
        reach(|| format!("{phase:?}{parked}: {}", super::history::type_of(&entry.event)));
        Ok(())
    }

    fn change(&mut self, plan: &Plan, at: Timestamp, event: &Event) -> Result<(), Why> {
        match event {
            Event::RunStarted(_) => Err("a run starts once"),
            Event::RunResumed { clean } => {
                self.must_not_be_final()?;
                if !clean {
                    self.deaths = if awake(Bug::RecoveryCounterNotKept) { 1 } else { self.deaths + 1 };
                }
                // What the process lacked may be there now; the engine looks again and parks it again if not.
                if self.parked.as_ref().is_some_and(|p| OBSTACLES.contains(&p.code.as_str())) {
                    self.unpark(at);
                }
                Ok(())
            }
            Event::RunInterrupted => self.must_not_be_final(),
            Event::RunParked { code, message } => {
                self.must_not_be_final()?;
                if self.parked.is_some() {
                    return Err("it is parked already");
                }
                self.parked = Some(Parked { code: code.clone(), message: message.clone(), at });
                Ok(())
            }
            Event::SignalReceived { id, name, data } => {
                self.must_not_be_final()?;
                self.signals.push(Signal { id: id.clone(), name: name.clone(), data: data.clone(), used: false });
                Ok(())
            }
            Event::StepSkipped { step, reason } => {
                let ix = self.pending_step(plan, step)?;
                self.end_step(plan, ix, End::Skipped(*reason))
            }
            Event::ItemsListed { step, items } => {
                let ix = self.pending_step(plan, step)?;
                if plan.step(ix).foreach.is_none() {
                    return Err("the step has no items");
                }
                self.ready.remove(&ix);
                self.lists.insert(ix);
                let state = self.step_mut(ix);
                state.list = Some(items.clone());
                state.stage = Stage::Running;
                Ok(())
            }
            Event::WaitStarted { step, until, signal } => {
                let ix = self.pending_step(plan, step)?;
                self.ready.remove(&ix);
                self.waiting.insert(ix);
                self.alarms.extend(until.map(|at| (at, Alarm::Wait(ix))));
                self.step_mut(ix).stage = Stage::Waiting { until: *until, signal: signal.clone() };
                Ok(())
            }
            Event::CallStarted { call, attempt, input, probe, .. } => {
                let call = known(CallIx::of(call, plan))?;
                self.begin_call(plan, call)?;
                self.change_call(
                    plan,
                    call,
                    Change::Started { attempt: *attempt, probe: *probe, input: input.clone(), at },
                )
            }
            Event::CallSucceeded { call, attempt, output } => {
                let call = known(CallIx::of(call, plan))?;
                self.change_call(plan, call, Change::Succeeded { attempt: *attempt })?;
                match call.kind {
                    CallKind::Forward => {
                        self.member_mut(call)?.output = Some(output.clone());
                        self.end_item(plan, call.step, call.item, End::Succeeded(output.clone()))
                    }
                    CallKind::Undo => {
                        self.undone.push(call.id(plan).place);
                        self.undo_is_over(plan, call.step)
                    }
                    CallKind::Confirm | CallKind::Finally => Ok(()),
                }
            }
            Event::CallFailed { call, attempt, error, retry_at } => {
                let call = known(CallIx::of(call, plan))?;
                if *attempt == 0 {
                    self.begin_call(plan, call)?;
                }
                let change = Change::Failed { attempt: *attempt, error: error.clone(), retry_at: *retry_at };
                self.change_call(plan, call, change)?;
                match call.kind {
                    CallKind::Forward => {
                        let unclear = *attempt > 0 && error.kind == ErrorKind::Unknown;
                        let member = self.member_mut(call)?;
                        member.unclear = unclear || (member.unclear && !awake(Bug::UnclearForgotten));
                        Ok(())
                    }
                    CallKind::Undo if retry_at.is_none() => self.undo_is_over(plan, call.step),
                    CallKind::Undo | CallKind::Confirm | CallKind::Finally => Ok(()),
                }
            }
            Event::CallCutOff { call, attempt } => {
                let call = known(CallIx::of(call, plan))?;
                self.change_call(plan, call, Change::CutOff { attempt: *attempt })?;
                if call.kind == CallKind::Forward && acts(plan, call) {
                    self.member_mut(call)?.unclear = true;
                }
                Ok(())
            }
            Event::Confirmed { call, answer, .. } => {
                let call = known(CallIx::of(call, plan))?;
                let member = self.member_mut(call)?;
                let confirm = known(member.confirm.as_mut())?;
                confirm.progress = match answer {
                    Answer::Done | Answer::NotDone => Progress::Succeeded,
                    Answer::Unknown => Progress::Failed,
                };
                member.answer = Some(*answer);
                self.forget_call(call);
                Ok(())
            }
            Event::Settled { place, outcome } => self.settle(plan, place, outcome.clone()),
            Event::DrainStarted { cause } => self.drain(plan, cause),
            Event::UndoStarted => {
                if self.phase != Phase::Draining || !self.active.is_empty() || !self.waiting.is_empty() {
                    return Err("something is still under way");
                }
                self.phase = Phase::Undoing;
                self.order_undos(plan);
                Ok(())
            }
            Event::RunEnding(conclusion) => {
                self.must_be_at_rest()?;
                self.phase = Phase::Ending;
                // `finally` runs under no deadline (SPEC 6.20).
                self.forget_deadline();
                self.conclusion = Some((**conclusion).clone());
                Ok(())
            }
            Event::RunFinished(conclusion) => {
                if self.phase == Phase::Ending {
                    self.must_not_be_final()?;
                } else {
                    self.must_be_at_rest()?;
                }
                self.phase = Phase::Finished;
                self.finished_at = Some(at);
                self.parked = None;
                self.deadline = None;
                self.alarms.clear();
                self.conclusion = Some((**conclusion).clone());
                Ok(())
            }
            Event::RetryRequested { from } => self.retry(plan, from.as_ref(), at),
            Event::CompensateRequested => {
                if self.phase != Phase::Finished {
                    return Err("the run is not final");
                }
                self.phase = Phase::Undoing;
                if awake(Bug::FinallyRunsAgain) {
                    (self.conclusion, self.finally) = (None, vec![CallState::default(); self.finally.len()]);
                }
                for undo in self.members_mut().filter_map(|m| m.undo.as_mut()) {
                    if undo.progress == Progress::Failed {
                        **undo =
                            CallState { attempts: undo.attempts, input: undo.input.take(), ..CallState::default() };
                    }
                }
                self.order_undos(plan);
                Ok(())
            }
            Event::MarkedDone { place, .. } => {
                let ix = known(plan.find(&place.step))?;
                let step = plan.step(ix);
                let item = known(self.step(ix).items.get(&place.item.unwrap_or(0)))?;
                let is_left =
                    |state: &MemberState| member_of(step, state.member).is_some_and(|m| self.is_left(m, state));
                let left: Vec<bool> = item.members.iter().map(is_left).collect();
                let item = known(self.step_mut(ix).items.get_mut(&place.item.unwrap_or(0)))?;
                for (member, left) in item.members.iter_mut().zip(left) {
                    member.marked_done |= left;
                }
                self.undone.push(place.clone());
                let compensation = self.compensation(plan);
                known(self.conclusion.as_mut())?.compensation = compensation;
                Ok(())
            }
            Event::LateResult { .. } => Ok(()),
        }
    }

    fn must_not_be_final(&self) -> Result<(), Why> {
        if self.phase == Phase::Finished { Err("the run is final") } else { Ok(()) }
    }

    fn must_be_at_rest(&self) -> Result<(), Why> {
        self.must_not_be_final()?;
        if self.active.is_empty() && self.waiting.is_empty() { Ok(()) } else { Err("something is still under way") }
    }

    fn step_mut(&mut self, ix: StepIx) -> &mut super::state::StepState {
        &mut self.steps[ix.0 as usize]
    }

    fn members_mut(&mut self) -> impl Iterator<Item = &mut MemberState> {
        self.steps.iter_mut().flat_map(|s| s.items.values_mut()).flat_map(|i| i.members.iter_mut())
    }

    fn member_mut(&mut self, call: CallIx) -> Result<&mut MemberState, Why> {
        let item = known(self.step_mut(call.step).items.get_mut(&call.item.unwrap_or(0)))?;
        known(item.members.iter_mut().rev().find(|m| m.member == call.member))
    }

    fn call_mut(&mut self, call: CallIx) -> Result<&mut CallState, Why> {
        if call.kind == CallKind::Finally {
            return known(self.finally.get_mut(call.step.0 as usize));
        }
        let member = self.member_mut(call)?;
        match call.kind {
            CallKind::Forward | CallKind::Finally => Ok(&mut member.forward),
            CallKind::Confirm => known(member.confirm.as_deref_mut()),
            CallKind::Undo => known(member.undo.as_deref_mut()),
        }
    }

    fn pending_step(&self, plan: &Plan, name: &StepName) -> Result<StepIx, Why> {
        let ix = known(plan.find(name))?;
        if self.phase != Phase::Running {
            return Err("nothing new starts any more");
        }
        if self.step(ix).unmet > 0 {
            return Err("a step that it needs has not ended");
        }
        if self.step(ix).stage == Stage::Pending { Ok(ix) } else { Err("the step has begun") }
    }

    /// Makes room for a call that is about to begin, if it is the first sign of it.
    fn begin_call(&mut self, plan: &Plan, call: CallIx) -> Result<(), Why> {
        known(call.in_plan(plan))?;
        match call.kind {
            CallKind::Finally => {
                if self.phase != Phase::Ending {
                    return Err("the run has not ended");
                }
            }
            CallKind::Forward => {
                if self.phase != Phase::Running {
                    return Err("nothing new starts any more");
                }
                if self.step(call.step).unmet > 0 {
                    return Err("a step that it needs has not ended");
                }
                self.ready.remove(&call.step);
                let state = self.step_mut(call.step);
                match state.stage {
                    Stage::Pending | Stage::Running => state.stage = Stage::Running,
                    Stage::Waiting { .. } | Stage::Ended(_) => return Err("the step has ended"),
                }
                let item = state.items.or_default(call.item.unwrap_or(0));
                if item.end.is_some() {
                    return Err("the item has ended");
                }
                if item.current().is_none_or(|m| m.member != call.member) {
                    let unclear = item.unsure.contains(&call.member);
                    // Few items come to a second member.
                    item.members.reserve_exact(1);
                    item.members.push(MemberState { member: call.member, unclear, ..MemberState::default() });
                }
            }
            CallKind::Confirm => {
                self.member_mut(call)?.confirm.get_or_insert_default();
            }
            CallKind::Undo => {
                self.member_mut(call)?.undo.get_or_insert_default();
            }
        }
        Ok(())
    }

    fn change_call(&mut self, plan: &Plan, call: CallIx, change: Change) -> Result<(), Why> {
        known(call.in_plan(plan))?;
        self.forget_call(call);
        let state = self.call_mut(call)?;
        state.apply(change)?;
        let progress = state.progress;
        match progress {
            Progress::Running { .. } | Progress::Idle => {
                self.active.insert(call);
            }
            Progress::BackingOff { until } => {
                self.active.insert(call);
                self.alarms.insert((until, Alarm::Call(call)));
            }
            Progress::Succeeded | Progress::Failed => {}
        }
        Ok(())
    }

    /// Takes a call off the lists of what is under way and due.
    fn forget_call(&mut self, call: CallIx) {
        self.active.remove(&call);
        if let Some(Progress::BackingOff { until }) = self.call(call).map(|c| c.progress) {
            self.alarms.remove(&(until, Alarm::Call(call)));
        }
    }

    fn settle(&mut self, plan: &Plan, place: &Place, outcome: Outcome) -> Result<(), Why> {
        let ix = known(plan.find(&place.step))?;
        if place.item.is_none() && plan.step(ix).foreach.is_some() {
            let continued = plan.step(ix).on_error == OnError::Continue;
            let end = End::of(outcome, || outputs(self.step(ix), continued));
            return self.end_step(plan, ix, end);
        }
        match &self.step(ix).stage {
            Stage::Waiting { signal, .. } => {
                let name = signal.clone();
                let end = End::of(outcome, || Payload::of(Value::Null));
                let end = match (end, name) {
                    (End::Succeeded(_), Some(name)) => End::Succeeded(self.take_signal(&name)?),
                    (end, _) => end,
                };
                self.end_step(plan, ix, end)
            }
            // A step that was to be retried and had not begun again ends with its item.
            Stage::Pending if self.item(ix, None).is_none_or(|item| item.current().is_none()) => {
                self.end_step(plan, ix, End::of(outcome, || Payload::of(Value::Null)))
            }
            Stage::Pending | Stage::Running => {
                let end = End::of(outcome, || Payload::of(Value::Null));
                let item = known(self.step_mut(ix).items.get_mut(&place.item.unwrap_or(0)))?;
                if let (End::Succeeded(output), Some(member)) = (&end, item.members.last_mut()) {
                    member.output = Some(output.clone());
                }
                self.end_item(plan, ix, place.item, end)
            }
            Stage::Ended(_) => Err("the step has ended"),
        }
    }

    fn take_signal(&mut self, name: &str) -> Result<Payload, Why> {
        let signal = self.signals.iter_mut().find(|s| !s.used && s.name == name).ok_or("no such signal has arrived")?;
        signal.used = !awake(Bug::SignalTakenTwice);
        Ok(signal.data.clone())
    }

    fn end_item(&mut self, plan: &Plan, ix: StepIx, item: Option<u32>, end: End) -> Result<(), Why> {
        self.note_pivot(plan, ix, &end);
        let state = known(self.step_mut(ix).items.get_mut(&item.unwrap_or(0)))?;
        if state.end.is_some() {
            return Err("the item has ended");
        }
        state.end = Some(end.clone());
        let Some(item) = item else { return self.end_step(plan, ix, end) };
        let step = self.step_mut(ix);
        step.ended_items += 1;
        if end.error().is_some() {
            step.failed_items.insert(item);
            step.culprit.get_or_insert(item);
        }
        Ok(())
    }

    fn note_pivot(&mut self, plan: &Plan, ix: StepIx, end: &End) {
        self.pivoted |= plan.step(ix).pivot && end.may_have_happened();
    }

    fn end_step(&mut self, plan: &Plan, ix: StepIx, end: End) -> Result<(), Why> {
        if matches!(self.step(ix).stage, Stage::Ended(_)) {
            return Err("the step has ended");
        }
        self.note_pivot(plan, ix, &end);
        if let Stage::Waiting { until: Some(until), .. } = self.step(ix).stage {
            self.alarms.remove(&(until, Alarm::Wait(ix)));
        }
        self.ready.remove(&ix);
        self.waiting.remove(&ix);
        self.lists.remove(&ix);
        let step = plan.step(ix);
        let skipped = matches!(end, End::Skipped(_));
        let passed = match &end {
            End::Skipped(_) | End::Succeeded(_) => true,
            // What only the drain ended was not passed over: a retry behind the pivot starts it afresh.
            End::Failed(_) | End::Unknown(_) => step.on_error == OnError::Continue && self.phase == Phase::Running,
        };
        let state = self.step_mut(ix);
        state.stage = Stage::Ended(end);
        state.passed = passed;
        if passed {
            self.open -= 1;
            for dependent in &step.dependents {
                let state = self.step_mut(*dependent);
                state.unmet -= 1;
                state.skipped_needs += u32::from(skipped);
                if state.unmet == 0 {
                    self.ready.insert(*dependent);
                }
            }
        }
        Ok(())
    }

    fn drain(&mut self, plan: &Plan, cause: &Cause) -> Result<(), Why> {
        if self.phase != Phase::Running && self.parked.is_none() {
            return Err("it has stopped going forward already");
        }
        if !matches!(self.phase, Phase::Running | Phase::Draining) {
            return Err("it is being undone already");
        }
        self.phase = Phase::Draining;
        if self.parked.take().is_some_and(|parked| parked.code == "recovery") {
            // As with a retry, a person has decided that the run goes on.
            self.deaths = 0;
        }
        self.cause.get_or_insert_with(|| cause.clone());
        if let (Some(first), Cause::Cancelled { .. }) = (&mut self.cause, cause) {
            // A run parked behind its point of no return may still be given up: then it ends as cancelled.
            *first = cause.clone();
        }
        // A retry behind the pivot brings the deadline back, unless it has had its say.
        if let Some(deadline) = self.deadline {
            self.alarms.remove(&(deadline, Alarm::Deadline));
        }
        if matches!(cause, Cause::Deadline { .. }) {
            self.deadline = None;
        }
        let resting: Vec<CallIx> = self.active.iter().copied().filter(|c| c.kind == CallKind::Forward).collect();
        for call in resting {
            match self.call(call).map(|c| c.progress) {
                Some(Progress::BackingOff { .. }) => self.change_call(plan, call, Change::GivenUp)?,
                // Cut off by a crash and not begun again: nobody knows how far it came.
                Some(Progress::Idle) => {
                    self.change_call(plan, call, Change::GivenUp)?;
                    self.call_mut(call)?.error = Some(crashed());
                    self.member_mut(call)?.unclear = true;
                }
                Some(Progress::Running { .. } | Progress::Succeeded | Progress::Failed) | None => {}
            }
        }
        Ok(())
    }

    fn forget_deadline(&mut self) {
        if let Some(deadline) = self.deadline.take() {
            self.alarms.remove(&(deadline, Alarm::Deadline));
        }
    }

    fn unpark(&mut self, at: Timestamp) {
        let Some(parked) = self.parked.take() else { return };
        // The deadline does not run while a person is waited for (SPEC 6.11), and has no say once a drain has begun.
        if let Some(deadline) = self.deadline
            && self.phase == Phase::Running
        {
            self.alarms.remove(&(deadline, Alarm::Deadline));
            let rest = if awake(Bug::DeadlineWhileParked) { std::time::Duration::ZERO } else { at.since(parked.at) };
            let deadline = deadline.after(rest);
            self.deadline = Some(deadline);
            self.alarms.insert((deadline, Alarm::Deadline));
        }
    }

    fn retry(&mut self, plan: &Plan, from: Option<&StepName>, at: Timestamp) -> Result<(), Why> {
        let parked = known(self.parked.as_ref())?;
        if self.phase == Phase::Draining && parked.code == "pivot" {
            self.phase = Phase::Running;
            self.cause = None;
        }
        self.unpark(at);
        self.deaths = 0;
        if self.phase != Phase::Running {
            return Ok(());
        }
        for step in &plan.steps {
            let ix = known(plan.find(&step.name))?;
            let retried = !self.step(ix).passed
                && matches!(self.step(ix).stage, Stage::Ended(End::Failed(_) | End::Unknown(_)))
                && from.is_none_or(|name| *name == step.name);
            if !retried {
                continue;
            }
            let undone = members_of(self.step(ix), step).any(|(_, state)| state.is_undone());
            self.undone_before |= undone;
            let state = self.step_mut(ix);
            state.stage = if state.list.is_some() { Stage::Running } else { Stage::Pending };
            for item in state.items.values_mut() {
                if matches!(item.end, Some(End::Failed(_) | End::Unknown(_))) {
                    start_afresh(item, step);
                }
            }
            state.ended_items -= count(std::mem::take(&mut state.failed_items).len());
            state.culprit = None;
            if state.stage == Stage::Pending {
                self.ready.insert(ix);
            } else {
                self.lists.insert(ix);
            }
        }
        // A pivot that was unknown and is tried once more may yet turn out to have failed.
        self.pivoted = plan.steps.iter().zip(&self.steps).any(|(step, state)| step.pivot && state.is_past_pivot());
        Ok(())
    }

    /// Finds out what has to be undone, and which undo waits for which.
    fn order_undos(&mut self, plan: &Plan) {
        let owed =
            |(member, state): (&crate::plan::Member, &MemberState)| self.is_left(member, state) && !state.undo_failed();
        let owed: Vec<u32> = self
            .steps
            .iter()
            .zip(&plan.steps)
            .map(|(state, step)| count(members_of(state, step).filter(|pair| owed(*pair)).count()))
            .collect();
        let unmet = plan.steps.iter().map(|step| count(undone_before(step).len())).collect();
        self.undo = UndoOrder { left: owed.iter().sum(), owed, unmet, ready: BTreeSet::new() };
        let last: Vec<StepIx> =
            plan.order.iter().copied().filter(|ix| undone_before(plan.step(*ix)).is_empty()).collect();
        self.take_turns(plan, last);
    }

    /// Gives steps their turn; those with nothing to undo pass it on at once.
    fn take_turns(&mut self, plan: &Plan, mut turns: Vec<StepIx>) {
        while let Some(ix) = turns.pop() {
            if self.undo.owed[ix.0 as usize] > 0 {
                self.undo.ready.insert(ix);
                continue;
            }
            for needed in undone_after(plan.step(ix)) {
                let unmet = &mut self.undo.unmet[needed.0 as usize];
                *unmet -= 1;
                if *unmet == 0 {
                    turns.push(*needed);
                }
            }
        }
    }

    /// Notes that one undo of a step has ended, well or not: the steps before it may go on.
    fn undo_is_over(&mut self, plan: &Plan, ix: StepIx) -> Result<(), Why> {
        if self.phase != Phase::Undoing {
            // An undo before a fallback, or of a failure that is passed over, follows no order.
            return Ok(());
        }
        let owed = &mut self.undo.owed[ix.0 as usize];
        *owed = owed.checked_sub(1).ok_or("nothing was to be undone")?;
        self.undo.left -= 1;
        if *owed == 0 {
            self.undo.ready.remove(&ix);
            if awake(Bug::FailedUndoStopsSiblings)
                && members_of(self.step(ix), plan.step(ix)).any(|(_, m)| m.undo_failed())
            {
                self.undo.left = 0;
                self.undo.ready.clear();
                return Ok(());
            }
            self.take_turns(plan, vec![ix]);
        }
        Ok(())
    }
}

/// Tells whether an event is an outcome of an attempt: the process lived to record it (SPEC 6.17).
pub(super) fn is_heard(event: &Event) -> bool {
    match event {
        Event::CallSucceeded { .. } => true,
        // A refusal before the handler was called says nothing about what brings the process down.
        Event::CallFailed { attempt, error, .. } => {
            (*attempt > 0 || awake(Bug::RefusalResetsDeaths))
                && error.code != "crashed"
                && !awake(Bug::RecoveryCounterNotReset)
        }
        Event::Confirmed { answer, .. } => *answer != Answer::Unknown,
        _ => false,
    }
}

/// The steps whose undos come before that of `step`.
fn undone_before(step: &Step) -> &[StepIx] {
    if awake(Bug::UndoInStartOrder) { &step.needs } else { &step.dependents }
}

/// The steps whose undos come after that of `step`.
fn undone_after(step: &Step) -> &[StepIx] {
    if awake(Bug::UndoInStartOrder) { &step.dependents } else { &step.needs }
}

/// Prepares an item for an operator's retry (SPEC 6.13): new attempts, and a new key where it is certain that the old
/// one has no effect. Where it is not, the same member is tried with the same key.
fn start_afresh(item: &mut ItemState, step: &Step) {
    item.end = None;
    let mut again = None;
    for tried in std::mem::take(&mut item.members) {
        let acted = member_of(step, tried.member).is_some_and(|m| tried.may_have_acted(m)) && !tried.is_undone();
        if acted || (tried.is_unknown() && !tried.is_undone()) {
            item.unsure.insert(tried.member);
            again = Some((tried.member, tried.forward.input));
        } else {
            item.unsure.remove(&tried.member);
            *item.generations.entry(tried.member).or_default() += 1;
        }
    }
    // The same key goes with the same input.
    item.members.extend(again.map(|(member, input)| MemberState {
        member,
        unclear: true,
        forward: CallState { input, ..CallState::default() },
        ..MemberState::default()
    }));
}

fn member_of(step: &Step, member: u16) -> Option<&crate::plan::Member> {
    match &step.action {
        crate::plan::Action::Call(members) => members.get(usize::from(member)),
        crate::plan::Action::Wait(_) => None,
    }
}

/// Tells whether a forward call may change something outside: it declares an effect, or is undone, or is not known.
fn acts(plan: &Plan, call: CallIx) -> bool {
    call.member_in(plan).is_none_or(|member| {
        member.compensate.is_some() || member.call.contract.as_ref().is_none_or(|c| c.effect.is_some())
    })
}

/// Makes the output of a `foreach`: one element for each item, null for one that failed and was passed over.
fn outputs(state: &super::state::StepState, continued: bool) -> Payload {
    let list = state
        .items
        .values()
        .filter_map(|item| match &item.end {
            Some(End::Succeeded(output)) => Some(Value::clone(output.value())),
            Some(_) if continued => Some(Value::Null),
            _ => None,
        })
        .collect();
    Payload::of(Arc::new(Value::Array(list)))
}

/// The error of an attempt of which nothing more was heard.
pub(crate) fn crashed() -> Failure {
    Failure::new("crashed", ErrorKind::Unknown, "the process ended while the attempt was under way")
}

fn known<T>(found: Option<T>) -> Result<T, Why> {
    found.ok_or("the plan or the run does not know it")
}
