//! Every rule of a workflow's meaning, checked before anything runs.
pub mod invariant;
pub(crate) mod suggest;
pub(crate) mod types;
