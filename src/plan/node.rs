//! The plan: a workflow with every name resolved, every policy complete, and its steps in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use petgraph::graph::DiGraph;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::dsl::document::{Backoff, Jitter, OnError, OnSkip};
use crate::handlers::contract::Contract;
use crate::names::{Code, HandlerName, MemberName, ServiceName, StepName};
use crate::template::{Expression, Template};

/// The index of a step in its plan, which is its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StepIx(pub u32);

/// A workflow that can be run.
#[derive(Debug)]
pub struct Plan {
    /// The workflow's name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// The steps in file order.
    pub steps: Vec<Step>,
    /// The steps by name.
    pub index: HashMap<StepName, StepIx>,
    /// Which step waits for which: an edge leads from the needed step to the one that needs it.
    pub graph: DiGraph<StepIx, ()>,
    /// The steps in an order that respects `needs`, and the file's where it is free to.
    pub order: Vec<StepIx>,
    /// The steps that run at the end, in file order.
    pub finally: Vec<FinallyStep>,
    /// The outside systems.
    pub services: IndexMap<ServiceName, Service>,
    /// The longest time a run may take.
    pub deadline: Option<Duration>,
    /// The effective configuration.
    pub config: Arc<Value>,
    /// The names of the secrets that templates may use.
    pub secrets: Vec<String>,
    /// JSON Schema of the input.
    pub input_schema: Option<Arc<Value>>,
    /// What a completed run returns.
    pub output: Option<Template>,
}

impl Plan {
    /// Returns the step at `ix`.
    #[must_use]
    pub fn step(&self, ix: StepIx) -> &Step {
        &self.steps[ix.0 as usize]
    }

    /// Returns the names of all handlers that the plan calls, some more than once.
    pub fn handlers(&self) -> impl Iterator<Item = &HandlerName> {
        let members = self.steps.iter().flat_map(|step| match &step.action {
            Action::Call(members) => members.as_slice(),
            Action::Wait(_) => &[],
        });
        let calls = members.flat_map(|m| std::iter::once(&m.call).chain(&m.confirm).chain(&m.compensate));
        calls.chain(self.finally.iter().map(|f| &f.call)).map(|call| &call.handler)
    }

    /// Returns the service that has a say in whether a call may begin: one with a breaker, or with counted places.
    #[must_use]
    pub fn guard_of<'a>(&self, call: &'a Call) -> Option<&'a ServiceName> {
        let name = call.service.as_ref()?;
        let service = self.services.get(name)?;
        (service.breaker.is_some() || service.concurrency.is_some()).then_some(name)
    }

    /// Returns the index of the step called `name`.
    #[must_use]
    pub fn find(&self, name: &StepName) -> Option<StepIx> {
        self.index.get(name).copied()
    }
}

/// A step.
#[derive(Debug)]
pub struct Step {
    /// Its name.
    pub name: StepName,
    /// What it does.
    pub description: Option<String>,
    /// The steps that must have ended before it: those it names and those its templates refer to, in file order.
    pub needs: Vec<StepIx>,
    /// The steps that need it, in file order.
    pub dependents: Vec<StepIx>,
    /// It is skipped when this is false.
    pub when: Option<Expression>,
    /// What happens when all it needs was skipped.
    pub on_skip: Option<OnSkip>,
    /// What happens when it has failed for good.
    pub on_error: OnError,
    /// Whether it is the point of no return.
    pub pivot: bool,
    /// Whether and how it runs once per item.
    pub foreach: Option<Foreach>,
    /// What it does.
    pub action: Action,
}

/// How a step runs once per item.
#[derive(Debug)]
pub struct Foreach {
    /// Yields the list of items.
    pub items: Expression,
    /// The item's name in templates.
    pub var: String,
    /// How many items run at once.
    pub concurrency: u32,
}

/// What a step does.
#[derive(Debug)]
pub enum Action {
    /// Calls a handler, or one of its fallbacks; the first member is the step's own call.
    Call(Vec<Member>),
    /// Waits.
    Wait(Wait),
}

/// One of the ways to a step's result.
#[derive(Debug)]
pub struct Member {
    /// `primary`, or the fallback's name.
    pub name: MemberName,
    /// The codes after which a fallback is tried; every one if absent.
    pub errors: Option<Vec<Code>>,
    /// A fallback is passed over when this is false.
    pub when: Option<Expression>,
    /// The call.
    pub call: Call,
    /// The call that asks whether it was done.
    pub confirm: Option<Call>,
    /// The call that undoes it; absent for `compensate: { none: .. }` too.
    pub compensate: Option<Call>,
}

/// A call of a handler with its complete policies.
#[derive(Debug)]
pub struct Call {
    /// The handler.
    pub handler: HandlerName,
    /// What the handler declares; absent when no handler of that name is registered, which a run that was started
    /// by another binary may meet.
    pub contract: Option<Arc<Contract>>,
    /// Its input.
    pub with: Template,
    /// The service it calls.
    pub service: Option<ServiceName>,
    /// The longest time of one attempt.
    pub timeout: Duration,
    /// When a failed attempt is repeated.
    pub retry: Retry,
}

impl Call {
    /// Tells whether an attempt without a clear answer may be repeated with the same key.
    #[must_use]
    pub fn repeatable(&self) -> bool {
        self.contract.as_ref().is_some_and(|c| c.repeatable())
    }
}

/// When a failed attempt is repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// How many attempts there are in all.
    pub attempts: u32,
    /// How the delay grows.
    pub backoff: Backoff,
    /// The first delay.
    pub delay: Duration,
    /// What an exponential delay is multiplied with.
    pub factor: f64,
    /// The longest delay.
    pub max_delay: Duration,
    /// How delays are spread.
    pub jitter: Jitter,
    /// The only codes that are tried again.
    pub errors: Option<Vec<Code>>,
    /// Codes that are never tried again.
    pub except: Vec<Code>,
    /// The time after the first attempt in which further ones may start.
    pub within: Option<Duration>,
}

impl Default for Retry {
    /// One attempt, and the delays of SPEC section 2 should a policy ask for more.
    fn default() -> Self {
        Self {
            attempts: 1,
            backoff: Backoff::Exponential,
            delay: Duration::from_secs(1),
            factor: 2.0,
            max_delay: Duration::from_secs(60),
            jitter: Jitter::Full,
            errors: None,
            except: Vec::new(),
            within: None,
        }
    }
}

/// What a step waits for.
#[derive(Debug)]
pub enum Wait {
    /// For some time.
    For(Duration),
    /// Until a time, which the expression yields in RFC 3339.
    Until(Expression),
    /// For a signal.
    Signal {
        /// Its name.
        name: String,
        /// How long.
        limit: WaitLimit,
        /// JSON Schema of its data.
        schema: Option<Arc<Value>>,
    },
}

/// How long a signal is waited for.
#[derive(Debug)]
pub enum WaitLimit {
    /// For ever.
    None,
    /// For some time.
    For(Duration),
    /// Until a time, which the expression yields in RFC 3339.
    Until(Expression),
}

/// A step that runs at the end.
#[derive(Debug)]
pub struct FinallyStep {
    /// Its name.
    pub name: StepName,
    /// The call.
    pub call: Call,
}

/// An outside system that steps share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// When it is left alone.
    pub breaker: Option<Breaker>,
    /// How many calls may be under way at once.
    pub concurrency: Option<u32>,
}

/// When a service is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// How many failures open it.
    pub failures: u32,
    /// The time in which they must have happened.
    pub within: Duration,
    /// How long it stays open before it lets a probe through.
    pub cooldown: Duration,
}
