//! Where journals are kept.

use std::path::{Path, PathBuf};

pub mod bundle;
mod change;
pub mod check;
pub mod compact;
#[cfg(test)]
pub(crate) mod conformance;
pub mod copy;
#[cfg(test)]
mod db_tests;
#[cfg(test)]
pub(crate) mod fault;
pub mod format;
mod ground;
mod guard;
mod held;
pub mod journal;
mod log;
pub mod mark;
#[cfg(test)]
mod measure;
pub mod memory;
pub mod open;
#[cfg(test)]
mod open_tests;
mod pace;
mod queue;
pub mod redb;
mod rows;
pub(crate) mod tables;
mod writer;

/// Returns what lies beside a store under the extension `what`: `orders.mark` for `orders.redb`. Every other name is kept
/// whole before it, so that what belongs to a store is never the store itself, nor that of its neighbour `orders.bak`.
pub(crate) fn beside(store: &Path, what: &str) -> PathBuf {
    if store.extension().is_some_and(|extension| extension == "redb") {
        return store.with_extension(what);
    }
    let mut name = store.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    store.with_file_name(name)
}
