//! Where journals are kept.
#[cfg(test)]
pub(crate) mod conformance;
pub mod format;
mod guard;
mod held;
pub mod journal;
pub mod memory;
pub mod open;
mod pace;
mod queue;
pub mod redb;
mod tables;
mod writer;
