//! flowrun runs business processes that are written as data.

pub mod check;
pub mod cli;
pub mod definition;
pub mod diag;
pub mod dsl;
pub mod engine;
pub mod faults;
pub mod handlers;
pub mod limits;
pub mod machine;
pub mod names;
pub mod orders;
pub mod payload;
pub mod plan;
pub mod scenario;
pub mod store;
mod suggest;
pub mod template;
pub mod time;

pub use cli::cli;
pub use handlers::{Confirmation, Duration, Registry, Secret, State, StepCtx, StepError, World};
