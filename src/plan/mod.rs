//! The plan of a workflow.
pub(crate) mod calls;
pub mod graph;
pub mod node;

pub use node::*;
