//! What people and programs see: the answer on stdout; the step view, summaries and diagnostics on stderr.
pub(super) mod batch;
pub(super) mod describe;
pub(super) mod paint;
pub(super) mod proof;
pub(super) mod screen;
pub(super) mod show;
pub(super) mod steps;
pub(super) mod summary;
pub(super) mod table;
