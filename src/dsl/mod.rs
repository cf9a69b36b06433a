//! The workflow file, as written.
pub mod document;
pub mod setting;
