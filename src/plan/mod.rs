//! The plan of a workflow: compiled from what was checked, ordered, and drawn.
pub(crate) mod calls;
pub(crate) mod compile;
pub mod draw;
pub mod duration;
pub mod graph;
pub mod node;
pub(crate) mod settings;
pub mod timing;

pub use compile::compile;
pub use node::*;
pub use timing::Timing;
