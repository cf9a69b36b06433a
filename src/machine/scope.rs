//! What templates see of a run.

use std::sync::Arc;

use serde_json::{Value, json};

use super::event::{CallKind, Conclusion, RunStarted};
use super::key;
use super::state::{CallIx, End, MemberState, RunState, Stage};
use crate::plan::{Plan, StepIx};
use crate::template::{Scope, StepScope};

impl RunState {
    /// Returns what every template of the run sees, and the steps given.
    pub(crate) fn scope(&self, plan: &Plan, steps: impl IntoIterator<Item = StepIx>) -> Scope {
        let vars = [
            ("config", Arc::clone(&plan.config)),
            ("input", Arc::clone(self.started.input.value())),
            ("run", Arc::clone(self.run_scope())),
        ];
        let vars = vars.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let steps = steps.into_iter().map(|ix| (plan.step(ix).name.clone(), self.step_scope(plan, ix))).collect();
        let secrets =
            plan.secrets.iter().map(|name| (name.clone(), key::placeholder(&self.started.salt, name))).collect();
        Scope { vars, steps, secrets }
    }

    fn step_scope(&self, plan: &Plan, ix: StepIx) -> StepScope {
        let Stage::Ended(end) = &self.step(ix).stage else {
            return StepScope { status: self.step_status(ix), ..StepScope::default() };
        };
        // Undoing a step does not change what it was.
        let mut scope = StepScope { status: end.word(), ..StepScope::default() };
        match end {
            End::Succeeded(output) => {
                scope.output = Some(Arc::clone(output.value()));
                scope.via = self.via(plan, ix).cloned();
            }
            End::Failed(error) | End::Unknown(error) => {
                scope.error = Some(Arc::new(error.to_json()));
            }
            End::Skipped(_) => {}
        }
        scope
    }

    /// Returns what the templates of a step see; for an item, the item too.
    pub(super) fn scope_of_step(&self, plan: &Plan, ix: StepIx, item: Option<u32>) -> Scope {
        let step = plan.step(ix);
        let mut scope = self.scope(plan, step.needs.iter().copied());
        if let (Some(item), Some(foreach), Some(list)) = (item, &step.foreach, &self.step(ix).list) {
            let value = list.value().get(item as usize).cloned().unwrap_or(Value::Null);
            scope.vars.insert(foreach.var.clone().into(), Arc::new(value));
            scope.vars.insert("index".into(), Arc::new(json!(item)));
        }
        scope
    }

    /// Returns what the `with` of a call sees.
    pub(super) fn scope_of_call(&self, plan: &Plan, call: CallIx, conclusion: Option<&Conclusion>) -> Scope {
        match call.kind {
            CallKind::Finally => {
                let mut scope = self.scope(plan, plan.order.iter().copied());
                if let Some(conclusion) = conclusion {
                    scope.vars.insert("run".into(), Arc::new(self.ended_run(conclusion)));
                }
                scope
            }
            CallKind::Forward => {
                let mut scope = self.scope_of_step(plan, call.step, call.item);
                let before = self
                    .item(call.step, call.item)
                    .and_then(|i| i.tried().find(|m| m.member != call.member && m.forward.error.is_some()));
                if let (true, Some(error)) = (call.member > 0, before.and_then(|m| m.forward.error.as_ref())) {
                    scope.vars.insert("error".into(), Arc::new(error.to_json()));
                }
                scope
            }
            CallKind::Confirm | CallKind::Undo => {
                let mut scope = self.scope_of_step(plan, call.step, call.item);
                let forward = call.with_kind(CallKind::Forward);
                let key = key::idempotency_key(&self.started.salt, plan, forward, self.generation(forward));
                scope.vars.insert("key".into(), Arc::new(Value::String(key)));
                if let Some(member) = self.member(call) {
                    add_result(&mut scope, member);
                }
                scope
            }
        }
    }

    /// Returns `run` as templates see it. A run that only waits never needs it.
    fn run_scope(&self) -> &Arc<Value> {
        self.run_scope.0.get_or_init(|| {
            let RunStarted { id, workflow, .. } = &*self.started;
            Arc::new(json!({ "id": id, "workflow": workflow, "started_at": self.started_at.to_string() }))
        })
    }

    /// Returns `run` as `finally` steps see it.
    fn ended_run(&self, conclusion: &Conclusion) -> Value {
        let mut run = Value::clone(self.run_scope());
        if let Some(run) = run.as_object_mut() {
            run.insert("status".to_owned(), json!(conclusion.status));
            run.insert("compensation".to_owned(), json!(conclusion.compensation));
            if let Some(error) = &conclusion.error {
                run.insert("error".to_owned(), error.to_json());
            }
        }
        run
    }
}

/// Adds what a member came to: its output or its error. One that a confirm found done has succeeded.
fn add_result(scope: &mut Scope, member: &MemberState) {
    if let Some(output) = &member.output {
        scope.vars.insert("output".into(), Arc::clone(output.value()));
    } else if let Some(error) = &member.forward.error {
        scope.vars.insert("error".into(), Arc::new(error.to_json()));
    }
}
