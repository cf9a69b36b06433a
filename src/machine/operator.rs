//! What people ask of a run: signals, cancel, retry, compensate, mark done (SPEC 6.10 to 6.13, 6.18).

use super::event::{Cause, Compensation, Event, Place};
use super::state::{End, Phase, Stage};
use super::{Machine, Refusal, Stuck};
use crate::dsl::schema::unfit;
use crate::limits::raised_by;
use crate::names::StepName;
use crate::payload::Payload;
use crate::plan::{Action, Wait};
use crate::suggest::nearest;
use crate::teeth::{Bug, awake};

impl Machine {
    pub(super) fn signal(&mut self, id: Option<String>, name: String, data: Payload) -> Result<(), Stuck> {
        self.refuse_final()?;
        if id.is_some() && self.state.signals.iter().any(|s| s.id == id) && !awake(Bug::SignalTwice) {
            return Ok(());
        }
        let waits: Vec<&Wait> = self
            .plan
            .steps
            .iter()
            .filter_map(|step| match &step.action {
                Action::Wait(wait @ Wait::Signal { .. }) => Some(wait),
                Action::Wait(Wait::For(_) | Wait::Until(_)) | Action::Call(_) => None,
            })
            .collect();
        let named = |wait: &&Wait| matches!(wait, Wait::Signal { name: known, .. } if *known == name);
        let Some(Wait::Signal { schema, .. }) = waits.iter().copied().find(|w| named(w)) else {
            let known: Vec<&str> = waits
                .iter()
                .filter_map(|w| if let Wait::Signal { name, .. } = w { Some(name.as_str()) } else { None })
                .collect();
            let help = match nearest(&name, known.iter().copied()) {
                Some(meant) => format!("; did you mean `{meant}`?"),
                None if known.is_empty() => ", nor for any other".to_owned(),
                None => format!("; the signals are {}", known.join(", ")),
            };
            return Err(Refusal::Unknown { message: format!("no step waits for a signal `{name}`{help}") }.into());
        };
        if let Some(schema) = schema {
            let validator = jsonschema::validator_for(schema).map_err(|e| Refusal::Invalid {
                message: format!("the schema of signal `{name}` is not valid: {e}"),
            })?;
            if let Some(error) = validator.iter_errors(data.value()).next() {
                let place = error.instance_path().to_string();
                let place = if place.is_empty() { String::new() } else { format!(" at `{place}`") };
                return Err(Refusal::Invalid {
                    message: format!("the data of signal `{name}` does not fit{place}: {}", unfit(&error)),
                }
                .into());
            }
        }
        let bytes = data.text().len() as u64;
        if bytes > self.limits.payload_bytes {
            let limit = self.limits.payload_bytes;
            let message =
                format!("the data of signal `{name}` has {bytes} bytes, and the limit `payload_bytes` is {limit}")
                    + &raised_by("payload_bytes");
            return Err(Refusal::Invalid { message }.into());
        }
        if self.state.signals.len() as u64 >= self.limits.items && !awake(Bug::SignalsWithoutEnd) {
            let message = format!("the run holds {} signals already, the limit `items`", self.state.signals.len())
                + &raised_by("items");
            return Err(Refusal::Conflict { message }.into());
        }
        // A wait whose time has come has ended, even if nobody was up to say so.
        self.wake()?;
        self.emit(Event::SignalReceived { id, name: name.clone(), data })?;
        if self.state.phase == Phase::Running && self.state.parked.is_none() {
            self.give_signal(&name)?;
        }
        Ok(())
    }

    pub(super) fn cancel(&mut self, reason: Option<String>, compensate: bool) -> Result<(), Stuck> {
        self.refuse_final()?;
        if compensate && self.state.pivoted && self.state.phase != Phase::Undoing {
            return Err(Refusal::Pivot { run: self.state.started.id.clone() }.into());
        }
        let parked_behind_pivot =
            self.state.phase == Phase::Draining && self.state.parked.as_ref().is_some_and(|p| p.code == "pivot");
        if awake(Bug::CancelAfterDrain) && self.state.phase != Phase::Running {
            self.state.cause = Some(Cause::Cancelled { reason: None, compensate: true });
        }
        if self.state.phase == Phase::Running || parked_behind_pivot {
            self.start_drain(Cause::Cancelled { reason, compensate })?;
        }
        Ok(())
    }

    pub(super) fn retry(&mut self, from: Option<StepName>) -> Result<(), Stuck> {
        self.refuse_final()?;
        if self.state.parked.is_none() {
            let message =
                format!("run {} is {}; only a parked run can be retried", self.state.started.id, self.state.status());
            return Err(Refusal::Conflict { message }.into());
        }
        if let Some(name) = &from {
            let ix = self.known_step(name)?;
            let failed = matches!(self.state.step(ix).stage, Stage::Ended(End::Failed(_) | End::Unknown(_)));
            if !failed || self.state.step(ix).passed {
                let message = format!(
                    "step `{name}` is {}; only a failed or unknown step can be retried",
                    self.state.step_status(ix)
                );
                return Err(Refusal::Conflict { message }.into());
            }
        }
        self.emit(Event::RetryRequested { from })?;
        self.cut_off()?;
        if self.state.phase == Phase::Running {
            self.give_signals()?;
        }
        self.rescan();
        Ok(())
    }

    pub(super) fn compensate(&mut self) -> Result<(), Stuck> {
        let under_way = self.state.phase == Phase::Undoing && self.state.conclusion.is_some();
        if under_way && self.state.parked.is_none() {
            // It was asked for before, and a process died over it; this one has just taken the run up.
            return Ok(());
        }
        if !self.state.is_final() {
            let message = format!(
                "run {} is {}; `compensate` tries again what a final run left undone, `cancel` undoes this one",
                self.state.started.id,
                self.state.status()
            );
            return Err(Refusal::Conflict { message }.into());
        }
        if self.state.compensation(&self.plan) != Compensation::Incomplete {
            let message = format!("run {} owes nothing: there is nothing left to undo", self.state.started.id);
            return Err(Refusal::Conflict { message }.into());
        }
        // A completed run only tries again what was begun before; anything else would roll the pivot back (SPEC 6.12).
        if self.state.pivoted && self.state.cause.is_some() {
            return Err(Refusal::Pivot { run: self.state.started.id.clone() }.into());
        }
        self.emit(Event::CompensateRequested)?;
        Ok(())
    }

    pub(super) fn mark_done(&mut self, step: &StepName, item: Option<u32>, reason: &str) -> Result<(), Stuck> {
        let ix = self.known_step(step)?;
        if !self.state.is_final() {
            let message = format!(
                "run {} is {}; a repair is recorded on a final run",
                self.state.started.id,
                self.state.status()
            );
            return Err(Refusal::Conflict { message }.into());
        }
        let Action::Call(members) = &self.plan.step(ix).action else {
            return Err(Refusal::Conflict { message: format!("step `{step}` has nothing to undo") }.into());
        };
        let foreach = self.plan.step(ix).foreach.is_some();
        let places: Vec<Place> = self
            .state
            .step(ix)
            .items
            .iter()
            .filter(|(n, _)| item.is_none_or(|item| item == **n))
            .filter(|(_, state)| {
                state
                    .tried()
                    .any(|tried| members.get(usize::from(tried.member)).is_some_and(|m| self.state.is_left(m, tried)))
            })
            .map(|(n, _)| Place { step: step.clone(), item: foreach.then_some(*n) })
            .collect();
        if places.is_empty() {
            return Err(Refusal::Conflict {
                message: format!("step `{step}` of run {} owes nothing", self.state.started.id),
            }
            .into());
        }
        for place in places {
            self.emit(Event::MarkedDone { place, reason: reason.to_owned() })?;
        }
        Ok(())
    }

    fn known_step(&self, name: &StepName) -> Result<crate::plan::StepIx, Refusal> {
        self.plan.find(name).ok_or_else(|| {
            let known: Vec<&str> = self.plan.steps.iter().map(|s| s.name.as_str()).collect();
            let help = match nearest(name.as_str(), known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("its steps are {}", known.join(", ")),
            };
            Refusal::Unknown { message: format!("workflow `{}` has no step `{name}`; {help}", self.plan.name) }
        })
    }

    fn refuse_final(&self) -> Result<(), Refusal> {
        if self.state.is_final() {
            return Err(Refusal::of_final(&self.state));
        }
        Ok(())
    }
}
