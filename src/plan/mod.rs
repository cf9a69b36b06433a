//! The plan of a workflow.
pub mod node;

pub use node::*;
