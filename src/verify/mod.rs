//! What can happen to a run, read from the plan alone: whether one journal keeps the rules, and what every possible
//! run of a workflow can come to.
//!
//! It is a second reading of SPEC section 6. Nothing here calls the machine, whose judge it is.
//!
//! ```text
//! journal ─── trace ───► allowed, or the rule that was broken
//! Plan ─── sketch ───► Sketch ─┬─ explore ─► every interleaving, for small workflows: the ground truth
//!                              └─ sweep ───► one pass over the steps in order: what `flowrun verify` uses
//! ```
//!
//! `explore` and `sweep` share the sketch and the words for what they find ([`findings`]), and no rule.

pub mod explore;
pub mod findings;
pub(crate) mod outline;
#[cfg(test)]
mod random;
pub mod sketch;
pub mod sweep;
pub mod trace;

pub use trace::Model;

#[cfg(test)]
mod agreement;
