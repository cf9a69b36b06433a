//! What is said between the parts of a run on a cluster, and between a program and the workers.

use serde::{Deserialize, Serialize};

use crate::definition::Definition;
use crate::engine::executor::AttemptEnd;
use crate::engine::{EngineError, Known};
use crate::failure::Failure;
use crate::machine::policy::breaker::{Admission, Health};
use crate::machine::state::CallIx;
use crate::names::{RunKey, StepName};
use crate::payload::Payload;
use crate::plan::Service;
use crate::time::Timestamp;

/// The version of this language. Workers and programs of different versions do not talk.
pub(super) const VERSION: u32 = 1;

/// The virtual object that is a run; its key is the run's id.
pub(super) const RUN: &str = "flowrun.Run";
/// The service that carries attempts out.
pub(super) const ATTEMPT: &str = "flowrun.Attempt";
/// The virtual object that is an outside system with its breaker and places; its key is the service's name.
pub(super) const SERVICE: &str = "flowrun.Service";
/// The virtual object that is a pinned definition; its key is the fingerprint.
pub(super) const DEFINITION: &str = "flowrun.Definition";
/// The service that reads runs.
pub(super) const STORE: &str = "flowrun.Store";

/// A run to be taken in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Submit {
    /// The version of the language.
    pub(super) flowrun: u32,
    /// The run's key, if its id was made of one.
    pub(super) run: Option<RunKey>,
    /// Its definition.
    pub(super) definition: Box<Definition>,
    /// Its input.
    pub(super) input: Payload,
}

/// What became of a run that was handed in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Taken {
    /// Whether it was known.
    pub(super) known: Known,
}

/// A message to a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// A time that was asked for has come.
    Wake,
    /// Somebody wants something.
    Wish(Wish),
    /// A service answers a call that wanted to pass.
    Admission { call: CallIx, answer: Admission },
    /// An attempt ended.
    Ended { call: CallIx, attempt: u32, serial: u64, end: AttemptEnd },
    /// An attempt was begun, and whoever did it is gone.
    Lost {
        call: CallIx,
        attempt: u32,
        serial: u64,
        /// The worker that had begun it.
        worker: u64,
        /// Whether it is another than the one that found out, and so may have died.
        died: bool,
    },
}

/// Something that a person wants of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Wish {
    Signal { id: Option<String>, name: String, data: Payload },
    Cancel { reason: Option<String>, compensate: bool },
    Retry { from: Option<StepName> },
    Compensate,
    MarkDone { step: StepName, item: Option<u32>, reason: String },
}

/// What a run or a worker says to a wish or a question.
pub(super) type Reply<T> = Result<T, EngineError>;

/// An attempt to be carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) run: String,
    pub(super) run_started_at: Timestamp,
    pub(super) definition: [u8; 32],
    pub(super) salt: [u8; 32],
    pub(super) call: CallIx,
    pub(super) attempt: u32,
    pub(super) serial: u64,
    pub(super) until: Timestamp,
    pub(super) input: Payload,
    pub(super) key: String,
    pub(super) previous: Option<Failure>,
}

/// A message to a service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum ToService {
    /// A call of a run wants to pass.
    Admit { policy: Service, run: String, call: CallIx },
    /// A call that was let in ended.
    Leave { policy: Service, probe: bool, health: Health },
}
