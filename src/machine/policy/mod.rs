//! The policies whose state is recorded: when a call is repeated, and when a service is left alone.

pub mod breaker;
pub mod retry;
