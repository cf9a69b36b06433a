//! Where journals are kept.
pub mod journal;
