//! Handlers.
pub mod contract;
