//! Findings: what is wrong in a file, where, and what to do about it.
//!
//! A finding is a value. `codes` names every kind, `finding` holds the data, `span` knows lines and columns, `render`
//! makes text and JSON of it. Nothing here knows what a workflow is.
mod codes;
mod finding;
mod render;
mod span;

pub use codes::FindingCode;
pub use finding::{Finding, Severity, in_file_order};
pub use render::{Style, json, text};
pub use span::{Place, SourceFile, Span};
