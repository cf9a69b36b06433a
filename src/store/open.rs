//! Opening and making the store's file.
//!
//! A new store is made whole under another name and then given its own, so that a kill at any moment leaves either no
//! store or a good one. An existing file is written to only once it is known to be a store of a format that we know.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase as _, StorageBackend};

use super::guard::guarded;
use super::held::Held;
use super::journal::StoreError;
use super::log::{self, Layout, Log, NoStore, Pages};
use super::redb::RedbStore;
use super::rows;
use super::tables::{
    self, BREAKERS, BY_RUN, COPIED, DEFINITIONS, DONE, FORMAT, Fault, IDS, JOURNAL, LIVE, LOGGED, META, NEEDS,
    from_redb,
};
use super::writer::Identity;
use crate::teeth::{Bug, awake};
use crate::time::{Clock as _, SystemClock, Timestamp};

/// What is wrong with a place where two processes could have the same store.
const NO_LOCKS: &str = "lies on a file system whose locks do not work; name a store on a local disk with --store";

/// How a store is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Whether one is made where there is none.
    pub create: bool,
}

/// Memory for pages of the file.
pub(super) const CACHE: usize = 64 << 20;

/// Up to this size all pages are checked whenever a file is opened: that takes some 30 ms.
const CHECK_WHOLE_UP_TO: u64 = 16 << 20;

impl RedbStore {
    /// Opens the store at `path` for this process alone.
    ///
    /// # Errors
    /// [`StoreError::Absent`] if there is none and none is to be made; [`StoreError::Busy`] if another process has it;
    /// [`StoreError::Newer`], [`StoreError::Corrupt`] and [`StoreError::Io`] with the file left as it was.
    pub fn open(path: impl AsRef<Path>, options: OpenOptions) -> Result<Self, StoreError> {
        let path = path.as_ref();
        if options.create && !exists(path)? {
            create(path)?;
        }
        let (opened, identity) = open_file_alone(path)?;
        Self::begin(opened, path.display().to_string(), Some(identity))
    }
}

/// Opens the store's file for this process alone, once it is known to be a store.
pub(super) fn open_file_alone(path: &Path) -> Result<(Opened, Identity), StoreError> {
    let name = path.display().to_string();
    let (file, length) = open_file(path, true)?;
    let identity = Identity::of(path.to_owned(), &file.metadata().map_err(|e| io_error(path, &e))?);
    let backend = FileBackend::new(file).map_err(|e| from_redb(&name, e.into()))?;
    let (held, release) = Held::new(backend, false);
    let release = if awake(Bug::ForeignFileChanged) {
        release.release().map_err(|e| io_error(path, &e))?;
        None
    } else {
        Some(release)
    };
    let whole = length.saturating_sub(log::LENGTH) <= CHECK_WHOLE_UP_TO;
    let opened = open_backend(&name, held, None, whole)?;
    is_locked(path)?;
    if let Some(release) = release {
        release.release().map_err(|e| io_error(path, &e))?;
    }
    Ok((opened, identity))
}

/// Makes sure that the lock which was just taken keeps others out. Some file systems grant every lock.
pub(super) fn is_locked(path: &Path) -> Result<(), StoreError> {
    let again = File::options().read(true).write(true).open(path).map_err(|e| io_error(path, &e))?;
    match again.try_lock() {
        Err(fs::TryLockError::WouldBlock) => Ok(()),
        Ok(()) => Err(refusal(path, NO_LOCKS)),
        Err(fs::TryLockError::Error(error)) => Err(io_error(path, &error)),
    }
}

/// An open file that is known to be a store.
#[derive(Debug)]
pub(super) struct Opened {
    pub database: Database,
    pub log: Log,
    pub id: [u8; 16],
    /// When `db backup` made it, if nothing was written to it since.
    pub copied: Option<Timestamp>,
    /// Whether redb had to read all of it to repair it; not known if all of it was checked.
    pub repaired: bool,
    /// Whether the log had something that the tables lacked.
    pub caught_up: bool,
}

/// Opens the store on `backend`; makes one with a log of so many bytes if it is empty and `make` says so; checks all pages
/// with `whole`.
pub(super) fn open_backend(
    name: &str,
    backend: impl StorageBackend,
    make: Option<u64>,
    whole: bool,
) -> Result<Opened, StoreError> {
    let opened = guarded(|| {
        let layout = laid_out(name, backend, make)?;
        let repaired = Rc::new(Cell::new(false));
        let noted = Rc::clone(&repaired);
        let path = name.to_owned();
        let database = Database::builder()
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(whole)
            .set_repair_callback(move |_| {
                // An integrity check is a repair to redb, whether one is needed or not.
                if !whole && !noted.replace(true) {
                    tracing::info!(store = %path, "the store was not closed in order; it is being checked");
                }
            })
            .create_with_backend(layout.pages())
            .map_err(|error| from_redb(name, error.into()))?;
        if make.is_some() && is_empty(&database).map_err(|fault| fault.at(name))? {
            initialise(&database).map_err(|fault| fault.at(name))?;
        }
        let (id, copied) = identify(name, &database)?;
        let logged = logged(&database).map_err(|fault| fault.at(name))?;
        let (mut log, groups) = Log::open(layout, logged).map_err(|fault| fault.at(name))?;
        if !groups.is_empty() {
            rows::apply(&database, &groups, log.next()).map_err(|fault| fault.at(name))?;
            log.begin_again();
        }
        Ok(Opened { database, log, id, copied, repaired: repaired.get(), caught_up: !groups.is_empty() })
    });
    opened.unwrap_or_else(|panic| {
        Err(StoreError::Corrupt { path: name.into(), message: format!("the file is damaged: {panic}") })
    })
}

/// Returns where the parts of a store are, which is made if `make` says how long its log is to be.
fn laid_out(name: &str, backend: impl StorageBackend, make: Option<u64>) -> Result<Layout, StoreError> {
    let io = |error: io::Error| from_redb(name, redb::Error::Io(error));
    let no_store = |message: &str| StoreError::NoStore { path: name.into(), message: message.into() };
    let corrupt = |message: &str| StoreError::Corrupt { path: name.into(), message: message.into() };
    Layout::of(backend, make).map_err(io)?.map_err(|found| match found {
        NoStore::Empty => no_store("is empty, not a flowrun store; remove it, or name another file with --store"),
        NoStore::Redb => corrupt("is a redb database of another program, not a flowrun store"),
        NoStore::Other => no_store("is not a flowrun store; name another file with --store"),
        NoStore::Cut => corrupt("the file is damaged: it ends too early"),
    })
}

/// Returns the number of the first group of the log that the tables may lack.
fn logged(database: &Database) -> Result<u64, Fault> {
    let tx = database.begin_read()?;
    let logged = tx.open_table(META)?.get(LOGGED)?.map(|row| row.value().to_vec());
    let Some(bytes) = logged else { return Ok(1) };
    let damaged = || Fault::Damaged("the file is damaged: it does not say where its log goes on".into());
    bytes.try_into().map(u64::from_le_bytes).map_err(|_| damaged())
}

/// Makes an empty file the beginning of a store, and returns where redb's pages go.
pub(super) fn new_pages(file: File) -> Result<Pages, redb::Error> {
    let found = Layout::of(FileBackend::new(file)?, Some(log::LENGTH))?;
    let layout = found.map_err(|_| io::Error::other("somebody wrote to it"))?;
    Ok(layout.pages())
}

/// Opens the tables of a store's file as they are, so that a test can change them behind flowrun's back.
#[cfg(test)]
pub(super) fn behind_the_back(path: &Path) -> Database {
    let file = File::options().read(true).write(true).open(path).expect("it is there");
    let backend = FileBackend::new(file).expect("nobody has it");
    let pages = laid_out("the store", backend, None).expect("a store").pages();
    Database::builder().create_with_backend(pages).expect("a database")
}

/// Opens the store at `path` for looking only: nothing is ever written to it.
pub(super) fn open_to_look(path: &Path, whole: bool) -> Result<Opened, StoreError> {
    let name = path.display().to_string();
    let (file, _) = open_file(path, false)?;
    let backend = FileBackend::new(file).map_err(|e| from_redb(&name, e.into()))?;
    let (held, _) = Held::new(backend, true);
    open_backend(&name, held, None, whole)
}

/// Returns the id of the store, if it is one and its format is known, and when it was copied.
fn identify(name: &str, database: &Database) -> Result<([u8; 16], Option<Timestamp>), StoreError> {
    let corrupt = |message: &str| StoreError::Corrupt { path: name.into(), message: message.into() };
    let tx = database.begin_read().map_err(|e| from_redb(name, e.into()))?;
    let meta = match tx.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::Storage(error)) => return Err(from_redb(name, error.into())),
        Err(_) => return Err(corrupt("is a redb database of another program, not a flowrun store")),
    };
    let value = |key: &str| -> Result<Option<Vec<u8>>, StoreError> {
        Ok(meta.get(key).map_err(|e| from_redb(name, e.into()))?.map(|value| value.value().to_vec()))
    };
    let Some(format) = value("format")?.and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes) else {
        return Err(corrupt("is not a flowrun store: it has no format"));
    };
    if format > FORMAT && !awake(Bug::NewerStoreOpened) {
        let needs = value("needs")?.and_then(|bytes| String::from_utf8(bytes).ok());
        return Err(StoreError::Newer { path: name.into(), found: format, known: FORMAT, needs });
    }
    let id = value("id")?.and_then(|bytes| bytes.try_into().ok());
    let id = id.ok_or_else(|| corrupt("is not a flowrun store: it has no id"))?;
    let copied = value(COPIED)?.and_then(|bytes| bytes.try_into().ok()).map(i64::from_le_bytes);
    Ok((id, copied.map(Timestamp)))
}

fn is_empty(database: &Database) -> Result<bool, Fault> {
    Ok(database.begin_read()?.list_tables()?.next().is_none())
}

/// Makes the tables of an empty store, in one transaction.
fn initialise(database: &Database) -> Result<(), Fault> {
    let tx = database.begin_write()?;
    {
        tx.open_table(JOURNAL)?;
        tx.open_table(BY_RUN)?;
        tx.open_table(LIVE)?;
        tx.open_table(DONE)?;
        tx.open_table(IDS)?;
        tx.open_table(DEFINITIONS)?;
        tx.open_table(BREAKERS)?;
        let mut meta = tx.open_table(META)?;
        meta.insert("format", FORMAT.to_le_bytes().as_slice())?;
        meta.insert("needs", NEEDS.as_bytes())?;
        meta.insert("id", uuid::Uuid::new_v4().as_bytes().as_slice())?;
        meta.insert("created", SystemClock.now().0.to_le_bytes().as_slice())?;
    }
    tx.commit()?;
    Ok(())
}

pub(super) fn io_error(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Io { path: path.display().to_string(), message: tables::io_message(error) }
}

fn refusal(path: &Path, message: &str) -> StoreError {
    StoreError::NoStore { path: path.display().to_string(), message: message.into() }
}

/// Tells whether something is at the path.
fn exists(path: &Path) -> Result<bool, StoreError> {
    match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(path) {
            Ok(_) => Err(refusal(path, "is a symbolic link that leads nowhere; remove it, or make what it names")),
            Err(_) => Ok(false),
        },
        // Nothing was written or even opened: it is the path that is wrong, not the disk.
        Err(error) => Err(refusal(path, &format!("cannot be reached: {}", tables::io_message(&error)))),
    }
}

/// Opens an existing file, and returns its length. Nothing is written.
fn open_file(path: &Path, write: bool) -> Result<(File, u64), StoreError> {
    if !exists(path)? {
        return Err(StoreError::Absent { path: path.display().to_string() });
    }
    // Looked at by its name first: opening a pipe would wait for its other end.
    let found = fs::metadata(path).map_err(|e| io_error(path, &e))?;
    if found.is_dir() {
        return Err(refusal(path, "is a folder; name the file in it, such as flowrun.redb, with --store"));
    }
    if !found.is_file() {
        return Err(refusal(path, "is not a regular file; name another one with --store"));
    }
    let file = File::options().read(true).write(write).open(path).map_err(|e| io_error(path, &e))?;
    Ok((file, found.len()))
}

/// Makes a store at `path`, where nothing is yet. Another process may do the same: one of them wins.
fn create(path: &Path) -> Result<(), StoreError> {
    let folder = folder_of(path);
    let made = !folder.exists();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| io_error(folder, &e))?;

    let temporary = temporary_name(path);
    let result = create_as(&temporary, path);
    if result.is_err() {
        // What cannot be removed is in nobody's way: the name is never used again.
        let _ = fs::remove_file(&temporary);
    }
    result?;
    sync_folder(folder)?;
    if made && let Some(above) = folder.parent().filter(|above| !above.as_os_str().is_empty()) {
        sync_folder(above)?;
    }
    Ok(())
}

/// Returns the folder that `path` is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Returns a name beside `path` that nobody else uses.
pub(super) fn temporary_name(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", uuid::Uuid::new_v4().simple()));
    path.with_file_name(name)
}

fn create_as(temporary: &Path, path: &Path) -> Result<(), StoreError> {
    let name = path.display().to_string();
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)
        .map_err(|e| io_error(path, &e))?;
    let synced = file.try_clone().map_err(|e| io_error(path, &e))?;
    let backend = FileBackend::new(file).map_err(|e| from_redb(&name, e.into()))?;
    let opened = open_backend(&name, backend, Some(log::LENGTH), false)?;
    opened.database.close().map_err(|e| from_redb(&name, e.into()))?;
    synced.sync_all().map_err(|e| io_error(path, &e))?;
    publish(temporary, path).map_err(|e| io_error(path, &e))
}

/// Gives a finished file its name, unless another one has it by now.
fn publish(temporary: &Path, path: &Path) -> io::Result<()> {
    // A link to an existing name is refused, where a rename would replace another process's store.
    match fs::hard_link(temporary, path) {
        Ok(()) => fs::remove_file(temporary),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(temporary),
        // Some file systems have no links. There two processes that make the first store at the same moment are not
        // kept apart; the one that loses finds its file replaced, and stops.
        Err(_) => fs::rename(temporary, path),
    }
}

pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| io_error(folder, &e))
}
