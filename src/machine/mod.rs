//! The machine.
pub mod event;
