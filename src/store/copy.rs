//! `db backup`: a copy of a store as it was at one moment, while it goes on.
//!
//! Every row is read from one transaction, so what is committed meanwhile is not in the copy, not even in part. The
//! copy is made under another name, checked like any store, synced, and only then given its own.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use redb::{
    Database, Key, ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition, Value, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use super::check::{self, Fingerprint};
use super::guard::guarded;
use super::journal::StoreError;
use super::open::{self, CACHE};
use super::redb::RedbStore;
use super::tables::{self, BREAKERS, BY_RUN, COPIED, DEFINITIONS, DONE, Fault, IDS, JOURNAL, LIVE, LOGGED, META};
use crate::teeth::{Bug, awake};
use crate::time::{Clock as _, SystemClock};

/// How many rows are copied before it is asked whether to stop.
const ROWS: u64 = 4_096;

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Its size.
    pub bytes: u64,
    /// Runs that are not final.
    pub unfinished: u64,
    /// Final runs.
    pub finished: u64,
    /// Events of all runs.
    pub events: u64,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Something has that name; it is never replaced.
    #[error("{0} is there already")]
    Exists(String),
    /// The copy cannot be written there.
    #[error("{path}: {message}")]
    Target {
        /// Where.
        path: String,
        /// What the system said.
        message: String,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(StoreError),
    /// The copy is not sound, because the store is not.
    #[error("the store is damaged: {0} problems")]
    Damaged(usize, Vec<String>),
    /// Whoever wanted it has gone.
    #[error("nobody waits for the backup any more")]
    Stopped,
}

impl RedbStore {
    /// Copies the store, as it is now, to `target`, where nothing may be. Asks now and then whether to stop.
    ///
    /// # Errors
    /// See [`CopyError`]; there is no file at `target` then.
    pub fn copy_to(
        &self,
        target: &Path,
        fingerprint: Fingerprint,
        mut stop: impl FnMut() -> bool,
    ) -> Result<Copied, CopyError> {
        let failed = |error: io::Error| CopyError::Target {
            path: target.display().to_string(),
            message: tables::io_message(&error),
        };
        if fs::symlink_metadata(target).is_ok() {
            return Err(CopyError::Exists(target.display().to_string()));
        }
        let temporary = open::temporary_name(target);
        let copied = self.copy_as(&temporary, fingerprint, &mut stop).and_then(|copied| {
            // A link to an existing name is refused, where a rename would replace it. Some file systems have no links.
            match fs::hard_link(&temporary, target) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(CopyError::Exists(target.display().to_string()));
                }
                Ok(()) => fs::remove_file(&temporary).map_err(failed)?,
                Err(_) => fs::rename(&temporary, target).map_err(failed)?,
            }
            open::sync_folder(open::folder_of(target)).map_err(CopyError::Store)?;
            Ok(copied)
        });
        if copied.is_err() {
            // What cannot be removed is in nobody's way: the name is never used again.
            let _ = fs::remove_file(&temporary);
        }
        copied
    }

    fn copy_as(
        &self,
        temporary: &Path,
        fingerprint: Fingerprint,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Copied, CopyError> {
        let name = temporary.display().to_string();
        let failed = |message: String| CopyError::Target { path: name.clone(), message };
        let disk = |error: &io::Error| failed(tables::io_message(error));
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(temporary);
        let file = file.map_err(|e| disk(&e))?;
        let synced = file.try_clone().map_err(|e| disk(&e))?;
        let copied = self.with_database(|database| {
            let from = database.begin_read()?;
            guarded(|| copy(&from, database, file, stop)).unwrap_or_else(|panic| Err(Fault::panicked(&panic).into()))
        });
        match copied {
            Ok(()) => {}
            Err(Interrupted::Wanted) => return Err(CopyError::Stopped),
            Err(Interrupted::Target(error)) => {
                return Err(failed(tables::from_redb(&name, error).to_string().replace(&format!("{name}: "), "")));
            }
            Err(Interrupted::Source(fault)) => return Err(CopyError::Store(fault.at(self.path()))),
        }
        synced.sync_all().map_err(|e| disk(&e))?;
        let report = check::check(temporary, fingerprint).map_err(CopyError::Store)?;
        if !report.is_sound() {
            let problems = report.problems.iter().map(super::check::Problem::told).collect();
            return Err(CopyError::Damaged(report.problems.len(), problems));
        }
        let bytes = synced.metadata().map_err(|e| disk(&e))?.len();
        Ok(Copied { bytes, unfinished: report.live, finished: report.done, events: report.events })
    }
}

/// Why rows were not copied to the end.
pub(super) enum Interrupted {
    /// Somebody said so.
    Wanted,
    /// The copy cannot be written.
    Target(redb::Error),
    /// The store cannot be read.
    Source(Fault),
}

impl<E: Into<Fault>> From<E> for Interrupted {
    fn from(fault: E) -> Self {
        Self::Source(fault.into())
    }
}

/// Copies every table of `from` into a new database in `file`.
fn copy(
    from: &ReadTransaction,
    store: &Database,
    file: File,
    stop: &mut dyn FnMut() -> bool,
) -> Result<(), Interrupted> {
    fn target<T, E: Into<redb::Error>>(result: Result<T, E>) -> Result<T, Interrupted> {
        result.map_err(|e| Interrupted::Target(e.into()))
    }
    let pages = target(open::new_pages(file))?;
    let database = target(Database::builder().set_cache_size(CACHE).create_with_backend(pages))?;
    // It becomes a file only as a whole, so nothing has to be durable before the end.
    let to = target(database.begin_write())?;
    {
        let mut rows = Rows { from, store, to: &to, stop };
        rows.copy(JOURNAL)?;
        rows.copy(BY_RUN)?;
        rows.copy(LIVE)?;
        rows.copy(DONE)?;
        rows.copy(IDS)?;
        rows.copy(DEFINITIONS)?;
        rows.copy(BREAKERS)?;
        rows.copy(META)?;
        let mut meta = target(to.open_table(META))?;
        // Its log is a new one.
        target(meta.remove(LOGGED))?;
        target(meta.insert(COPIED, SystemClock.now().0.to_le_bytes().as_slice()))?;
    }
    target(to.commit())?;
    target(database.close())
}

struct Rows<'a> {
    from: &'a ReadTransaction,
    store: &'a Database,
    to: &'a WriteTransaction,
    stop: &'a mut dyn FnMut() -> bool,
}

impl Rows<'_> {
    fn copy<K: Key + 'static, V: Value + 'static>(
        &mut self,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<(), Interrupted> {
        let later;
        let from = if awake(Bug::BackupOfSeveralMoments) {
            later = self.store.begin_read()?;
            &later
        } else {
            self.from
        };
        if (self.stop)() {
            return Err(Interrupted::Wanted);
        }
        let source = from.open_table(definition)?;
        let mut target = self.to.open_table(definition).map_err(|e| Interrupted::Target(e.into()))?;
        for (row, number) in source.iter()?.zip(1_u64..) {
            let (key, value) = row?;
            target.insert(key.value(), value.value()).map_err(|e| Interrupted::Target(e.into()))?;
            if number.is_multiple_of(ROWS) && (self.stop)() {
                return Err(Interrupted::Wanted);
            }
        }
        Ok(())
    }
}
