//! Test files, as written: every key has a place here, and nothing has a meaning yet.
//!
//! The JSON Schema that editors use is generated from these types, so their doc comments are what a user reads while
//! typing.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::story::{FlawKind, Story};
use crate::dsl::schema::schema_of;
use crate::faults::Faults;
use crate::handlers::Duration;

/// Returns the JSON Schema of test files.
#[must_use]
pub fn test_schema() -> Value {
    schema_of::<TestFile>()
}

/// Scenarios of one workflow: what happens to a run, and how it must end.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "flowrun test")]
pub struct TestFile {
    /// Version of test files; this is version 1.
    #[schemars(range(min = 1, max = 1), example = 1)]
    #[expect(dead_code, reason = "the schema has checked it")]
    pub flowrun_test: u32,
    /// The workflow, by its path from this file.
    #[schemars(example = "../ecommerce-order.yaml")]
    pub workflow: String,
    /// What all scenarios start from.
    #[serde(default)]
    pub base: Base,
    /// The scenarios, by name.
    pub scenarios: IndexMap<String, Scenario>,
}

/// What a scenario starts from: input, configuration, and how the world of the handlers is set up.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Base(pub Map<String, Value>);

impl JsonSchema for Base {
    fn schema_name() -> Cow<'static, str> {
        "Base".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What a scenario starts from. Keys besides `input`, `config` and `seed` are for the handlers, e.g. `stock`.",
            "type": "object",
            "properties": {
                "input": { "description": "The input of the run, or `{ file: PATH }` from this file." },
                "config": { "description": "Overrides of the workflow's configuration.", "type": "object" },
                "seed": { "description": "What jitter and keys follow from; 0 without it.", "type": "integer", "minimum": 0 }
            },
            "additionalProperties": true
        })
    }
}

/// What happens to a run, and how it must end.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a sentence.
    #[serde(default)]
    pub description: Option<String>,
    /// Another scenario to start from: keys given here replace its keys, and `change` is laid over its `change`.
    #[serde(default)]
    pub like: Option<String>,
    /// A JSON merge patch over `base`: what is `null` here is left out.
    #[serde(default)]
    pub change: Map<String, Value>,
    /// Faults to inject; the first that fits a call is carried out.
    #[serde(default)]
    pub faults: Option<Faults>,
    /// Several runs at once instead of one.
    #[serde(default)]
    pub runs: Option<Runs>,
    /// What somebody does when a step or the run has come so far; each once in every run.
    #[serde(default)]
    pub then: Option<Vec<Action>>,
    /// One course of the run in which no handler is called and each is played, in place of `faults`, `runs` and `then`.
    #[serde(default)]
    pub story: Option<Story>,
    /// How it must end. Objects match as subsets, scalars and lists exactly.
    #[serde(default)]
    pub expect: Option<Expect>,
    /// Whether it is repeated with a crash at every commit and inside every attempt, each of which must end the same.
    #[serde(default)]
    pub crash: Option<Crash>,
}

/// Where a scenario is crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Crash {
    /// Just before and just after every commit, and before and after the handler acted in every attempt.
    Everywhere,
}

/// Several runs of the same workflow in the same store.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Runs {
    /// How many.
    #[schemars(range(min = 1, max = 1000))]
    pub count: u32,
    /// A JSON merge patch over the input of each; templates in it may use `index`, from 0.
    #[serde(default)]
    #[schemars(example = serde_json::json!({ "orderId": "ORD-{{ index }}" }))]
    pub input: Map<String, Value>,
    /// The time from the start of one run to that of the next; all at once without it.
    #[serde(default)]
    pub every: Option<Duration>,
}

/// What somebody does, and when.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// The status of a step or of the run that it waits for: `settled.waiting`, `run.parked`.
    #[schemars(example = "settled.waiting")]
    pub when: String,
    /// How long after that; at once without it.
    #[serde(default)]
    pub after: Option<Duration>,
    /// Only in the run with this index, from 0.
    #[serde(default)]
    pub run: Option<u32>,
    /// Sends this signal.
    #[serde(default)]
    pub signal: Option<String>,
    /// The data of the signal.
    #[serde(default)]
    pub data: Option<Value>,
    /// The id of the signal, by which a repeated one is known.
    #[serde(default)]
    pub id: Option<String>,
    /// Cancels the run: `true`, or the reason.
    #[serde(default)]
    #[schemars(schema_with = "true_or_text")]
    pub cancel: Option<Value>,
    /// With `cancel`, whether what was done is undone; alone, `true` tries again what a final run left undone.
    #[serde(default)]
    pub compensate: Option<bool>,
    /// The process dies; the next one resumes.
    #[serde(default)]
    #[schemars(schema_with = "only_true")]
    pub kill: Option<bool>,
    /// The process is stopped in order; the next one resumes.
    #[serde(default)]
    #[schemars(schema_with = "only_true")]
    pub resume: Option<bool>,
    /// With `kill` and `resume`: how long it takes until the next process starts.
    #[serde(default)]
    pub down: Option<Duration>,
    /// Lets a parked run go on: `true`, or the only step to be tried again.
    #[serde(default)]
    #[schemars(schema_with = "true_or_text")]
    pub retry: Option<Value>,
    /// Records that a person repaired what an undo could not.
    #[serde(default)]
    pub mark_done: Option<MarkDone>,
}

fn true_or_text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["boolean", "string"], "not": { "const": false } })
}

fn only_true(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": [true] })
}

/// A repair by hand.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MarkDone {
    /// The step that owed an undo.
    pub step: String,
    /// The index of the item, in a step with `foreach`.
    #[serde(default)]
    pub item: Option<u32>,
    /// What the person did.
    pub reason: String,
}

/// How a scenario must end.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The status of every run.
    #[serde(default)]
    pub status: Option<RunStatus>,
    /// What became of every run's undos.
    #[serde(default)]
    pub compensation: Option<Undos>,
    /// The exit code of `flowrun exec`.
    #[serde(default)]
    pub exit: Option<u8>,
    /// The output of every run; `null` if there is none.
    #[serde(default, deserialize_with = "present")]
    pub output: Option<Value>,
    /// The error of every run, with `code`, `kind`, `message`, `step`; `null` if there is none.
    #[serde(default, deserialize_with = "present")]
    pub error: Option<Value>,
    /// What became of steps.
    #[serde(default)]
    pub steps: IndexMap<String, StepExpect>,
    /// The steps that were undone, in this order.
    #[serde(default)]
    pub undone: Option<Vec<String>>,
    /// How often each effect is in the ledger.
    #[serde(default)]
    pub ledger: IndexMap<String, u64>,
    /// How often each handler was called, calls that a fault stood in for included; not compared after a crash.
    #[serde(default)]
    pub calls: IndexMap<String, u64>,
    /// Of a `story`, what `flowrun verify` would call a violation; `[]` if there must be none.
    #[serde(default)]
    pub flaws: Option<Vec<FlawKind>>,
    /// How many of several runs ended with each status.
    #[serde(default)]
    pub runs: Option<RunsExpect>,
    /// Expressions that must hold, over `run`, `runs`, `output`, `steps`, `ledger` and `calls`.
    #[serde(default)]
    #[schemars(example = serde_json::json!(["ledger.charged == 1"]))]
    pub check: Vec<String>,
}

/// The status of a run; `refused` if it was not taken in because its input does not fit the workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    Running,
    Waiting,
    Parked,
    Completed,
    Failed,
    Cancelled,
    Refused,
}

/// What became of undos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Undos {
    NoneNeeded,
    Complete,
    Incomplete,
}

/// What became of a step.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepExpect {
    /// Its status.
    #[serde(default)]
    pub status: Option<StepStatus>,
    /// The member by which it succeeded: `primary`, or the name of a fallback.
    #[serde(default, deserialize_with = "present")]
    pub via: Option<Value>,
    /// How many times a handler was called to do it; not compared after a crash.
    #[serde(default)]
    pub attempts: Option<u32>,
    /// Its error; `null` if there is none.
    #[serde(default, deserialize_with = "present")]
    pub error: Option<Value>,
}

/// The status of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    Pending,
    Running,
    BackingOff,
    Waiting,
    Succeeded,
    Failed,
    Unknown,
    Skipped,
    Compensating,
    Compensated,
    CompensationFailed,
}

/// How many runs ended with each status.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunsExpect {
    #[serde(default)]
    pub running: Option<u64>,
    #[serde(default)]
    pub waiting: Option<u64>,
    #[serde(default)]
    pub parked: Option<u64>,
    #[serde(default)]
    pub completed: Option<u64>,
    #[serde(default)]
    pub failed: Option<u64>,
    #[serde(default)]
    pub cancelled: Option<u64>,
    #[serde(default)]
    pub refused: Option<u64>,
}

impl RunStatus {
    /// The statuses in words.
    pub const WORDS: [&str; 7] = ["running", "waiting", "parked", "completed", "failed", "cancelled", "refused"];

    /// Returns the status in a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

impl Undos {
    /// Returns it in a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NoneNeeded => "none_needed",
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
        }
    }
}

impl StepStatus {
    /// The statuses in words.
    pub const WORDS: [&str; 11] = [
        "pending",
        "running",
        "backing_off",
        "waiting",
        "succeeded",
        "failed",
        "unknown",
        "skipped",
        "compensating",
        "compensated",
        "compensation_failed",
    ];

    /// Returns the status in a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

impl RunsExpect {
    /// Returns each status with its number, as far as it is given.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let numbers =
            [self.running, self.waiting, self.parked, self.completed, self.failed, self.cancelled, self.refused];
        RunStatus::WORDS.into_iter().zip(numbers).filter_map(|(word, number)| Some((word, number?)))
    }
}

impl Expect {
    /// Tells whether nothing is expected at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { status, compensation, exit, output, error, steps, undone, ledger, calls, flaws, runs, check } = self;
        status.is_none()
            && compensation.is_none()
            && exit.is_none()
            && output.is_none()
            && error.is_none()
            && steps.is_empty()
            && undone.is_none()
            && ledger.is_empty()
            && calls.is_empty()
            && flaws.is_none()
            && runs.as_ref().is_none_or(|r| r.iter().next().is_none())
            && check.is_empty()
    }
}

/// Reads a key so that `null` is a value, and not the same as its absence.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
