//! Where journals are kept.
pub mod check;
pub mod compact;
#[cfg(test)]
pub(crate) mod conformance;
pub mod copy;
#[cfg(test)]
mod db_tests;
#[cfg(test)]
pub(crate) mod fault;
pub mod format;
mod ground;
mod guard;
mod held;
pub mod journal;
pub mod mark;
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
