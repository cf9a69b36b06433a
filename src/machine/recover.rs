//! Taking a run over from a process that is gone (SPEC 6.6, 6.17).

use super::Machine;
use super::event::{CallKind, Event};
use super::state::{Alarm, CallIx, Phase, Progress};
use super::table::{IllegalTransition, crashed, is_heard};
use crate::teeth::{Bug, awake};

/// How many processes may die with the run under way before it is parked.
pub const DEATHS_MAX: u32 = 3;

/// Says of a run that was left unfinished whether a process may have died with it under way before, by one of its events,
/// going back from the last one; nothing if that is for an event further back to say.
pub(crate) fn may_have_died(event: &Event, is_last: bool) -> Option<bool> {
    match event {
        Event::RunResumed { clean: false } => Some(true),
        Event::RunStarted(_) => Some(false),
        Event::RunInterrupted if is_last => Some(false),
        event if is_heard(event) => Some(false),
        _ => None,
    }
}

impl Machine {
    /// Takes the run over: attempts that were cut off are repeated or become unknown.
    ///
    /// `obstacle` says why the run cannot go on in this process, such as a handler that is missing.
    pub(super) fn recover(&mut self, obstacle: Option<(&'static str, String)>) -> Result<(), IllegalTransition> {
        if self.state.is_final() {
            return Ok(());
        }
        // A run that only waited, or was parked, did nothing that could have brought the process down.
        let clean = self.state.put_down || self.state.parked.is_some() || !self.state.has_running_call();
        self.take_up(clean, obstacle)
    }

    /// Takes note that whoever carried an attempt out is gone.
    pub(super) fn lost(&mut self, call: CallIx, attempt: u32, died: bool) -> Result<(), IllegalTransition> {
        if self.state.is_final() || !self.is_under_way(call, attempt) {
            return Ok(());
        }
        self.in_flight.remove(&call);
        self.take_up(!died, None)
    }

    fn take_up(&mut self, clean: bool, obstacle: Option<(&'static str, String)>) -> Result<(), IllegalTransition> {
        self.emit(Event::RunResumed { clean })?;
        if self.state.parked.is_some() {
            return Ok(());
        }
        if let Some((code, message)) = obstacle {
            return self.emit(Event::RunParked { code: code.into(), message });
        }
        if self.state.deaths >= DEATHS_MAX && !awake(Bug::NeverParked) {
            let message = format!(
                "the process died {DEATHS_MAX} times in a row while this run was under way; `retry` tries again"
            );
            return self.emit(Event::RunParked { code: "recovery".into(), message });
        }
        if awake(Bug::BackoffFromRestart) {
            self.back_off_anew();
        }
        self.cut_off()?;
        if self.state.phase == Phase::Running {
            self.give_signals()?;
        }
        self.rescan();
        if awake(Bug::BeginsBeforeItLooks) { Ok(()) } else { self.hear() }
    }

    /// Takes note of all that has ended or come due meanwhile, before anything begins: it may stop the run.
    fn hear(&mut self) -> Result<(), IllegalTransition> {
        let held = std::mem::replace(&mut self.held, true);
        for (step, item) in self.todo.clone() {
            self.pursue(step, item)?;
        }
        for list in self.state.lists.clone() {
            self.go_through_items(list)?;
        }
        // No item has begun, whatever the cursors say.
        self.cursors.clear();
        self.held = held;
        self.wake()
    }

    /// The deliberate bug of that name: every back-off takes its whole time once more.
    fn back_off_anew(&mut self) {
        let calls: Vec<(crate::time::Timestamp, Alarm)> = self.state.alarms.iter().copied().collect();
        for (due, alarm) in calls {
            if matches!(alarm, Alarm::Call(_)) && due > self.now {
                self.state.alarms.remove(&(due, alarm));
                self.state.alarms.insert((self.now.after(std::time::Duration::from_secs(60)), alarm));
            }
        }
    }

    /// Handles attempts that the state has as under way and that no process carries out any more.
    pub(super) fn cut_off(&mut self) -> Result<(), IllegalTransition> {
        let cut: Vec<(CallIx, u32)> = self
            .state
            .active
            .iter()
            .filter(|call| !self.in_flight.contains(call))
            .filter_map(|call| match self.state.call(*call)?.progress {
                Progress::Running { attempt, .. } => Some((*call, attempt)),
                Progress::Idle | Progress::BackingOff { .. } | Progress::Succeeded | Progress::Failed => None,
            })
            .collect();
        for (call, attempt) in cut {
            let repeatable = call.in_plan(&self.plan).is_some_and(crate::plan::Call::repeatable);
            let repeated = match call.kind {
                CallKind::Forward => repeatable && self.state.phase == Phase::Running,
                CallKind::Undo => repeatable,
                // Asking twice does no harm, and `finally` promises at least once.
                CallKind::Confirm | CallKind::Finally => true,
            };
            if repeated {
                self.emit(Event::CallCutOff { call: call.id(&self.plan), attempt })?;
                match call.kind {
                    CallKind::Forward | CallKind::Confirm => {
                        self.todo.insert((call.step, call.item));
                    }
                    CallKind::Undo | CallKind::Finally => self.request(call)?,
                }
            } else {
                self.failed(call, attempt, crashed())?;
            }
        }
        Ok(())
    }
}
