//! `db compact`: gives the space that the store no longer uses back to the disk.
//!
//! The file shrinks in place, in transactions of its own: at every moment it holds every row. So nothing is needed
//! beside it, also on a full disk, and a kill leaves a store that is whole, and perhaps not yet small.

use std::path::Path;

use redb::Database;

use super::guard::guarded;
use super::journal::StoreError;
use super::open;
use super::tables::Fault;

/// What compacting did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The size of the file before.
    pub before: u64,
    /// And after.
    pub after: u64,
}

/// Makes the store at `path` as small as it can be. Nobody else may have it open.
///
/// # Errors
/// As when it is opened; [`StoreError::Busy`] if another process has it.
pub fn compact(path: impl AsRef<Path>) -> Result<Compacted, StoreError> {
    let path = path.as_ref();
    let size = || std::fs::metadata(path).map(|found| found.len()).map_err(|e| open::io_error(path, &e));
    let (opened, _) = open::open_file_alone(path)?;
    let before = size()?;
    compact_database(opened.database, &path.display().to_string())?;
    Ok(Compacted { before, after: size()? })
}

/// Compacts an open database, and closes it.
fn compact_database(mut database: Database, name: &str) -> Result<(), StoreError> {
    guarded(|| -> Result<(), Fault> {
        database.compact()?;
        database.close()?;
        Ok(())
    })
    .unwrap_or_else(|panic| Err(Fault::panicked(&panic)))
    .map_err(|fault| fault.at(name))
}

/// Compacts the store that `backend` holds.
#[cfg(test)]
pub(super) fn compact_backend(backend: impl redb::StorageBackend) -> Result<(), StoreError> {
    const NAME: &str = "the store";
    compact_database(open::open_backend(NAME, backend, None, false)?.database, NAME)
}
