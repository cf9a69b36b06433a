//! Where journals are kept.
pub mod check;
#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
pub(crate) mod fault;
pub mod format;
mod guard;
mod held;
pub mod journal;
#[cfg(test)]
mod measure;
pub mod memory;
pub mod open;
#[cfg(test)]
mod open_tests;
mod pace;
mod queue;
pub mod redb;
mod tables;
mod writer;
