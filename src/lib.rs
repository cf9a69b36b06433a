//! flowrun runs business processes that are written as data: a YAML DAG of steps with retry, timeout, breaker,
//! fallback and compensation beside each step. It checks a workflow before it runs it, records every decision in an
//! embedded journal before it acts on it, and goes on after a crash where it was.
//!
//! ```text
//! YAML text --dsl--> Document --check--> findings --plan--> Plan --machine--> RunState (the fold of journal events)
//!            tree                                petgraph          advance(input) -> events, commands; driven by engine
//! ```
//!
//! A program of one's own registers its handlers and gets every verb of the command line with [`cli()`]:
//!
//! ```no_run
//! use flowrun::{Registry, StepCtx, StepError};
//!
//! async fn greet(ctx: StepCtx, name: String) -> Result<String, StepError> {
//!     Ok(format!("hello {name}, this is step {}", ctx.step))
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     flowrun::cli(Registry::new().handler("greet.person", greet).describe("Greets a person."))
//! }
//! ```

pub mod bench;
pub mod check;
pub mod cli;
#[cfg(feature = "restate")]
mod cluster;
pub mod definition;
pub mod diag;
#[cfg(test)]
mod dice;
pub mod dsl;
pub mod engine;
pub mod failure;
pub mod faults;
pub mod handlers;
pub mod limits;
pub mod machine;
pub mod names;
pub mod ordered;
pub mod orders;
pub mod payload;
pub mod plan;
pub mod proof;
pub mod rehearsal;
pub mod scenario;
mod scratch;
pub mod store;
mod suggest;
#[doc(hidden)]
pub mod teeth;
pub mod template;
pub mod testing;
pub mod time;
pub mod verify;

pub use cli::cli;
pub use handlers::{Confirmation, Duration, Registry, Secret, State, StepCtx, StepError, World};
