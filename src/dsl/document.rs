//! The workflow file as it was written: every key has a place here, and nothing has a meaning yet.
//!
//! The JSON Schema that editors use is generated from these types, so their doc comments are what a user reads
//! while typing. Values that a template may stand for are kept as they are; `plan` resolves them.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::setting::{Condition, Count, Duration, Factor};

/// A business process: a DAG of steps, each with its policies beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "flowrun workflow")]
pub struct Document {
    /// Version of the workflow language; this is version 1.
    #[schemars(range(min = 1, max = 1), example = 1)]
    pub flowrun: u32,
    /// Name of the workflow: lower-case letters, digits and hyphens.
    #[schemars(regex(pattern = "^[a-z][a-z0-9-]*$"), example = "ecommerce-order")]
    pub name: String,
    /// What the workflow does, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of the input, inline or as `{ $ref: FILE }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = serde_json::json!({ "$ref": "../schemas/order.schema.json" }))]
    pub input: Option<Map<String, Value>>,
    /// Default configuration, read by templates as `config.NAME`; `--config FILE` and `--set a.b=c` override it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// Names of the secrets that `with` may use as `secrets.NAME`; their values come from the environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Longest time a run may take; after it the run is undone and has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// Outside systems that steps share; their breakers are shared by every run in the store.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub services: IndexMap<String, Service>,
    /// Named retry policies, for `retry: { use: NAME }`.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub retries: IndexMap<String, Retry>,
    /// Policies of every call of a handler, unless the call says otherwise, key by key.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub defaults: IndexMap<String, Policies>,
    /// The steps, by name.
    #[schemars(extend("minProperties" = 1), extend("propertyNames" = { "pattern": "^[a-z][a-z0-9_]*$" }))]
    pub steps: IndexMap<String, Step>,
    /// Steps that run once at the end, in file order, whatever happened.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(extend("propertyNames" = { "pattern": "^[a-z][a-z0-9_]*$" }))]
    pub finally: IndexMap<String, Finally>,
    /// Statements that must hold for every possible run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invariants: Vec<Invariant>,
    /// The result of a completed run; templates may read every step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Map<String, Value>>,
}

/// An outside system that steps share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Stops calling the service for a while after repeated failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// How many calls may be under way at once, over all runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Count>,
}

/// When a service is left alone, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// How many failures open the breaker.
    pub failures: Count,
    /// The time in which they must have happened.
    pub within: Duration,
    /// How long the breaker stays open before it lets one probe through.
    pub cooldown: Duration,
}

/// When a failed call is tried again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// A policy of `retries` to start from; the keys beside it override it.
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub use_: Option<String>,
    /// How many attempts there are in all, the first included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 3)]
    pub attempts: Option<Count>,
    /// How the delay grows: `fixed`, `linear` (delay times n) or `exponential` (the default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// The first delay; 1s without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,
    /// What each exponential delay is multiplied with; 2 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<Factor>,
    /// The longest delay; 1m without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_delay: Option<Duration>,
    /// `full` (the default) spreads each delay between nothing and itself; `none` does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Jitter>,
    /// The only error codes that are tried again; without it, every retryable error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = ["payment.unavailable", "timeout"])]
    pub errors: Option<Vec<String>>,
    /// Error codes that are never tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except: Option<Vec<String>>,
    /// The time after the first attempt in which further ones may start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Duration>,
}

/// How the delay between attempts grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// Always `delay`.
    Fixed,
    /// `delay` times the number of the attempt that failed.
    Linear,
    /// `delay`, then each time `factor` times as long.
    #[default]
    Exponential,
}

/// How delays are spread, so that many runs do not knock at the same moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Exactly the computed delay.
    None,
    /// Anything between nothing and the computed delay.
    #[default]
    Full,
}

/// The policies of a call of a handler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policies {
    /// The service that is called: a name under `services`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The longest time of one attempt; 5m without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// When a failed attempt is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// The handler that is asked when the outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<Call>,
    /// The handler that undoes the step, or the reason why leaving its effect is harmless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensate: Option<Compensate>,
}

/// A call of a handler with its own policies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The handler that is called.
    pub uses: String,
    /// Its input; templates may read `output`, `error` and `key` besides what the step could read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<Value>,
    /// The service that is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The longest time of one attempt; 5m without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// When a failed attempt is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// How a step is undone: by a handler (`uses`), or not at all (`none`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["uses"], "not": { "required": ["none"] } }, { "required": ["none"], "maxProperties": 1 }]))]
pub struct Compensate {
    /// The handler that undoes the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<String>,
    /// Why leaving the effect is harmless; stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<String>,
    /// The undo's input; templates may read `output`, `error` and `key` besides what the step could read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<Value>,
    /// The service that is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The longest time of one attempt; 5m without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// When a failed undo is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// A step: exactly one of `uses` (a handler), `wait` or `workflow`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    extend("oneOf" = [{ "required": ["uses"] }, { "required": ["wait"] }, { "required": ["workflow"] }]),
    extend("dependentRequired" = {
        "service": ["uses"], "timeout": ["uses"], "retry": ["uses"], "confirm": ["uses"], "compensate": ["uses"],
        "fallback": ["uses"], "foreach": ["uses"], "as": ["foreach"], "concurrency": ["foreach"]
    })
)]
pub struct Step {
    /// What the step does, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Steps that must have ended before this one; those that its templates refer to are added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// An expression; the step is skipped when it is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
    /// What happens when every needed step was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_skip: Option<OnSkip>,
    /// What happens when the step has failed for good; `compensate` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// Marks the point of no return: once it has succeeded the run is never undone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pivot: bool,
    /// An expression that yields a list; the step runs once for each item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreach: Option<String>,
    /// The name of the item in templates; `item` without it.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[a-z][a-z0-9_]*$"))]
    pub as_: Option<String>,
    /// How many items run at once; 16 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Count>,
    /// The handler that is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<String>,
    /// The handler's input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<Value>,
    /// The service that is called: a name under `services`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The longest time of one attempt; 5m without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// When a failed attempt is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// The handler that is asked when the outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<Call>,
    /// The handler that undoes the step, or the reason why leaving its effect is harmless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensate: Option<Compensate>,
    /// Other ways to the same result, tried in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<Fallback>,
    /// Waits for a time or a signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// Another workflow, run inside this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
}

/// Another way to a step's result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// The member's name; shown as `via`.
    #[schemars(regex(pattern = "^[a-z][a-z0-9_]*$"))]
    pub name: String,
    /// The error codes after which it is tried; without it, every failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<String>>,
    /// An expression; the fallback is passed over when it is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
    /// The handler that is called.
    pub uses: String,
    /// Its input; templates may read `error`, that of the member tried before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<Value>,
    /// The service that is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The longest time of one attempt; 5m without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// When a failed attempt is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// The handler that is asked when the outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<Call>,
    /// The handler that undoes this member, or the reason why leaving its effect is harmless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensate: Option<Compensate>,
}

/// Waits for a time (`for`, `until`) or a signal (`signal` with `timeout` or `until`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    extend("oneOf" = [
        { "required": ["for"] },
        { "required": ["until"], "not": { "required": ["signal"] } },
        { "required": ["signal"], "not": { "required": ["timeout", "until"] } }
    ]),
    extend("dependentRequired" = { "timeout": ["signal"], "schema": ["signal"] })
)]
pub struct Wait {
    /// How long to wait.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub for_: Option<Duration>,
    /// An expression that yields the time to wait for, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The name of the signal to wait for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// How long to wait for the signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// JSON Schema of the signal's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Map<String, Value>>,
}

/// A step that runs once at the end of a run, whatever happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finally {
    /// What the step does, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The handler that is called.
    pub uses: String,
    /// Its input; templates may read `run.status`, `run.compensation` and `run.error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<Value>,
    /// The service that is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The longest time of one attempt; 5m without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// When a failed attempt is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// A statement that must hold for every possible run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Invariant {
    /// Facts joined by `and`, `or`, `not` that are never true together: effect names, undo names,
    /// `STEP.ok`, `STEP.failed`, `STEP.unknown`, `STEP.skipped`.
    #[schemars(example = "charged and not labelled and not refunded")]
    pub never: String,
}

/// What happens to a step all of whose needed steps were skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnSkip {
    /// It runs all the same.
    Run,
    /// It is skipped too.
    Skip,
}

/// What happens to the run when a step has failed for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The run fails and is undone.
    #[default]
    Compensate,
    /// The run goes on; the step's `error` can be read.
    Continue,
    /// Other branches go on; the run is parked when nothing else can.
    Park,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_false(value: &bool) -> bool {
    !*value
}
