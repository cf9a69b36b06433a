//! Every rule of a workflow's meaning, checked before anything runs.
pub(crate) mod suggest;
