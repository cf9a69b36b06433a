//! Handlers: what a step `uses`, how it is registered, and what it answers.
pub mod builtin;
pub mod context;
pub mod contract;
pub mod ledger;
pub mod outcome;
pub mod registry;
pub mod schema;
pub mod typed;
pub mod values;

#[cfg(test)]
mod tests;

pub use context::{State, StepCtx, World};
pub use contract::{Contract, Contracts};
pub use ledger::{Ledger, LedgerEntry};
pub use outcome::{Confirmation, Reply, StepError};
pub(crate) use registry::Player;
pub use registry::{Handler, Handlers, Registry};
pub use values::{Duration, Secret};
