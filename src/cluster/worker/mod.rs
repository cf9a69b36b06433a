//! A worker: what Restate calls when a run has its turn, when an attempt is to be carried out, or when somebody asks.
//!
//! Everything that a handler here decides by comes from its message, from recorded state, or from a recorded `run`: Restate
//! calls it again after a death and must see the same commands. What is fetched aside (definitions, records) never changes
//! once it is there.

mod attempt;
mod definition;
mod hall;
mod run;
mod serve;
mod service;
mod source;
mod store;

#[cfg(test)]
pub(crate) use hall::{Doing, Onlooker};
pub(crate) use serve::{ServeError, Serving, serve};
#[cfg(test)]
pub(super) use source::Source;
