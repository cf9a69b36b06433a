//! The workflow file, as written.
pub mod document;
pub mod duration;
mod endless;
pub mod json;
pub mod parse;
mod prune;
mod resolve;
mod rules;
pub mod schema;
pub mod setting;
mod syntax;
pub mod tree;

pub use parse::{Parsed, parse};
pub use tree::{Part, Tree};
