//! What a handler is given besides its input: which call it is, its state, and the world it was built for.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::names::StepName;
use crate::time::{Clock, Timestamp};

/// The call that a handler is asked to do.
///
/// A handler asks it for the time and waits through it, never by the machine's clock: tests run in virtual time.
#[derive(Clone)]
#[non_exhaustive]
pub struct StepCtx {
    /// The run's id.
    pub run_id: Arc<str>,
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// The step.
    pub step: StepName,
    /// The index of the item in a `foreach`, from 0.
    pub item: Option<u32>,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The idempotency key: the same in all attempts of this call, whatever happens in between.
    pub key: Arc<str>,
    /// When the attempt times out.
    pub deadline: Timestamp,
    /// Is cancelled when the run stops going forward; whoever can end early should.
    pub cancellation: CancellationToken,
    /// What the attempt before reported.
    pub previous_error: Option<Failure>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Blocking handlers are waited for on the spot, for at most so long: tests want the same order every time.
    pub(crate) lockstep: Option<Duration>,
}

impl StepCtx {
    /// Returns the context of a first attempt, with an hour to go; change its fields as needed.
    ///
    /// The engine and tests of handlers make contexts; handlers get them.
    #[must_use]
    pub fn new(step: &str, key: &str, clock: Arc<dyn Clock>) -> Self {
        Self {
            run_id: "test".into(),
            workflow: "test".into(),
            step: step.into(),
            item: None,
            attempt: 1,
            key: key.into(),
            deadline: clock.now().after(Duration::from_secs(3600)),
            cancellation: CancellationToken::new(),
            previous_error: None,
            clock,
            lockstep: None,
        }
    }

    /// Returns the present time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns how long the attempt may still take.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline.since(self.clock.now())
    }

    /// Tells whether the run has stopped going forward.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    /// Waits for `time`.
    pub async fn sleep(&self, time: Duration) {
        self.clock.sleep_until(self.now().after(time)).await;
    }
}

impl std::fmt::Debug for StepCtx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepCtx")
            .field("run_id", &self.run_id)
            .field("step", &self.step)
            .field("item", &self.item)
            .field("attempt", &self.attempt)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// A value that handlers share, such as the client of a service; an argument between the context and the input.
#[derive(Debug)]
pub struct State<T>(pub Arc<T>);

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// What the state of handlers is built for: the folder of a store, or a test.
#[derive(Clone)]
pub struct World {
    /// The store's folder; absent when everything is kept in memory.
    pub dir: Option<PathBuf>,
    /// Whether other processes have the same folder at the same time, as the workers of a cluster may.
    pub shared: bool,
    /// What a test scenario sets up besides its input, e.g. `stock`.
    pub setup: Map<String, Value>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

impl World {
    /// Returns a world that is kept in memory.
    #[must_use]
    pub fn in_memory(clock: Arc<dyn Clock>) -> Self {
        Self { dir: None, shared: false, setup: Map::new(), clock }
    }
}

/// The states that were built for a world, by type.
#[derive(Clone, Default)]
pub struct States(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl States {
    pub(super) fn insert(&mut self, id: TypeId, state: Arc<dyn Any + Send + Sync>) {
        self.0.insert(id, state);
    }

    pub(super) fn get<T: Send + Sync + 'static>(&self) -> Option<State<T>> {
        let state = Arc::clone(self.0.get(&TypeId::of::<T>())?);
        state.downcast().ok().map(State)
    }
}
