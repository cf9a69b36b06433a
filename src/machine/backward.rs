//! Stopping, undoing and ending (SPEC 6.9, 6.10, 6.12, 6.20).

use super::event::{CallKind, Cause, Conclusion, Event, Outcome, Place, Status};
use super::forward::{cancelled, shallow, template_failure};
use super::state::{CallIx, Phase, Progress, Stage, count};
use super::table::IllegalTransition;
use super::{Command, Machine};
use crate::plan::{Action, StepIx};
use crate::teeth::{Bug, awake};

type Done = Result<(), IllegalTransition>;

impl Machine {
    /// Stops going forward. Once a drain has begun, further causes change nothing.
    pub(super) fn start_drain(&mut self, cause: Cause) -> Done {
        if self.state.phase != Phase::Running && self.state.parked.is_none() {
            return Ok(());
        }
        self.emit(Event::DrainStarted { cause })?;
        // Undos that have not begun have their turn when everything else has ended.
        let state = &self.state;
        self.asked.retain(|call, _| match call.kind {
            CallKind::Forward => false,
            CallKind::Undo => state.call(*call).is_some(),
            CallKind::Confirm | CallKind::Finally => true,
        });
        self.end_waits()?;
        let running: Vec<CallIx> =
            self.in_flight.iter().copied().filter(|call| call.kind == CallKind::Forward).collect();
        self.out.commands.extend(running.into_iter().map(|call| Command::Stop { call }));
        self.cut_off()?;
        self.rescan();
        Ok(())
    }

    fn end_waits(&mut self) -> Done {
        let waiting: Vec<StepIx> = self.state.waiting.iter().copied().collect();
        for ix in waiting {
            let place = Place { step: self.plan.step(ix).name.clone(), item: None };
            let outcome = Outcome::Failed { error: cancelled("the run stopped while the step waited") };
            self.emit(Event::Settled { place, outcome })?;
        }
        Ok(())
    }

    /// Goes on from a drain once everything has ended: to undoing, to a person, or to the end.
    pub(super) fn finish_drain(&mut self) -> Result<bool, IllegalTransition> {
        if !self.state.active.is_empty() || !self.asked.is_empty() {
            return Ok(false);
        }
        self.end_waits()?;
        let lists: Vec<StepIx> = self.state.lists.iter().copied().collect();
        for ix in lists {
            self.end_list(ix)?;
        }
        let gives_up = matches!(self.state.cause, Some(Cause::Cancelled { compensate: false, .. }));
        if gives_up {
            self.conclude()?;
        } else if self.state.pivoted && !awake(Bug::PivotIgnored) {
            let message = "the run is past its point of no return and cannot be undone".to_owned();
            self.emit(Event::RunParked { code: "pivot".into(), message })?;
        } else {
            self.emit(Event::UndoStarted)?;
        }
        Ok(true)
    }

    /// Undoes what is next in line. Returns whether anything was begun or ended.
    pub(super) fn go_backward(&mut self) -> Result<bool, IllegalTransition> {
        if self.state.undo.left == 0 && self.state.active.is_empty() {
            self.conclude()?;
            return Ok(true);
        }
        let mut moved = false;
        let ready: Vec<StepIx> = self.state.undo.ready.iter().copied().collect();
        for ix in ready {
            for call in self.undos_of(ix) {
                let begun = self.state.call(call).is_some_and(|c| c.progress != Progress::Idle);
                let begun = begun && !(awake(Bug::ItemUndoneTwice) && call.item.is_some());
                if !begun && !self.asked.contains_key(&call) {
                    self.request(call)?;
                    moved = true;
                }
            }
        }
        Ok(moved)
    }

    /// The undos that a step still owes.
    fn undos_of(&self, ix: StepIx) -> Vec<CallIx> {
        let step = self.plan.step(ix);
        let Action::Call(members) = &step.action else { return Vec::new() };
        let mut calls = Vec::new();
        for (item, state) in self.state.step(ix).items.iter() {
            let item = step.foreach.is_some().then_some(*item);
            for tried in state.tried() {
                let owed = members.get(usize::from(tried.member)).is_some_and(|m| self.state.is_left(m, tried));
                if owed && !tried.undo_failed() || awake(Bug::ItemUndoneTwice) && item.is_some() && tried.is_undone() {
                    calls.push(CallIx { step: ix, item, member: tried.member, kind: CallKind::Undo });
                }
            }
        }
        calls
    }

    /// Decides whether a run that goes forward has come to its end, or to a halt. Returns whether it has.
    pub(super) fn rest_or_end(&mut self) -> Result<bool, IllegalTransition> {
        let state = &self.state;
        if !state.active.is_empty() || !state.waiting.is_empty() || !self.asked.is_empty() || !state.ready.is_empty() {
            return Ok(false);
        }
        if state.open > 0 {
            let stopped: Vec<String> = (0..self.plan.steps.len())
                .map(|ix| StepIx(count(ix)))
                .filter(|ix| matches!(&state.step(*ix).stage, Stage::Ended(end) if end.error().is_some()))
                .filter(|ix| !state.step(*ix).passed)
                .map(|ix| format!("`{}` is {}", self.plan.step(ix).name, state.step_status(ix)))
                .collect();
            let message = format!("nothing can go on before a person decides: {}", stopped.join(", "));
            self.emit(Event::RunParked { code: "step".into(), message })?;
            return Ok(true);
        }
        self.conclude()?;
        Ok(true)
    }

    /// Decides how the run ends.
    fn conclude(&mut self) -> Done {
        let output = match (&self.state.cause, &self.plan.output) {
            (None, Some(template)) if self.state.conclusion.is_none() => {
                let scope = self.state.scope(&self.plan, self.plan.order.iter().copied());
                let rendered = template.render(&scope, &self.limits).map_err(|e| template_failure("output", &e));
                match rendered.and_then(|value| shallow("output", value)) {
                    Ok(output) => Some(output),
                    Err(error) => {
                        return self.start_drain(Cause::Failed { place: None, error });
                    }
                }
            }
            _ => self.state.conclusion.as_ref().and_then(|c| c.output.clone()),
        };
        let (status, error) = match &self.state.cause {
            None => (Status::Completed, None),
            Some(Cause::Failed { error, .. } | Cause::Deadline { error }) => (Status::Failed, Some(error.clone())),
            Some(Cause::Cancelled { reason, .. }) => {
                (Status::Cancelled, Some(cancelled(reason.as_deref().unwrap_or("an operator cancelled the run"))))
            }
        };
        let compensation = self.state.compensation(&self.plan);
        // `finally` has run, and never runs again, when a final run was taken up for another try at its undos.
        let again = self.state.conclusion.is_some();
        let conclusion = Box::new(Conclusion { status, compensation, output, error });
        if self.plan.finally.is_empty() || again {
            return self.emit(Event::RunFinished(conclusion));
        }
        self.emit(Event::RunEnding(conclusion))
    }

    /// Runs the next `finally` step, or ends the run after the last.
    pub(super) fn go_to_end(&mut self) -> Result<bool, IllegalTransition> {
        for (ix, state) in self.state.finally.iter().enumerate() {
            let call = CallIx { step: StepIx(count(ix)), item: None, member: 0, kind: CallKind::Finally };
            match state.progress {
                Progress::Succeeded | Progress::Failed => {}
                Progress::Running { .. } | Progress::BackingOff { .. } => return Ok(false),
                Progress::Idle if self.asked.contains_key(&call) => return Ok(false),
                Progress::Idle => {
                    self.request(call)?;
                    return Ok(true);
                }
            }
        }
        let conclusion = self.state.conclusion.clone().expect("a run that is ending has a conclusion");
        self.emit(Event::RunFinished(Box::new(conclusion)))?;
        Ok(true)
    }
}
