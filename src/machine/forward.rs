//! Going forward: steps, items and members (SPEC 6.2, 6.3, 6.5, 6.8, 6.18, 6.19).

use serde_json::Value;

use super::event::{Answer, CallKind, Cause, Event, Outcome, Place, SkipReason};
use super::policy::retry::next_attempt;
use super::state::{CallIx, End, ItemState, MemberState, Phase, Progress, Stage, count};
use super::table::IllegalTransition;
use super::{Command, Machine, key, may_begin};
use crate::failure::ErrorKind;
use crate::failure::Failure;
use crate::limits::raised_by;
use crate::payload::{DEPTH_MAX, Payload};
use crate::plan::{Action, Member, OnError, OnSkip, Plan, StepIx, Wait, WaitLimit};
use crate::teeth::{Bug, awake};
use crate::template::{TemplateError, kind_of};
use crate::time::Timestamp;

/// Where a `foreach` stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    /// The next item that may have to be begun.
    next: u32,
    /// How many items are under way.
    running: u32,
}

type Done = Result<(), IllegalTransition>;

impl Machine {
    /// Begins what may begin. Returns whether anything did.
    pub(super) fn go_forward(&mut self) -> Result<bool, IllegalTransition> {
        let before = self.out.entries.len() + self.out.commands.len();
        let ready: Vec<StepIx> = self.state.ready.iter().copied().collect();
        self.begins |= !awake(Bug::StopsBeforeAllBegin);
        for ix in ready {
            if self.state.phase != Phase::Running {
                return Ok(true);
            }
            // A step that an operator retries may go on with the member that may have acted, and with no other.
            let taken_up = self.state.item(ix, None).is_some_and(|item| item.current().is_some());
            if !taken_up
                && !self.asked.contains_key(&CallIx { step: ix, item: None, member: 0, kind: CallKind::Forward })
            {
                self.begin_step(ix)?;
            }
        }
        let lists: Vec<StepIx> = self.state.lists.iter().copied().collect();
        for ix in lists {
            if self.state.phase == Phase::Running {
                self.go_through_items(ix)?;
            }
        }
        if self.out.entries.len() + self.out.commands.len() > before || !self.todo.is_empty() {
            return Ok(true);
        }
        if let Some((place, error)) = self.stop.take() {
            self.start_drain(Cause::Failed { place: Some(place), error })?;
            return Ok(true);
        }
        self.rest_or_end()
    }

    /// Decides what happens to a step whose needs have all ended.
    fn begin_step(&mut self, ix: StepIx) -> Done {
        let plan = std::sync::Arc::clone(&self.plan);
        let step = plan.step(ix);
        let state = self.state.step(ix);
        let all_skipped = !step.needs.is_empty() && state.skipped_needs == count(step.needs.len());
        if all_skipped && step.on_skip != Some(OnSkip::Run) {
            return self.emit(Event::StepSkipped { step: step.name.clone(), reason: SkipReason::Needs });
        }
        let scope = || self.state.scope_of_step(&plan, ix, None);
        if let Some(when) = &step.when {
            let scope = scope();
            match when.holds(&scope, &self.limits) {
                Ok(true) => {}
                Ok(false) => {
                    return self.emit(Event::StepSkipped { step: step.name.clone(), reason: SkipReason::When });
                }
                Err(error) => return self.fail_step(ix, template_failure("when", &error)),
            }
        }
        if let Some(foreach) = &step.foreach {
            let scope = scope();
            return match foreach.items.eval(&scope, &self.limits) {
                Ok(Value::Array(items)) if items.len() as u64 > self.limits.items => {
                    let limit = self.limits.items;
                    let message = format!("`foreach` has {} items, and the limit `items` is {limit}", items.len());
                    self.fail_step(ix, over("items", message))
                }
                Ok(Value::Array(items)) => {
                    let items = match shallow("foreach", Value::Array(items)) {
                        Ok(items) => items,
                        Err(error) => return self.fail_step(ix, error),
                    };
                    self.emit(Event::ItemsListed { step: step.name.clone(), items })
                }
                Ok(other) => {
                    let message = format!("`foreach` must yield a list, not {}", kind_of(&other));
                    self.fail_step(ix, Failure::new("template", ErrorKind::Permanent, message))
                }
                Err(error) => self.fail_step(ix, template_failure("foreach", &error)),
            };
        }
        match &step.action {
            Action::Wait(wait) => self.begin_wait(ix, wait),
            Action::Call(_) => self.request(CallIx { step: ix, item: None, member: 0, kind: CallKind::Forward }),
        }
    }

    fn begin_wait(&mut self, ix: StepIx, wait: &Wait) -> Done {
        let plan = std::sync::Arc::clone(&self.plan);
        let name = plan.step(ix).name.clone();
        let scope = self.state.scope_of_step(&plan, ix, None);
        let until = match wait {
            Wait::For(time) | Wait::Signal { limit: WaitLimit::For(time), .. } => Ok(Some(self.now.after(*time))),
            Wait::Until(expression) | Wait::Signal { limit: WaitLimit::Until(expression), .. } => expression
                .eval(&scope, &self.limits)
                .map_err(|e| template_failure("until", &e))
                .and_then(time_of)
                .map(Some),
            Wait::Signal { limit: WaitLimit::None, .. } => Ok(None),
        };
        let until = match until {
            Ok(until) => until,
            Err(error) => return self.fail_step(ix, error),
        };
        let signal = match wait {
            Wait::For(_) | Wait::Until(_) => None,
            Wait::Signal { name, .. } => Some(name.clone()),
        };
        self.emit(Event::WaitStarted { step: name, until, signal: signal.clone() })?;
        match signal {
            Some(signal) => self.give_signal(&signal),
            None => Ok(()),
        }
    }

    /// Gives the oldest unused signal of this name to the step that waits for it and has the least time left, or else to the
    /// first in the file.
    pub(super) fn give_signal(&mut self, name: &str) -> Done {
        let waits = |ix: &StepIx| match &self.state.step(*ix).stage {
            Stage::Waiting { signal: Some(signal), until } if signal == name => {
                let without_end = until.is_none() || awake(Bug::SignalToTheFirst);
                Some((without_end, until.filter(|_| !without_end), *ix))
            }
            _ => None,
        };
        if let Some((.., ix)) = self.state.waiting.iter().filter_map(waits).min()
            && self.state.signals.iter().any(|s| !s.used && s.name == name)
        {
            let place = Place { step: self.plan.step(ix).name.clone(), item: None };
            self.emit(Event::Settled { place, outcome: Outcome::Succeeded { output: None } })?;
        }
        Ok(())
    }

    /// Gives out the signals that came while the run was parked.
    pub(super) fn give_signals(&mut self) -> Done {
        let signal_of = |ix: &StepIx| match &self.state.step(*ix).stage {
            Stage::Waiting { signal, .. } => signal.clone(),
            Stage::Pending | Stage::Running | Stage::Ended(_) => None,
        };
        let names: Vec<String> = self.state.waiting.iter().filter_map(signal_of).collect();
        names.iter().try_for_each(|name| self.give_signal(name))
    }

    /// Ends a wait whose time has come.
    pub(super) fn wait_is_over(&mut self, ix: StepIx) -> Done {
        let place = Place { step: self.plan.step(ix).name.clone(), item: None };
        match &self.state.step(ix).stage {
            Stage::Waiting { signal: None, .. } => {
                self.emit(Event::Settled { place, outcome: Outcome::Succeeded { output: None } })
            }
            Stage::Waiting { signal: Some(signal), .. } => {
                let message = format!("no signal `{signal}` arrived in time");
                self.fail_step(ix, Failure::new("signal_timeout", ErrorKind::Permanent, message))
            }
            Stage::Pending | Stage::Running | Stage::Ended(_) => Ok(()),
        }
    }

    /// Begins as many items of a `foreach` as may run at once, and ends the step after the last.
    pub(super) fn go_through_items(&mut self, ix: StepIx) -> Done {
        let plan = std::sync::Arc::clone(&self.plan);
        let step = plan.step(ix);
        let Some(foreach) = &step.foreach else { return Ok(()) };
        let total = self.state.step(ix).list.as_ref().and_then(|l| l.value().as_array().map(Vec::len));
        let total = count(total.unwrap_or(0));
        if !self.cursors.contains_key(&ix) {
            let running =
                self.state.step(ix).items.values().filter(|i| i.end.is_none() && !i.members.is_empty()).count();
            self.cursors.insert(ix, Cursor { next: 0, running: count(running) });
        }
        let keeps_going = step.on_error == OnError::Continue || self.first_failed_item(ix).is_none();
        if !keeps_going {
            self.withdraw_items(ix);
        }
        loop {
            let cursor = self.cursors.get_mut(&ix).expect("it was made above");
            if cursor.next >= total || cursor.running >= foreach.concurrency || !keeps_going {
                break;
            }
            let item = cursor.next;
            cursor.next += 1;
            let begun = self.state.step(ix).items.get(&item).is_some_and(|i| i.end.is_some() || !i.members.is_empty());
            if !begun {
                cursor.running += 1;
                self.request(CallIx { step: ix, item: Some(item), member: 0, kind: CallKind::Forward })?;
            }
        }
        let cursor = self.cursors[&ix];
        if cursor.running == 0 && (cursor.next >= total || !keeps_going) {
            self.end_list(ix)?;
        }
        Ok(())
    }

    /// Withdraws items that wait for a place of their service: after a failure none begins.
    fn withdraw_items(&mut self, ix: StepIx) {
        let items = &self.state.step(ix).items;
        let begun =
            |item: Option<u32>| item.is_some_and(|item| items.get(&item).is_some_and(|i| !i.members.is_empty()));
        let before = self.asked.len();
        self.asked.retain(|call, _| call.step != ix || call.kind != CallKind::Forward || begun(call.item));
        let withdrawn = count(before - self.asked.len());
        if let Some(cursor) = self.cursors.get_mut(&ix) {
            cursor.running = cursor.running.saturating_sub(withdrawn);
        }
    }

    /// Ends a step with items after its last item, or because no more are begun.
    pub(super) fn end_list(&mut self, ix: StepIx) -> Done {
        let place = Place { step: self.plan.step(ix).name.clone(), item: None };
        let total = self.state.step(ix).list.as_ref().and_then(|l| l.value().as_array().map(Vec::len)).unwrap_or(0);
        let ended = self.state.step(ix).ended_items as usize;
        let outcome = match self.first_failed_item(ix) {
            Some(_) if self.plan.step(ix).on_error == OnError::Continue && ended == total => {
                Outcome::Succeeded { output: None }
            }
            Some((item, end)) => {
                let named = |error: &Failure| {
                    let mut error = error.clone();
                    error.message = format!("item {item}: {}", error.message);
                    error
                };
                match end {
                    End::Unknown(error) => Outcome::Unknown { error: named(error) },
                    End::Failed(error) => Outcome::Failed { error: named(error) },
                    End::Skipped(_) | End::Succeeded(_) => Outcome::Succeeded { output: None },
                }
            }
            None if ended < total => Outcome::Failed { error: cancelled("the run stopped before every item was done") },
            None => Outcome::Succeeded { output: None },
        };
        let outcome = match (&outcome, self.too_large_a_list(ix)) {
            (Outcome::Succeeded { .. }, Some(error)) => Outcome::Failed { error },
            _ => outcome,
        };
        self.cursors.remove(&ix);
        self.settle(ix, place, outcome)
    }

    /// Says that the outputs of all items together are larger than an output may be. Their effects are known, so the
    /// step has failed and is undone like any other.
    fn too_large_a_list(&self, ix: StepIx) -> Option<Failure> {
        let items = &self.state.step(ix).items;
        let of_items = items.values().map(|item| match &item.end {
            Some(End::Succeeded(output)) => output.text().len() as u64 + 1,
            _ => "null,".len() as u64,
        });
        let bytes = 1 + of_items.sum::<u64>().max(1);
        let limit = self.limits.payload_bytes;
        (bytes > limit).then(|| {
            let message =
                format!("the outputs of all items have {bytes} bytes, and the limit `payload_bytes` is {limit}");
            over("payload_bytes", message)
        })
    }

    fn first_failed_item(&self, ix: StepIx) -> Option<(u32, &End)> {
        let step = self.state.step(ix);
        let first = step.culprit?;
        Some((first, step.items.get(&first)?.end.as_ref()?))
    }

    /// Decides the next move of an item: the next attempt, `confirm`, the undo before a fallback, the fallback, the end.
    pub(super) fn pursue(&mut self, ix: StepIx, item: Option<u32>) -> Done {
        let plan = std::sync::Arc::clone(&self.plan);
        let Action::Call(members) = &plan.step(ix).action else { return Ok(()) };
        let Some(state) = self.state.item(ix, item) else { return Ok(()) };
        let (None, Some(tried)) = (&state.end, state.current()) else { return Ok(()) };
        let member = &members[usize::from(tried.member)];
        let call = CallIx { step: ix, item, member: tried.member, kind: CallKind::Forward };
        let draining = self.state.phase == Phase::Draining;

        match tried.forward.progress {
            Progress::Running { .. } => return Ok(()),
            Progress::Idle | Progress::BackingOff { .. } if draining => {}
            Progress::Idle | Progress::BackingOff { .. } => {
                return if may_begin(tried.forward.progress, self.now) { self.request(call) } else { Ok(()) };
            }
            Progress::Succeeded | Progress::Failed => {}
        }
        if let Some(undo) = &tried.undo
            && matches!(undo.progress, Progress::Idle | Progress::Running { .. } | Progress::BackingOff { .. })
        {
            let due = may_begin(undo.progress, self.now);
            return if due { self.request(call.with_kind(CallKind::Undo)) } else { Ok(()) };
        }
        let asks = member.confirm.is_some() && !awake(Bug::ConfirmNotAsked);
        if tried.is_unknown() && asks && tried.answer.is_none() && tried.undo.is_none() {
            let progress = tried.confirm.as_ref().map(|c| c.progress).unwrap_or_default();
            if progress == Progress::Failed {
                let attempt = tried.confirm.as_ref().map_or(0, |c| c.attempts);
                let call = call.with_kind(CallKind::Confirm).id(&plan);
                self.emit(Event::Confirmed { call, attempt, answer: Answer::Unknown })?;
                return self.pursue(ix, item);
            }
            let due = may_begin(progress, self.now);
            return if due { self.request(call.with_kind(CallKind::Confirm)) } else { Ok(()) };
        }

        let undo_first = tried.is_owed(member) && !tried.undo_failed();
        let verdict = verdict_of(state, tried);
        if draining || tried.undo_failed() {
            // After a failed undo nobody can say what is there: the step is unknown (SPEC 6.5).
            let verdict = if tried.undo_failed() { as_unknown(verdict) } else { verdict };
            return self.settle(ix, Place { step: plan.step(ix).name.clone(), item }, verdict);
        }
        let next = self.next_member(&plan, members, ix, item, tried);
        let undo_first = undo_first && !awake(Bug::FallbackWithoutUndo);
        if undo_first && (matches!(next, Ok(Some(_))) || plan.step(ix).on_error == OnError::Continue) {
            return self.request(call.with_kind(CallKind::Undo));
        }
        match next {
            Ok(Some(next)) => self.request(CallIx { member: next, ..call }),
            Ok(None) => self.settle(ix, Place { step: plan.step(ix).name.clone(), item }, verdict),
            Err(error) => {
                let outcome = match verdict {
                    Outcome::Unknown { error } => Outcome::Unknown { error },
                    Outcome::Failed { .. } | Outcome::Succeeded { .. } => Outcome::Failed { error },
                };
                self.settle(ix, Place { step: plan.step(ix).name.clone(), item }, outcome)
            }
        }
    }

    /// Finds the next fallback: one whose `errors` has the code that ended the member tried last, and whose `when` holds.
    fn next_member(
        &self,
        plan: &Plan,
        members: &[Member],
        ix: StepIx,
        item: Option<u32>,
        tried: &MemberState,
    ) -> Result<Option<u16>, Failure> {
        let Some(error) = &tried.forward.error else { return Ok(None) };
        let later = members.iter().enumerate().skip(usize::from(tried.member) + 1);
        for (next, member) in later {
            if member.errors.as_ref().is_some_and(|codes| !codes.contains(&error.code)) {
                continue;
            }
            if let Some(when) = &member.when {
                let mut scope = self.state.scope_of_step(plan, ix, item);
                scope.vars.insert("error".into(), std::sync::Arc::new(error.to_json()));
                let holds = when.holds(&scope, &self.limits);
                if !holds.map_err(|e| template_failure(&format!("`when` of fallback `{}`", member.name), &e))? {
                    continue;
                }
            }
            return Ok(Some(u16::try_from(next).unwrap_or(u16::MAX)));
        }
        Ok(None)
    }

    fn fail_step(&mut self, ix: StepIx, error: Failure) -> Done {
        let place = Place { step: self.plan.step(ix).name.clone(), item: None };
        self.settle(ix, place, Outcome::Failed { error })
    }

    /// Ends a step or an item, and lets `on_error` decide about the run.
    pub(super) fn settle(&mut self, ix: StepIx, place: Place, outcome: Outcome) -> Done {
        let error = match &outcome {
            Outcome::Succeeded { .. } => None,
            Outcome::Failed { error } | Outcome::Unknown { error } => Some(error.clone()),
        };
        let item = place.item;
        self.emit(Event::Settled { place: place.clone(), outcome })?;
        if item.is_some() {
            return self.item_ended(ix);
        }
        match (error, self.plan.step(ix).on_error) {
            (Some(error), OnError::Compensate) if self.state.phase == Phase::Running => {
                let place = Place {
                    item: self.first_failed_item(ix).map(|(n, _)| n).filter(|_| self.plan.step(ix).foreach.is_some()),
                    ..place
                };
                if self.begins {
                    self.stop.get_or_insert((place, error));
                    return Ok(());
                }
                self.start_drain(Cause::Failed { place: Some(place), error })
            }
            _ => Ok(()),
        }
    }

    /// Notes that an item of a `foreach` has ended.
    fn item_ended(&mut self, ix: StepIx) -> Done {
        if let Some(cursor) = self.cursors.get_mut(&ix) {
            cursor.running = cursor.running.saturating_sub(1);
        }
        Ok(())
    }

    /// Wants a call's next attempt to begin: asks the service first, if it has something to say.
    pub(super) fn request(&mut self, call: CallIx) -> Done {
        if self.held || self.asked.contains_key(&call) {
            return Ok(());
        }
        let plan = std::sync::Arc::clone(&self.plan);
        let Some(planned) = call.in_plan(&plan) else { return Ok(()) };
        let recorded = self.state.call(call).is_some_and(|c| c.input.is_some());
        let input = if recorded {
            None
        } else {
            let scope = self.state.scope_of_call(&plan, call, self.state.conclusion.as_ref());
            match self.render_input(planned, &scope) {
                Ok(input) => Some(input),
                Err(error) => return self.failed(call, 0, error),
            }
        };
        match plan.guard_of(planned) {
            Some(service) => {
                self.asked.insert(call, input);
                self.out.commands.push(Command::Admit { call, service: service.clone() });
                Ok(())
            }
            None => self.start(call, input, false),
        }
    }

    fn render_input(&self, call: &crate::plan::Call, scope: &crate::template::Scope) -> Result<Payload, Failure> {
        let mut value = call.with.render(scope, &self.limits).map_err(|e| template_failure("with", &e))?;
        if awake(Bug::TemplateRenderedTwice) {
            let again = crate::template::Template::parse(&value).0.render(scope, &self.limits);
            value = again.map_err(|e| template_failure("with", &e))?;
        }
        let input = shallow("with", value)?;
        let bytes = input.text().len() as u64;
        let most = self.limits.payload_bytes + u64::from(awake(Bug::LimitOffByOne));
        if bytes > most {
            let message =
                format!("the input has {bytes} bytes, and the limit `payload_bytes` is {}", self.limits.payload_bytes);
            return Err(over("payload_bytes", message));
        }
        Ok(input)
    }

    pub(super) fn admitted(&mut self, call: CallIx, probe: bool) -> Done {
        match self.asked.remove(&call) {
            Some(input) if !self.held => self.start(call, input, probe),
            Some(_) | None => Ok(()),
        }
    }

    /// An open breaker ends a forward call at once; an undo, a confirm or a `finally` step waits until it is let
    /// through (SPEC 6.14).
    pub(super) fn refused(&mut self, call: CallIx, until: Timestamp) -> Done {
        if self.asked.remove(&call).is_none() || self.held {
            return Ok(());
        }
        let service = call.in_plan(&self.plan).and_then(|c| c.service.as_ref()).map_or("", |s| s.as_str());
        let error = Failure::new(
            "breaker_open",
            ErrorKind::Permanent,
            format!("the breaker of service `{service}` is open until {until}"),
        );
        match call.kind {
            CallKind::Forward => self.failed(call, 0, error),
            CallKind::Confirm | CallKind::Undo | CallKind::Finally => {
                self.emit(Event::CallFailed { call: call.id(&self.plan), attempt: 0, error, retry_at: Some(until) })
            }
        }
    }

    /// Begins an attempt.
    fn start(&mut self, call: CallIx, input: Option<Payload>, probe: bool) -> Done {
        let plan = std::sync::Arc::clone(&self.plan);
        let Some(planned) = call.in_plan(&plan) else { return Ok(()) };
        let (attempt, previous) = match self.state.call(call) {
            Some(state) => (state.attempts + 1, state.error.clone()),
            None => (1, None),
        };
        let until = self.now.after(planned.timeout);
        let via = call.member_in(&plan).map_or_else(|| crate::names::PRIMARY.into(), |m| m.name.clone());
        let id = call.id(&plan);
        // What is remembered is the text: the tree is the handler's, which may take it apart.
        let recorded = input.as_ref().map(Payload::as_text);
        self.emit(Event::CallStarted { call: id, via, attempt, until, input: recorded, probe })?;
        let forward =
            call.with_kind(if call.kind == CallKind::Finally { CallKind::Finally } else { CallKind::Forward });
        let generation = self.state.generation(forward) + if awake(Bug::NewKeyOnRetry) { attempt - 1 } else { 0 };
        let mut key = key::idempotency_key(&self.state.started.salt, &plan, forward, generation);
        match call.kind {
            CallKind::Forward | CallKind::Finally => {}
            CallKind::Confirm => key.push_str("/confirm"),
            CallKind::Undo => key.push_str("/undo"),
        }
        if awake(Bug::AnotherKey) && attempt > 1 {
            key.push_str("/again");
        }
        let input = input.or_else(|| self.state.call(call)?.input.clone()).unwrap_or_else(|| Payload::of(Value::Null));
        self.in_flight.insert(call);
        self.out.commands.push(Command::Call { call, attempt, until, input, key, previous, probe });
        Ok(())
    }

    /// Handles the end of an attempt.
    pub(super) fn ended(&mut self, call: CallIx, attempt: u32, result: Result<Payload, Failure>) -> Done {
        if !self.is_under_way(call, attempt) {
            return self.late(call, attempt, &result);
        }
        self.in_flight.remove(&call);
        match result {
            Ok(output) => {
                self.emit(Event::CallSucceeded { call: call.id(&self.plan), attempt, output })?;
                match call.kind {
                    CallKind::Forward if call.item.is_some() => self.item_ended(call.step),
                    CallKind::Undo => {
                        self.todo.insert((call.step, call.item));
                        Ok(())
                    }
                    CallKind::Forward | CallKind::Confirm | CallKind::Finally => Ok(()),
                }
            }
            Err(error) => self.failed(call, attempt, error),
        }
    }

    pub(super) fn is_under_way(&self, call: CallIx, attempt: u32) -> bool {
        let progress = self.state.call(call).map(|c| c.progress);
        matches!(progress, Some(Progress::Running { attempt: now, .. }) if now == attempt)
    }

    pub(super) fn late(&mut self, call: CallIx, attempt: u32, result: &Result<Payload, Failure>) -> Done {
        if self.state.is_final() {
            return Ok(());
        }
        if awake(Bug::LateResultTaken)
            && let Some(Progress::Running { attempt, .. }) = self.state.call(call).map(|c| c.progress)
        {
            return self.ended(call, attempt, result.clone());
        }
        let result = match result {
            Ok(output) => serde_json::json!({ "output": **output.value() }),
            Err(error) => serde_json::json!({ "error": error.to_json() }),
        };
        self.emit(Event::LateResult { call: call.id(&self.plan), attempt, result: Payload::of(result) })
    }

    /// Decides whether a failed attempt is repeated. Attempt 0 was refused before the handler was called.
    pub(super) fn failed(&mut self, call: CallIx, attempt: u32, error: Failure) -> Done {
        self.in_flight.remove(&call);
        let plan = std::sync::Arc::clone(&self.plan);
        let Some(planned) = call.in_plan(&plan) else { return Ok(()) };
        let goes_on = call.kind != CallKind::Forward || self.state.phase == Phase::Running || awake(Bug::DrainRetries);
        let retry_at = match self.state.call(call) {
            Some(state) if goes_on && attempt > 0 && error.code != "crashed" => {
                let dice = key::dice(&self.state.started.salt, &plan, call, attempt);
                next_attempt(planned, state, &error, self.now, dice)
            }
            _ => None,
        };
        let id = call.id(&plan);
        self.emit(Event::CallFailed { call: id.clone(), attempt, error, retry_at })?;
        if retry_at.is_some() {
            return Ok(());
        }
        match call.kind {
            CallKind::Forward | CallKind::Confirm | CallKind::Undo => {
                self.todo.insert((call.step, call.item));
            }
            CallKind::Finally => {}
        }
        Ok(())
    }

    /// Handles a confirm handler's answer.
    pub(super) fn answered(&mut self, call: CallIx, attempt: u32, answer: Answer, output: Option<Payload>) -> Done {
        if !self.is_under_way(call, attempt) {
            let result = Ok(Payload::of(serde_json::json!(answer)));
            return self.late(call, attempt, &result);
        }
        self.in_flight.remove(&call);
        self.emit(Event::Confirmed { call: call.id(&self.plan), attempt, answer })?;
        if answer == Answer::Done {
            let place = Place { step: self.plan.step(call.step).name.clone(), item: call.item };
            let output = Some(output.unwrap_or_else(|| Payload::of(Value::Null)));
            return self.settle(call.step, place, Outcome::Succeeded { output });
        }
        self.todo.insert((call.step, call.item));
        Ok(())
    }
}

/// Returns how a member whose call is over leaves its item.
fn verdict_of(item: &ItemState, tried: &MemberState) -> Outcome {
    let error = tried.forward.error.clone().unwrap_or_else(super::table::crashed);
    // A fallback's failure says nothing about a member before it that may have acted and was not undone.
    let left = item.members.iter().any(|member| member.is_unknown() && !member.is_undone());
    let unsure = item.unsure.iter().any(|ix| item.members.iter().all(|member| member.member != *ix));
    if tried.is_unknown() || left || unsure { Outcome::Unknown { error } } else { Outcome::Failed { error } }
}

fn as_unknown(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Failed { error } | Outcome::Unknown { error } => Outcome::Unknown { error },
        Outcome::Succeeded { output } => Outcome::Succeeded { output },
    }
}

/// Makes the known failure of something that is over a limit.
pub(super) fn over(limit: &str, message: String) -> Failure {
    Failure::new("limit", ErrorKind::Permanent, message + &raised_by(limit))
}

/// Makes a payload of what a template made, which may nest the levels of its values in its own.
pub(super) fn shallow(what: &str, value: Value) -> Result<Payload, Failure> {
    let payload = Payload::of(value);
    if payload.is_shallow() {
        return Ok(payload);
    }
    let message = format!("{what}: the value nests more than {DEPTH_MAX} levels deep");
    Err(Failure::new("limit", ErrorKind::Permanent, message))
}

/// Makes the known failure of a template that could not be rendered.
pub(super) fn template_failure(what: &str, error: &TemplateError) -> Failure {
    let code = if error.limit { "limit" } else { "template" };
    let mut message = format!("{what}: {}", error.message);
    // How to raise a limit is a part of saying that it was reached.
    if let Some(help) = error.help.as_ref().filter(|_| error.limit) {
        message.push_str(&format!(" ({help})"));
    }
    Failure::new(code, ErrorKind::Permanent, message)
}

/// The error of what was stopped because the run stops.
pub(super) fn cancelled(message: &str) -> Failure {
    Failure::new("cancelled", ErrorKind::Permanent, message)
}

fn time_of(value: Value) -> Result<Timestamp, Failure> {
    let failure = |message| Failure::new("template", ErrorKind::Permanent, message);
    match &value {
        Value::String(text) => Timestamp::parse(text)
            .map_err(|e| failure(format!("`until` must be an RFC 3339 time, and `{text}` is not: {e}"))),
        other => Err(failure(format!("`until` must yield an RFC 3339 time, not {}", kind_of(other)))),
    }
}
