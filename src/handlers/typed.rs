//! Makes handlers of ordinary functions: reads the input, finds the states, writes the output.
//!
//! A function qualifies if it takes a [`StepCtx`], up to four [`State`]s and an input, and returns a `Result`, at once
//! or as a future. One that returns at once may block: it runs off the async threads.

use std::any::{Any, TypeId, type_name};
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::context::{State, States, StepCtx};
use super::outcome::{BAD_INPUT, BAD_OUTPUT, Confirmation, OTHER_ERROR, Reply, StepError};
use super::schema;
use crate::payload::Payload;

/// A handler's answer to come.
pub type Replying = Pin<Box<dyn Future<Output = Result<Reply, StepError>> + Send>>;

/// A function that can be registered as a handler; implemented for every function of a fitting shape.
///
/// `M` tells the shapes apart and is inferred.
#[diagnostic::on_unimplemented(
    message = "this is not a handler",
    note = "a handler is a function of (StepCtx, State<A>, .., Input) that returns Result<Output, StepError>, at once or as a future",
    note = "Input must implement Deserialize and JsonSchema, Output Serialize and JsonSchema; a handler for `confirm` returns Confirmation<Output>",
    note = "a future must be Send"
)]
pub trait HandlerFn<M>: Send + Sync + 'static {
    /// Forgets the function's types.
    fn erase(self) -> Erased;
}

/// What a handler may return: a value, or a [`Confirmation`] of one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the output of a handler",
    note = "it must implement serde's Serialize and schemars' JsonSchema, or be a Confirmation of such a type"
)]
pub trait HandlerOutput: Send + 'static {
    /// Whether the handler answers for `confirm`.
    const CONFIRMS: bool;

    /// Returns the schema of the value.
    fn schema() -> Value;

    /// Writes the value down.
    ///
    /// # Errors
    /// When the value cannot be written as JSON.
    fn into_reply(self) -> Result<Reply, StepError>;
}

impl<T: Serialize + JsonSchema + Send + 'static> HandlerOutput for T {
    const CONFIRMS: bool = false;

    fn schema() -> Value {
        schema::of_output::<T>()
    }

    fn into_reply(self) -> Result<Reply, StepError> {
        written(self).map(Reply::Output)
    }
}

impl<T: Serialize + JsonSchema + Send + 'static> HandlerOutput for Confirmation<T> {
    const CONFIRMS: bool = true;

    fn schema() -> Value {
        schema::of_output::<T>()
    }

    fn into_reply(self) -> Result<Reply, StepError> {
        Ok(Reply::Confirmation(match self {
            Self::Done(value) => Confirmation::Done(written(value)?),
            Self::NotDone => Confirmation::NotDone,
            Self::Unknown => Confirmation::Unknown,
        }))
    }
}

/// The one time that an output is serialised: the text goes to the journal as it is.
fn written<T: Serialize + 'static>(value: T) -> Result<Payload, StepError> {
    Payload::write(value)
        .map_err(|e| StepError::unknown(BAD_OUTPUT, format!("the output cannot be written as JSON: {e}")))
}

/// Reads an input; its texts are moved and not copied, and one that is wanted as a tree is that already.
fn read<T: DeserializeOwned + 'static>(input: Value) -> Result<T, StepError> {
    let mut input = Some(input);
    let mut tree: Option<T> = None;
    if let Some(tree) = (&mut tree as &mut dyn Any).downcast_mut::<Option<Value>>() {
        *tree = input.take();
    }
    match (tree, input) {
        (Some(tree), _) => Ok(tree),
        (None, input) => {
            T::deserialize(input.unwrap_or_default()).map_err(|e| StepError::permanent(BAD_INPUT, e.to_string()))
        }
    }
}

/// A handler without its types.
pub struct Erased {
    pub(super) states: Vec<StateType>,
    pub(super) input: Value,
    pub(super) output: Value,
    pub(super) confirms: bool,
    pub(super) call: Box<AnyCall>,
}

type AnyCall = dyn Fn(&States, StepCtx, Value) -> Replying + Send + Sync;

/// A type of state that a handler asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateType {
    pub(super) id: TypeId,
    pub(super) name: &'static str,
}

impl StateType {
    pub(super) fn of<T: 'static>() -> Self {
        Self { id: TypeId::of::<T>(), name: type_name::<T>() }
    }
}

/// Marks functions that return a future.
#[derive(Debug)]
pub struct Async;

/// Marks functions that return at once.
#[derive(Debug)]
pub struct Blocking;

macro_rules! handlers {
    ($($state:ident),*) => {
        #[allow(non_snake_case, reason = "the names of the types serve as names of the values")]
        impl<F, Fut, I, O, E, $($state,)*> HandlerFn<(Async, I, $($state,)*)> for F
        where
            F: Fn(StepCtx, $(State<$state>,)* I) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<O, E>> + Send + 'static,
            I: DeserializeOwned + JsonSchema + Send + 'static,
            O: HandlerOutput,
            E: Into<StepError> + 'static,
            $($state: Send + Sync + 'static,)*
        {
            fn erase(self) -> Erased {
                let f = Arc::new(self);
                Erased {
                    states: vec![$(StateType::of::<$state>()),*],
                    input: schema::of_input::<I>(),
                    output: O::schema(),
                    confirms: O::CONFIRMS,
                    call: Box::new(move |states, ctx, input| {
                        let _ = states;
                        $(let $state = states.get::<$state>().expect("handlers are built with every state they need");)*
                        let f = Arc::clone(&f);
                        let input = read::<I>(input);
                        Box::pin(async move { f(ctx, $($state,)* input?).await.map_err(Into::into)?.into_reply() })
                    }),
                }
            }
        }

        #[allow(non_snake_case, reason = "the names of the types serve as names of the values")]
        impl<F, I, O, E, $($state,)*> HandlerFn<(Blocking, I, $($state,)*)> for F
        where
            F: Fn(StepCtx, $(State<$state>,)* I) -> Result<O, E> + Send + Sync + 'static,
            I: DeserializeOwned + JsonSchema + Send + 'static,
            O: HandlerOutput,
            E: Into<StepError> + 'static,
            $($state: Send + Sync + 'static,)*
        {
            fn erase(self) -> Erased {
                let f = Arc::new(self);
                Erased {
                    states: vec![$(StateType::of::<$state>()),*],
                    input: schema::of_input::<I>(),
                    output: O::schema(),
                    confirms: O::CONFIRMS,
                    call: Box::new(move |states, ctx, input| {
                        let _ = states;
                        $(let $state = states.get::<$state>().expect("handlers are built with every state they need");)*
                        let f = Arc::clone(&f);
                        let input = read::<I>(input);
                        Box::pin(async move {
                            let input = input?;
                            let lockstep = ctx.lockstep;
                            off_the_async_threads(lockstep, move || f(ctx, $($state,)* input).map_err(Into::into)?.into_reply()).await
                        })
                    }),
                }
            }
        }
    };
}

handlers!();
handlers!(A);
handlers!(A, B);
handlers!(A, B, C);
handlers!(A, B, C, D);

/// Does the work of a blocking handler on a thread of its own.
///
/// In lockstep everything else stands still until it is done, so that what follows has the same order every time; work
/// that takes longer than the given real time is given up on, and never heard of again.
async fn off_the_async_threads(
    lockstep: Option<std::time::Duration>,
    work: impl FnOnce() -> Result<Reply, StepError> + Send + 'static,
) -> Result<Reply, StepError> {
    let task = match lockstep {
        None => tokio::task::spawn_blocking(work),
        Some(patience) => {
            let (tell, told) = std::sync::mpsc::channel();
            let task = tokio::task::spawn_blocking(move || {
                // An error says that nobody listens any more.
                let _ = tell.send(work());
                Err(StepError::unknown(OTHER_ERROR, "the answer was given already"))
            });
            match told.recv_timeout(patience) {
                Ok(reply) => return reply,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => std::future::pending().await,
                // It panicked; the task says how.
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => task,
            }
        }
    };
    match task.await {
        Ok(reply) => reply,
        Err(e) if e.is_panic() => resume_unwind(e.into_panic()),
        Err(e) => Err(StepError::unknown(OTHER_ERROR, format!("the handler was not run to its end: {e}"))),
    }
}
