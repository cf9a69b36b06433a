//! Runs on a cluster: the same machine, plans and handlers on Restate instead of redb.
//!
//! A run is a virtual object, and each turn of it one invocation: the object's state holds the run's records, as the
//! journal does elsewhere, and a message (an attempt ended, a time has come, somebody wants something) is decided on by the
//! machine, recorded, and answered with messages to others. Restate gives what makes that durable: one turn of a run at a
//! time, messages and timers that arrive exactly once, and a worker that goes on where another one died. It decides
//! nothing about a run.

mod client;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod golden;
mod journal;
mod life;
#[cfg(test)]
mod life_tests;
mod message;
mod reading;
pub(crate) mod worker;

pub(crate) use client::{Cluster, ClusterError};
pub(crate) use journal::ClusterJournal;
pub(crate) use message::Wish;
