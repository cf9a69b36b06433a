//! The workflow as it is rehearsed: the same steps, calls and policies, with time, services and conditions under control.
//!
//! Conditions come out as the rehearsal wants, lists have as many items and places, and everything is still read that was
//! read.
//! Timeouts and breakers are left out, because the played handlers bring about what follows from them; the deadline passes
//! when the rehearsal wants it to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Unplayable;
use crate::definition::Definition;
use crate::dsl::document::Document;
use crate::engine::Workflow;
use crate::handlers::contract::Contracts;
use crate::limits::Limits;
use crate::plan::{self, Action, Plan};
use crate::scenario::play::START;
use crate::teeth::{Bug, awake};
use crate::template::{Asked, Expression, Scope, Template};

/// An attempt never ends by its timeout.
const TIMEOUT: &str = "300d";
/// A wait for a signal that comes, or for a time that passes.
pub(super) const SHORT: Duration = Duration::from_secs(24 * 3600);
/// When a wait that was to be short is over.
pub(super) const AFTER_SHORT: Duration = Duration::from_secs(36 * 3600);
/// A wait that is still under way when the run is stopped.
pub(super) const LONG: Duration = Duration::from_secs(25 * 24 * 3600);

/// What a rehearsal decides before it begins.
#[derive(Clone, Debug, Default)]
pub(super) struct Setting {
    /// How free conditions come out, by their text.
    pub conditions: BTreeMap<String, bool>,
    /// How many items each step with a list has, by its place.
    pub items: BTreeMap<usize, u32>,
    /// How many items of a list may be under way at once, where that differs.
    pub places: BTreeMap<usize, u32>,
    /// How long waits take; those that are not here are short.
    pub waits: BTreeMap<usize, Duration>,
    /// The process is put down just before the run stops; these steps get their signals while it is.
    pub down: Option<Vec<usize>>,
    /// An attempt that a course cuts off is lost by itself, as when one worker of many dies; otherwise the process dies with
    /// all that is under way.
    pub alone: bool,
    /// When the run's deadline passes, of a workflow that has one.
    pub deadline: Option<Duration>,
}

/// Makes the workflow that is rehearsed.
pub(super) fn stage(
    plan: &Plan,
    document: &Document,
    setting: &Setting,
    limits: &Limits,
) -> Result<Arc<Workflow>, Unplayable> {
    let mut known = Scope::default();
    known.vars.insert("config".into(), Arc::clone(&plan.config));
    let stage = Stage { plan, known, setting };
    let text = stage.document(document)?.to_string();
    let definition = Definition {
        path: "rehearsal.yaml".to_owned(),
        text,
        files: indexmap::IndexMap::new(),
        config: Value::clone(&plan.config),
    };
    let broken = |what: String| Unplayable(format!("the rehearsal's workflow cannot be made: {what}"));
    let (loaded, findings) = definition.reopen(limits);
    let first = |findings: &[crate::diag::Finding]| findings.first().map(|f| f.message.clone()).unwrap_or_default();
    let loaded = loaded.ok_or_else(|| broken(first(&findings)))?;
    let workflow = Workflow::compile(&loaded, &contracts(plan)?).map_err(|findings| broken(first(&findings)))?;
    Ok(Arc::new(workflow))
}

/// Returns what all handlers of a plan declare.
pub(super) fn contracts(plan: &Plan) -> Result<Contracts, Unplayable> {
    let mut contracts = Contracts::new();
    for call in calls(plan) {
        let contract = call.contract.as_ref();
        let contract = contract.ok_or_else(|| Unplayable(format!("there is no handler `{}`", call.handler)))?;
        contracts.insert(call.handler.clone(), Arc::clone(contract));
    }
    Ok(contracts)
}

fn calls(plan: &Plan) -> impl Iterator<Item = &plan::Call> {
    plan.steps.iter().flat_map(|step| match &step.action {
        Action::Call(members) => {
            members.iter().flat_map(|m| std::iter::once(&m.call).chain(&m.confirm).chain(&m.compensate)).collect()
        }
        Action::Wait(_) => Vec::new(),
    })
}

struct Stage<'a> {
    plan: &'a Plan,
    known: Scope,
    setting: &'a Setting,
}

impl Stage<'_> {
    fn document(&self, document: &Document) -> Result<Value, Unplayable> {
        let mut value = serde_json::to_value(document).map_err(|error| Unplayable(error.to_string()))?;
        let root = object(&mut value)?;
        for key in ["input", "config", "deadline", "services", "retries", "finally", "invariants"] {
            root.remove(key);
        }
        if let Some(deadline) = self.setting.deadline.filter(|_| !awake(Bug::RehearsalDeadlineIgnored)) {
            root.insert("deadline".to_owned(), format!("{}ms", deadline.as_millis().max(1)).into());
        }
        if let Some(output) = root.get_mut("output") {
            *output = self.template(output);
        }
        for policies in root.get_mut("defaults").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
            let policies = object(policies)?;
            policies.retain(|key, _| key == "confirm" || key == "compensate");
            self.after(policies)?;
        }
        let steps = root.get_mut("steps").and_then(Value::as_object_mut);
        for (ix, step) in steps.into_iter().flat_map(Map::values_mut).enumerate() {
            self.step(ix, object(step)?)?;
        }
        Ok(value)
    }

    fn step(&self, ix: usize, step: &mut Map<String, Value>) -> Result<(), Unplayable> {
        self.when(step);
        if let (Some(list), Some(count)) = (&self.plan.steps[ix].foreach, self.setting.items.get(&ix)) {
            let items = list.items.value_assuming(&self.known, &|asked| self.assumed(asked));
            step.insert("foreach".to_owned(), format!("({items})[:{count}]").into());
        }
        if let Some(places) = self.setting.places.get(&ix) {
            step.insert("concurrency".to_owned(), (*places).into());
        }
        if let Some(wait) = step.get_mut("wait") {
            let wait = object(wait)?;
            let time = self.setting.waits.get(&ix).copied().unwrap_or(SHORT);
            for key in ["for", "timeout"] {
                if wait.contains_key(key) {
                    wait.insert(key.to_owned(), format!("{}s", time.as_secs()).into());
                }
            }
            if let Some(until) = wait.get("until").and_then(Value::as_str).map(str::to_owned) {
                let read = Expression::parse(&until).map_err(|error| Unplayable(error.message))?;
                let read = read.value_assuming(&self.known, &|asked| self.assumed(asked));
                let at = START.after(time);
                wait.insert("until".to_owned(), format!("'{at}' if [({read})] else ''").into());
            }
            return Ok(());
        }
        let Action::Call(members) = &self.plan.steps[ix].action else { return Ok(()) };
        self.member(step, &members[0])?;
        let fallbacks = step.get_mut("fallback").and_then(Value::as_array_mut);
        for (fallback, member) in fallbacks.into_iter().flatten().zip(&members[1..]) {
            let fallback = object(fallback)?;
            self.when(fallback);
            self.member(fallback, member)?;
        }
        Ok(())
    }

    fn member(&self, written: &mut Map<String, Value>, member: &plan::Member) -> Result<(), Unplayable> {
        let retry = &member.call.retry;
        let attempts = retry.attempts.clamp(1, crate::verify::sketch::ATTEMPTS_MAX);
        let mut policy = json!({ "attempts": attempts, "backoff": "fixed", "delay": "1s", "jitter": "none", "except": retry.except });
        if let Some(errors) = &retry.errors {
            policy["errors"] = json!(errors);
        }
        self.call(written, policy);
        self.after(written)
    }

    /// The calls that ask after a call, or undo it.
    fn after(&self, written: &mut Map<String, Value>) -> Result<(), Unplayable> {
        for key in ["confirm", "compensate"] {
            if let Some(call) = written.get_mut(key) {
                let call = object(call)?;
                if call.contains_key("uses") {
                    self.call(call, json!({ "attempts": 1 }));
                }
            }
        }
        Ok(())
    }

    fn call(&self, call: &mut Map<String, Value>, retry: Value) {
        call.remove("service");
        call.insert("timeout".to_owned(), TIMEOUT.into());
        call.insert("retry".to_owned(), retry);
        if let Some(with) = call.get_mut("with") {
            *with = self.template(with);
        }
    }

    fn when(&self, written: &mut Map<String, Value>) {
        if let Some(Value::String(text)) = written.get("when")
            && let Ok(condition) = Expression::parse(text)
        {
            let text = condition.assuming(&self.known, &|asked| self.assumed(asked));
            written.insert("when".to_owned(), text.into());
        }
    }

    fn template(&self, value: &Value) -> Value {
        Template::parse(value).0.assuming(&self.known, &|asked| self.assumed(asked))
    }

    fn assumed(&self, asked: &Asked) -> Option<bool> {
        self.setting.conditions.get(&asked.text).copied()
    }
}

fn object(value: &mut Value) -> Result<&mut Map<String, Value>, Unplayable> {
    value.as_object_mut().ok_or_else(|| Unplayable("a part of the workflow is no object".to_owned()))
}
