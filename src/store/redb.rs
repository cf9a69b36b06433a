//! The journal in a redb file.
//!
//! Everything is encoded by the caller's task; the writer's thread gets bytes. Reads go to the file's last commit, in
//! the caller's thread.

use std::ops::Bound;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use redb::{Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _, StorageBackend};
use tokio::sync::oneshot;

use super::bundle::Bundle;
use super::change::{Change, Start};
use super::format;
use super::ground;
use super::guard::guarded;
use super::journal::{Commit, Committed, Journal, LiveRow, RunRow, StoreError};
use super::log;
use super::mark::{self, Marker, Restored};
use super::open::{Opened, open_backend};
use super::queue::{Job, Queue};
use super::tables::{self, BREAKERS, Fault, JOURNAL, LIVE, run_key};
use super::writer::{Identity, Shared, Writer};
use crate::names::RunKey;
use crate::teeth::{Bug, awake};

/// A store in a redb file, held by this process alone.
#[derive(Debug)]
pub struct RedbStore {
    shared: Arc<Shared>,
    id: [u8; 16],
    restored: Option<Restored>,
    /// Absent once the store is closed.
    database: RwLock<Option<Arc<Database>>>,
    writer: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
}

/// How much a store has written since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Transactions.
    pub groups: u64,
    /// Commits in them.
    pub commits: u64,
    /// Records in those.
    pub records: u64,
}

impl RedbStore {
    /// Opens the store that `backend` holds; makes one if it is empty, with a short log.
    ///
    /// # Errors
    /// When it cannot be read or is not a store.
    pub fn with_backend(backend: impl StorageBackend) -> Result<Self, StoreError> {
        Self::with_backend_and_log(backend, log::SHORT)
    }

    /// The same with a log of so many bytes, for a new store. With none every commit is made durable in the tables.
    ///
    /// # Errors
    /// When it cannot be read or is not a store.
    pub(crate) fn with_backend_and_log(backend: impl StorageBackend, log: u64) -> Result<Self, StoreError> {
        Self::over(backend, Some(log), false)
    }

    /// Opens the store that `backend` holds and checks all of it, as a file of moderate size is checked.
    #[cfg(test)]
    pub(crate) fn with_backend_checked(backend: impl StorageBackend) -> Result<Self, StoreError> {
        Self::over(backend, None, true)
    }

    fn over(backend: impl StorageBackend, make: Option<u64>, whole: bool) -> Result<Self, StoreError> {
        const NAME: &str = "the store";
        Self::begin(open_backend(NAME, backend, make, whole)?, NAME.into(), None)
    }

    /// Starts the writer over an open file.
    pub(super) fn begin(opened: Opened, path: String, identity: Option<Identity>) -> Result<Self, StoreError> {
        let Opened { database, log, id, copied, .. } = opened;
        let database = Arc::new(database);
        // Nothing here may take longer because more runs are done.
        let next_sequence = guarded(|| -> Result<_, Fault> {
            let tx = database.begin_read()?;
            tables::next_sequence(&tx.open_table(JOURNAL)?)
        })
        .unwrap_or_else(|panic| Err(Fault::panicked(&panic)))
        .map_err(|fault| fault.at(&path))?;
        let marked = identity.as_ref().and_then(|identity| mark::read(identity.path())).filter(|m| m.store == id);
        let restored = match (marked, copied) {
            _ if awake(Bug::OldCopyNotNoticed) => None,
            (Some(marked), _) if marked.next > next_sequence => {
                Some(Restored::Older { missing: marked.next - next_sequence })
            }
            // The mark is that of a store which had come no further: nothing is missing.
            (Some(_), _) => None,
            (None, copied) => copied.map(|made_at| Restored::Backup { made_at }),
        };
        let marker = identity.as_ref().map(|identity| Marker::of(identity.path(), id));

        let shared = Arc::new(Shared {
            queue: Queue::default(),
            path: path.clone(),
            definitions: Mutex::default(),
            written: Default::default(),
        });
        let mut writer = Writer::new(Arc::clone(&database), Arc::clone(&shared), identity, log, next_sequence);
        writer.marker = marker;
        writer.copied = copied.is_some();
        let thread = std::thread::Builder::new()
            .name("flowrun-store".into())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::Io { path, message: format!("the writer cannot be started: {error}") })?;
        Ok(Self { shared, id, restored, database: RwLock::new(Some(database)), writer: Mutex::new(Some(thread)) })
    }

    /// Returns how much was written so far.
    #[must_use]
    pub fn written(&self) -> Written {
        let counters = &self.shared.written;
        Written {
            groups: counters.groups.load(Ordering::Relaxed),
            commits: counters.commits.load(Ordering::Relaxed),
            records: counters.records.load(Ordering::Relaxed),
        }
    }

    /// Returns what the store may not know, if an older copy or a backup lies in its place.
    #[must_use]
    pub fn restored(&self) -> Option<Restored> {
        self.restored
    }

    /// Returns what is to be known about the place where the store lies, if anything is.
    #[must_use]
    pub fn concern(&self) -> Option<&'static str> {
        ground::concern(self.path().as_ref())
    }

    /// Returns what the file is called in messages.
    pub(super) fn path(&self) -> &str {
        &self.shared.path
    }

    fn closed(&self) -> StoreError {
        StoreError::Io { path: self.shared.path.clone(), message: "the store is closed".into() }
    }

    /// Reads the last commit.
    fn read<T>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T, Fault>) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| self.closed())?;
        let read = guarded(|| read(&database.begin_read()?)).unwrap_or_else(|panic| Err(Fault::panicked(&panic)));
        // What can be read after the writer has failed may fail because of that; it is the first error that tells why.
        read.map_err(|fault| self.shared.queue.ended().unwrap_or_else(|| fault.at(&self.shared.path)))
    }

    /// Lets `with` have the database, which is not closed before it is done.
    pub(super) fn with_database<T, E: From<Fault>>(
        &self,
        with: impl FnOnce(&Database) -> Result<T, E>,
    ) -> Result<T, E> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        match database.as_ref() {
            Some(database) => with(database),
            None => Err(Fault::from(redb::Error::DatabaseClosed).into()),
        }
    }

    /// Encodes a commit; the definition only if the store may not have it.
    fn job(&self, commit: Commit, ack: oneshot::Sender<Result<(), StoreError>>) -> Job {
        let start = commit.start.map(|start| {
            let (fingerprint, definition) = start.definition;
            let known = self.shared.definitions.lock().unwrap_or_else(PoisonError::into_inner).contains(&fingerprint);
            Start {
                id: start.id,
                live: format::encode_row(&start.live),
                fingerprint,
                definition: (!known).then(|| format::encode_bytes(&definition)),
            }
        });
        let finish = commit.finish.map(|row| format::encode_row(&row));
        let change = Change {
            run: commit.run,
            first: commit.first,
            sum: crc32fast::hash(commit.records.bytes()),
            records: commit.records,
            start,
            finish,
            breakers: commit.breakers,
        };
        Job { change, ack }
    }
}

/// The deliberate bug `split_transaction`: that a run is final is written after the events that say so.
fn end_apart(change: &mut Change) -> Option<Change> {
    let finish = change.finish.take()?;
    let first = change.first + u64::from(change.records.count());
    let (records, breakers) = (Bundle::default(), Vec::new());
    Some(Change { run: change.run, first, records, sum: 0, start: None, finish: Some(finish), breakers })
}

/// Waits for the writer's answer.
async fn answer(shared: &Shared, done: oneshot::Receiver<Result<(), StoreError>>) -> Result<(), StoreError> {
    let gone = || StoreError::Io { path: shared.path.clone(), message: "the writer has ended".into() };
    done.await.unwrap_or_else(|_| Err(gone()))
}

impl Journal for RedbStore {
    fn commit(&self, commit: Commit) -> Committed {
        let (ack, done) = oneshot::channel();
        let mut job = self.job(commit, ack);
        let shared = Arc::clone(&self.shared);
        if awake(Bug::SplitTransaction)
            && let Some(change) = end_apart(&mut job.change)
        {
            shared.queue.push(job);
            return Box::pin(async move {
                answer(&shared, done).await?;
                let (ack, done) = oneshot::channel();
                shared.queue.push(Job { change, ack });
                answer(&shared, done).await
            });
        }
        shared.queue.push(job);
        if awake(Bug::AcknowledgeBeforeCommit) {
            return Box::pin(std::future::ready(Ok(())));
        }
        Box::pin(async move { answer(&shared, done).await })
    }

    fn store_id(&self) -> [u8; 16] {
        self.id
    }

    fn records(&self, run: RunKey) -> Result<Vec<Vec<u8>>, StoreError> {
        self.read(|tx| tables::records(tx, run))
    }

    fn records_from(&self, run: RunKey, from: u64, bytes: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        self.read(|tx| tables::records_from(tx, run, from, bytes))
    }

    fn records_back(&self, run: RunKey, before: u64) -> Result<(u64, Vec<Vec<u8>>), StoreError> {
        self.read(|tx| tables::records_back(tx, run, before))
    }

    fn definition(&self, fingerprint: [u8; 32]) -> Result<Arc<[u8]>, StoreError> {
        self.read(|tx| tables::definition(tx, &fingerprint))
    }

    fn run_by_id(&self, id: &str) -> Result<Option<RunKey>, StoreError> {
        self.read(|tx| tables::run_by_id(tx, id))
    }

    fn runs_by_prefix(&self, prefix: &str, most: usize) -> Result<Vec<RunKey>, StoreError> {
        self.read(|tx| tables::by_prefix(tx, prefix, most))
    }

    fn live(&self) -> Result<Vec<(RunKey, LiveRow)>, StoreError> {
        self.read(|tx| {
            let live = tx.open_table(LIVE)?;
            live.iter()?
                .map(|row| {
                    let (key, bytes) = row?;
                    let run = run_key(key.value());
                    Ok((run, tables::live_row(run, bytes.value())?))
                })
                .collect()
        })
    }

    fn run(&self, run: RunKey) -> Result<Option<RunRow>, StoreError> {
        self.read(|tx| tables::summary(tx, run))
    }

    fn runs(&self, before: Option<RunKey>, most: usize) -> Result<Vec<(RunKey, RunRow)>, StoreError> {
        let end = before.as_ref().map_or(Bound::Unbounded, |run| Bound::Excluded(run.0.as_bytes()));
        self.read(|tx| tables::newest(tx, (Bound::Unbounded, end), most))
    }

    fn run_before(&self, before: Option<RunKey>) -> Result<Option<RunKey>, StoreError> {
        self.read(|tx| tables::run_before(tx, before))
    }

    fn breakers(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.read(|tx| {
            let breakers = tx.open_table(BREAKERS)?;
            breakers
                .iter()?
                .map(|row| {
                    let (service, state) = row?;
                    Ok((service.value().to_owned(), state.value().to_vec()))
                })
                .collect()
        })
    }

    fn close(&self) -> Result<(), StoreError> {
        self.shared.queue.end(self.closed());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It catches what redb may panic with; anything else has been told on stderr.
        let emptied = writer.map_or(Ok(()), |writer| writer.join().unwrap_or(Ok(())));
        let database = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(database) = database.and_then(Arc::into_inner) else { return emptied };
        let closed = guarded(|| database.close().map_err(Fault::from))
            .unwrap_or_else(|panic| Err(Fault::panicked(&panic)))
            .map_err(|fault| fault.at(&self.shared.path));
        emptied.and(closed)
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the store was not closed in order; it is repaired when it is opened next");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{add, run, start};
    use super::super::fault::FaultDisk;
    use super::*;

    /// Lets `runs` runs make `commits` commits each, one after the other, all runs at once.
    fn load(store: &Arc<RedbStore>, runs: u128, commits: u64) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for n in 0..runs {
                let store = Arc::clone(store);
                tasks.spawn(async move {
                    store.commit(start(run(n), &format!("order-{n}"), &[b"0"])).await.expect("written");
                    for number in 1..commits {
                        store.commit(add(run(n), number, &[b"x"])).await.expect("written");
                    }
                });
            }
            tasks.join_all().await;
        });
    }

    #[test]
    fn many_runs_share_transactions_and_a_lone_one_has_its_own() {
        let store = Arc::new(RedbStore::with_backend(FaultDisk::default()).expect("a new store"));
        load(&store, 1, 20);
        assert_eq!(store.written(), Written { groups: 20, commits: 20, records: 20 });

        let store = Arc::new(RedbStore::with_backend(FaultDisk::default()).expect("a new store"));
        load(&store, 64, 40);
        let written = store.written();
        assert_eq!((written.commits, written.records), (64 * 40, 64 * 40));
        assert!(written.groups < 64 * 40 / 8, "{written:?}");
        for n in 0..64 {
            assert_eq!(store.records(run(n)).map(|records| records.len()), Ok(40));
        }
    }

    #[test]
    fn commits_of_a_group_share_rows_of_a_bounded_size() {
        let disk = FaultDisk::default();
        let store = Arc::new(RedbStore::with_backend(disk.clone()).expect("a new store"));
        load(&store, 64, 40);
        assert_eq!(rows(&store).len() as u64, store.written().groups, "all of a group of small commits are in one row");
        // Whatever of these come together: a row of its own for the last, none over the bound for the others.
        let sizes: Vec<usize> = std::iter::repeat_n(1_000, 200).chain([tables::ROW - 8, 3 * tables::ROW]).collect();
        let commits = (40..).zip(&sizes).map(|(number, size)| store.commit(add(run(1), number, &[&vec![7; *size]])));
        for commit in commits.collect::<Vec<_>>() {
            super::super::conformance::wait(commit).expect("written");
        }
        let sizes_of = |n| store.records(run(n)).expect("readable").iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes_of(1), [vec![1; 40], sizes].concat());
        assert_eq!(sizes_of(63), [1; 40]);
        let rows = rows(&store);
        assert!(rows.iter().all(|(_, commits, bytes)| *commits == 1 || *bytes <= tables::ROW), "{rows:?}");
        let next = rows.iter().fold(0, |next, (first, commits, _)| {
            assert_eq!(*first, next, "a row has the number of its first commit");
            next + commits
        });
        assert_eq!(next, 64 * 40 + 202);
        drop(store);
        let store = RedbStore::with_backend(disk).expect("the store");
        assert_eq!(store.read(|tx| tables::next_sequence(&tx.open_table(JOURNAL)?)), Ok(next));
    }

    /// Returns number, commits and bytes of each row of the journal.
    fn rows(store: &RedbStore) -> Vec<(u64, u64, usize)> {
        let rows = store.read(|tx| {
            let of = |(first, row): (redb::AccessGuard<'_, u64>, redb::AccessGuard<'_, &[u8]>)| {
                (first.value(), super::super::bundle::bundles(row.value()).count() as u64, row.value().len())
            };
            tx.open_table(JOURNAL)?.iter()?.map(|row| Ok(of(row?))).collect()
        });
        rows.expect("readable")
    }

    #[test]
    fn a_run_goes_on_where_it_was_after_the_store_is_opened_again() {
        let disk = FaultDisk::default();
        let store = RedbStore::with_backend(disk.clone()).expect("a new store");
        super::super::conformance::wait(store.commit(start(run(1), "order-1", &[b"a", b"b"]))).expect("written");
        let id = store.store_id();
        drop(store);
        let store = RedbStore::with_backend(disk).expect("the store");
        assert_eq!(store.store_id(), id);
        let gap = super::super::conformance::wait(store.commit(add(run(1), 3, &[b"d"])));
        assert!(matches!(gap, Err(StoreError::Refused { .. })), "{gap:?}");
        super::super::conformance::wait(store.commit(add(run(1), 2, &[b"c"]))).expect("written");
        assert_eq!(store.records(run(1)), Ok(vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]));
    }

    #[test]
    fn a_dropped_future_does_not_take_its_commit_back() {
        let store = RedbStore::with_backend(FaultDisk::default()).expect("a new store");
        drop(store.commit(start(run(1), "order-1", &[b"a"])));
        super::super::conformance::wait(store.commit(add(run(1), 1, &[b"b"]))).expect("written");
        assert_eq!(store.records(run(1)).map(|records| records.len()), Ok(2));
    }
}
