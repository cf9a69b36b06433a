//! Taking runs in: the input is checked and the id decided before anything is written (SPEC 6.15, 6.16).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::driver::{Driver, Message};
use super::library::Workflow;
use super::{Engine, EngineError, InputError, secrets};
use crate::dsl::schema::unfit;
use crate::machine::event::RunStarted;
use crate::machine::state::RunState;
use crate::machine::{Input, Machine, key};
use crate::names::{RunKey, is_run_id};
use crate::payload::{DEPTH_MAX, Payload, dismantle, is_shallow};
use crate::store::journal::{LiveRow, StartRow};
use crate::teeth::{Bug, awake};

/// How many places of a bad input are named.
const INPUT_ERRORS_SHOWN: usize = 100;

/// What somebody wants run.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The workflow.
    pub workflow: Arc<Workflow>,
    /// Its input.
    pub input: Value,
    /// The id that the run is to have; one is made if absent.
    pub id: Option<String>,
}

/// Whether a run was known before it was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Known {
    /// It is new.
    New,
    /// It was under way, or unfinished in the store, and goes on.
    Attached,
    /// It is final.
    Final,
}

/// A run that was taken in.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// Its key.
    pub run: RunKey,
    /// Its id.
    pub id: String,
    /// Whether it was known before.
    pub known: Known,
}

impl Engine {
    /// Takes a run in. Once this returns the run is durable and under way.
    ///
    /// # Errors
    /// When the input, the id or the environment does not fit; nothing was written then.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, EngineError> {
        let Submission { workflow, input, id } = submission;
        if self.inner.stopping.load(Ordering::Acquire) {
            return Err(EngineError::Stopping);
        }
        id.as_deref().map_or(Ok(()), check_id)?;
        self.inner.library.keep(&workflow);
        let input = shallow(input)
            .map_err(|message| EngineError::Input(vec![InputError { pointer: String::new(), message }]))?;
        if let Some(id) = &id
            && let Some(run) = self.inner.journal.run_by_id(id)?
        {
            return self.attach(run, id.clone(), &workflow, &input).await;
        }
        check_input(&workflow, &input)?;
        let missing = secrets::missing(&workflow.plan, self.inner.executor.options.secrets.as_deref());
        if !missing.is_empty() {
            return Err(EngineError::Secrets(missing));
        }
        if let Some((_, message)) = self.inner.executor.obstacle(&workflow.plan) {
            return Err(EngineError::Definition(message));
        }

        let now = self.inner.executor.clock.now();
        let run = RunKey(new_key(now, self.inner.executor.options.seed.zip(id.as_deref())));
        let name = id.clone().unwrap_or_else(|| run.to_string());
        let started = RunStarted {
            id: name.clone(),
            workflow: workflow.plan.name.clone(),
            definition: workflow.fingerprint,
            input: input.clone(),
            salt: key::salt(self.inner.journal.store_id(), run),
            deadline: workflow.plan.deadline.map(|deadline| now.after(deadline)),
        };
        let row = StartRow {
            id: name.clone(),
            live: LiveRow { id: name.clone(), workflow: workflow.plan.name.clone(), started_at: now },
            definition: (workflow.fingerprint, Arc::clone(&workflow.pinned)),
        };
        let plan = Arc::clone(&workflow.plan);
        let (machine, entry) = Machine::accept(run, plan, self.inner.executor.options.limits.clone(), started, now);
        let (driver, running) = Driver::new(Arc::clone(&self.inner), machine);
        let (reply, begun) = oneshot::channel();
        let begin = Message::Operate(Input::Begin, reply);
        let running = self.drive((driver.starting(entry, row), running), Some(begin))?;
        match begun.await {
            Ok(result) => result.map(|()| Submitted { run, id: name, known: Known::New }),
            // The driver ended without an answer: the store failed, or somebody was faster with the same id.
            Err(_) => {
                let ended = self.after_the_end_of(running).await;
                match self.inner.journal.run_by_id(&name)? {
                    Some(other) if other != run => self.attach(other, name, &workflow, &input).await,
                    _ => {
                        ended?;
                        Err(EngineError::Bug(format!("run {name} was taken in but did not begin")))
                    }
                }
            }
        }
    }

    /// Goes on with a run that has the id already, if it is the same order.
    async fn attach(
        &self,
        run: RunKey,
        id: String,
        workflow: &Workflow,
        input: &Payload,
    ) -> Result<Submitted, EngineError> {
        let (_, state) = self.inner.library.state(run)?;
        if let Some(conflict) = differs(&state, workflow, input) {
            return Err(conflict);
        }
        if state.is_final() {
            return Ok(Submitted { run, id, known: Known::Final });
        }
        self.resume(run).await?;
        Ok(Submitted { run, id, known: Known::Attached })
    }
}

/// Refuses what cannot be the id of a run.
pub(crate) fn check_id(id: &str) -> Result<(), EngineError> {
    if is_run_id(id) {
        return Ok(());
    }
    let message = format!("the id `{id}` is not 1 to 128 of A-Z a-z 0-9 . _ -");
    Err(EngineError::Input(vec![InputError { pointer: String::new(), message }]))
}

/// Says what keeps an order from being the one that the run with its id was started for.
pub(crate) fn differs(state: &RunState, workflow: &Workflow, input: &Payload) -> Option<EngineError> {
    let differs = if state.started.workflow != workflow.plan.name {
        format!("it is a run of workflow `{}`", state.started.workflow)
    } else if state.started.input != *input && !awake(Bug::AttachIgnoresInput) {
        "it was started with another input".to_owned()
    } else if state.started.definition != workflow.fingerprint {
        "it was started with another version of the workflow or another configuration".to_owned()
    } else {
        return None;
    };
    let id = &state.started.id;
    let message = format!("the id `{id}` is taken: {differs}; see `flowrun show {id}`, or choose another id");
    Some(EngineError::Conflict { message })
}

impl Workflow {
    /// Checks what can be checked of a new run without a store: that its input fits, and that its secrets are there.
    ///
    /// # Errors
    /// What does not fit, or which secrets are missing.
    pub fn check_start(&self, input: &Payload) -> Result<(), EngineError> {
        check_input(self, input)?;
        let missing = secrets::missing(&self.plan, None);
        if missing.is_empty() { Ok(()) } else { Err(EngineError::Secrets(missing)) }
    }
}

/// Makes a payload of what a program passes in, which may be deeper than any reader would let through.
///
/// # Errors
/// That it is too deep.
pub(super) fn shallow(value: Value) -> Result<Payload, String> {
    if is_shallow(&value, DEPTH_MAX) {
        return Ok(Payload::of(value));
    }
    dismantle(value);
    Err(format!("it nests more than {DEPTH_MAX} levels deep"))
}

pub(crate) fn check_input(workflow: &Workflow, input: &Payload) -> Result<(), EngineError> {
    let Some(validator) = &workflow.input else { return Ok(()) };
    let error =
        |e: jsonschema::ValidationError<'_>| InputError { pointer: e.instance_path().to_string(), message: unfit(&e) };
    let mut all = validator.iter_errors(input.value());
    let mut errors: Vec<InputError> = all.by_ref().take(INPUT_ERRORS_SHOWN).map(error).collect();
    let more = all.count();
    if more > 0 {
        let message = format!("{more} more places do not fit");
        errors.push(InputError { pointer: String::new(), message });
    }
    if errors.is_empty() { Ok(()) } else { Err(EngineError::Input(errors)) }
}

/// Makes a key that rises with the time, which is the clock's and not the machine's. What is chance in it follows from
/// a seed and the run's id, if they are given.
fn new_key(now: crate::time::Timestamp, seed: Option<(u64, &str)>) -> Uuid {
    let millis = u64::try_from(now.0).unwrap_or(0);
    if let Some((seed, id)) = seed {
        let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(id).finalize();
        let chance = digest.first_chunk::<10>().expect("a digest has 32 bytes");
        return uuid::Builder::from_unix_timestamp_millis(millis, chance).into_uuid();
    }
    let seconds = millis / 1_000;
    let nanos = u32::try_from(millis % 1_000).unwrap_or(0) * 1_000_000;
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos))
}
