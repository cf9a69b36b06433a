//! A journal in memory, for tests and for `flowrun test`.
//!
//! It keeps the rules of the real one, writes at once, and can stop the world at a chosen commit. What it holds
//! outlives the handle: [`MemoryStore::reopen`] is what the next process would find.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::journal::{Commit, Committed, DoneRow, Journal, LiveRow, RunRow, StoreError};
use super::rows::misfit;
use crate::names::RunKey;

/// The name that errors give to a store in memory.
const NAME: &str = "the store in memory";

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFate {
    /// It is written.
    Write,
    /// It is written, but nobody ever learns of it: a crash just after.
    WriteThenHang,
    /// Only its first records are written, and nobody ever learns of it. A store whose commits are whole never does
    /// that; what is resumed from it is a run with any prefix of its journal.
    WritePart(usize),
    /// It is not written, and nothing is any more: a crash just before.
    Hang,
    /// The disk fails; it is not written, and nothing is any more.
    Fail,
}

/// Decides the fate of the commits that a store gets, by their number from 0.
pub type OnCommit = Box<dyn Fn(u64) -> CommitFate + Send + Sync>;

/// A journal in memory.
pub struct MemoryStore {
    content: Arc<Mutex<Content>>,
    on_commit: Option<OnCommit>,
    stopped: AtomicBool,
    failed: AtomicBool,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Content {
    id: [u8; 16],
    /// Commits that any handle was asked for.
    asked: u64,
    records: BTreeMap<RunKey, Vec<Vec<u8>>>,
    live: BTreeMap<RunKey, LiveRow>,
    done: BTreeMap<RunKey, DoneRow>,
    ids: BTreeMap<String, RunKey>,
    definitions: BTreeMap<[u8; 32], Arc<[u8]>>,
    breakers: BTreeMap<String, Vec<u8>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::with_id([0; 16])
    }
}

impl MemoryStore {
    /// Returns an empty store with this id.
    #[must_use]
    pub fn with_id(id: [u8; 16]) -> Self {
        Self::over(Arc::new(Mutex::new(Content { id, ..Content::default() })))
    }

    fn over(content: Arc<Mutex<Content>>) -> Self {
        let flag = || AtomicBool::new(false);
        Self { content, on_commit: None, stopped: flag(), failed: flag(), closed: flag() }
    }

    /// Lets `on_commit` decide what becomes of each commit to this handle.
    #[must_use]
    pub fn on_commit(mut self, on_commit: impl Fn(u64) -> CommitFate + Send + Sync + 'static) -> Self {
        self.on_commit = Some(Box::new(on_commit));
        self
    }

    /// Lets the disk fail once `commits` have been written.
    #[must_use]
    pub fn fail_after(self, commits: u64) -> Self {
        self.on_commit(move |number| if number < commits { CommitFate::Write } else { CommitFate::Fail })
    }

    /// Returns another handle to what this one holds, as the next process finds it. This one writes nothing any more.
    #[must_use]
    pub fn reopen(&self) -> Self {
        self.stopped.store(true, Ordering::SeqCst);
        Self::over(Arc::clone(&self.content))
    }

    /// Returns a handle that only looks on: this one goes on writing.
    #[must_use]
    pub fn reader(&self) -> Self {
        let reader = Self::over(Arc::clone(&self.content));
        reader.stopped.store(true, Ordering::SeqCst);
        reader
    }

    /// Returns how many commits this store was asked for, by all its handles.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.content().asked
    }

    /// Tells whether a fate has stopped this handle: its commits hang or fail.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst) || self.failed.load(Ordering::SeqCst)
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(message: &str) -> StoreError {
        StoreError::Io { path: NAME.into(), message: message.into() }
    }

    fn read<T>(&self, read: impl FnOnce(&Content) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Self::error("the store is closed"));
        }
        read(&self.content())
    }
}

impl Content {
    fn write(&mut self, commit: Commit) -> Result<(), StoreError> {
        let Commit { run, first, records, start, finish, breakers } = commit;
        let next = self.records.get(&run).map_or(0, |records| records.len() as u64);
        if let Some(message) = misfit(first, records.count(), start.is_some(), next) {
            return Err(StoreError::Refused { run, message });
        }
        if let Some(start) = start {
            if let Some(owner) = self.ids.get(&start.id).filter(|owner| **owner != run) {
                return Err(StoreError::IdTaken { id: start.id, run: *owner });
            }
            self.ids.insert(start.id, run);
            self.live.insert(run, start.live);
            self.definitions.entry(start.definition.0).or_insert(start.definition.1);
        }
        self.records.entry(run).or_default().extend(records.iter().map(<[u8]>::to_vec));
        if let Some(finish) = finish {
            self.live.remove(&run);
            self.done.insert(run, finish);
        } else if let Some(DoneRow { id, workflow, started_at, .. }) = self.done.remove(&run) {
            self.live.insert(run, LiveRow { id, workflow, started_at });
        }
        self.breakers.extend(breakers);
        Ok(())
    }

    fn row(&self, run: RunKey) -> Option<RunRow> {
        let live = self.live.get(&run).cloned().map(RunRow::Live);
        live.or_else(|| self.done.get(&run).cloned().map(RunRow::Done))
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").field("content", &self.content).finish_non_exhaustive()
    }
}

fn hang() -> Committed {
    Box::pin(std::future::pending())
}

fn ready(result: Result<(), StoreError>) -> Committed {
    Box::pin(std::future::ready(result))
}

impl Journal for MemoryStore {
    fn commit(&self, commit: Commit) -> Committed {
        if self.closed.load(Ordering::SeqCst) {
            return ready(Err(Self::error("the store is closed")));
        }
        if self.stopped.load(Ordering::SeqCst) {
            return hang();
        }
        if self.failed.load(Ordering::SeqCst) {
            return ready(Err(Self::error("an earlier commit failed")));
        }
        let mut content = self.content();
        let number = content.asked;
        content.asked += 1;
        match self.on_commit.as_ref().map_or(CommitFate::Write, |fate| fate(number)) {
            CommitFate::Write => ready(content.write(commit)),
            CommitFate::WriteThenHang => {
                self.stopped.store(true, Ordering::SeqCst);
                // Whether it was refused is what nobody learns.
                let _ = content.write(commit);
                hang()
            }
            CommitFate::WritePart(records) => {
                self.stopped.store(true, Ordering::SeqCst);
                let mut commit = commit;
                if records < commit.records.count() as usize {
                    commit.records = commit.records.iter().take(records).collect();
                    commit.finish = None;
                    commit.breakers.clear();
                }
                let _ = content.write(commit);
                hang()
            }
            CommitFate::Hang => {
                self.stopped.store(true, Ordering::SeqCst);
                hang()
            }
            CommitFate::Fail => {
                self.failed.store(true, Ordering::SeqCst);
                ready(Err(Self::error("the disk failed, as it was told to")))
            }
        }
    }

    fn store_id(&self) -> [u8; 16] {
        self.content().id
    }

    fn records(&self, run: RunKey) -> Result<Vec<Vec<u8>>, StoreError> {
        self.read(|content| Ok(content.records.get(&run).cloned().unwrap_or_default()))
    }

    fn definition(&self, fingerprint: [u8; 32]) -> Result<Arc<[u8]>, StoreError> {
        self.read(|content| {
            let found = content.definitions.get(&fingerprint).cloned();
            found
                .ok_or_else(|| StoreError::Missing { what: format!("definition {}", super::tables::hex(&fingerprint)) })
        })
    }

    fn run_by_id(&self, id: &str) -> Result<Option<RunKey>, StoreError> {
        self.read(|content| Ok(content.ids.get(id).copied()))
    }

    fn runs_by_prefix(&self, prefix: &str, most: usize) -> Result<Vec<RunKey>, StoreError> {
        let key_prefix = prefix.to_ascii_lowercase();
        self.read(|content| {
            let mut runs: Vec<RunKey> = content
                .ids
                .iter()
                .filter(|(id, run)| id.starts_with(prefix) || run.to_string().starts_with(&key_prefix))
                .map(|(_, run)| *run)
                .collect();
            runs.sort_unstable_by(|a, b| b.cmp(a));
            runs.truncate(most);
            Ok(runs)
        })
    }

    fn live(&self) -> Result<Vec<(RunKey, LiveRow)>, StoreError> {
        self.read(|content| Ok(content.live.iter().map(|(run, row)| (*run, row.clone())).collect()))
    }

    fn run(&self, run: RunKey) -> Result<Option<RunRow>, StoreError> {
        self.read(|content| Ok(content.row(run)))
    }

    fn runs(&self, before: Option<RunKey>, most: usize) -> Result<Vec<(RunKey, RunRow)>, StoreError> {
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        self.read(|content| {
            let older = content.records.range((Bound::Unbounded, end)).rev();
            Ok(older.filter_map(|(run, _)| Some((*run, content.row(*run)?))).take(most).collect())
        })
    }

    fn breakers(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.read(|content| Ok(content.breakers.iter().map(|(s, state)| (s.clone(), state.clone())).collect()))
    }

    fn close(&self) -> Result<(), StoreError> {
        self.closed.store(true, Ordering::SeqCst);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::super::conformance::{add, run, start, wait};
    use super::*;

    /// Returns the answer to a commit; nothing if it hangs.
    fn answer(store: &MemoryStore, commit: Commit) -> Option<Result<(), StoreError>> {
        match store.commit(commit).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }

    /// Stops the world with `fate` at the second of three commits, and returns what the next process finds.
    fn crash(fate: CommitFate) -> MemoryStore {
        let store =
            MemoryStore::with_id([3; 16]).on_commit(move |number| if number == 1 { fate } else { CommitFate::Write });
        assert_eq!(answer(&store, start(run(1), "order-1", &[b"a"])), Some(Ok(())));
        assert!(!store.is_stopped());
        assert_eq!(answer(&store, add(run(1), 1, &[b"b"])), None);
        assert!(store.is_stopped());
        assert_eq!(answer(&store, add(run(1), 2, &[b"c"])), None, "the world stands still");
        let next = store.reopen();
        assert_eq!(next.store_id(), [3; 16]);
        next
    }

    #[test]
    fn a_crash_after_a_commit_keeps_it() {
        let next = crash(CommitFate::WriteThenHang);
        assert_eq!(next.records(run(1)), Ok(vec![b"a".to_vec(), b"b".to_vec()]));
        assert_eq!(answer(&next, add(run(1), 2, &[b"c"])), Some(Ok(())));
        assert_eq!(next.commits(), 3);
    }

    #[test]
    fn a_crash_before_a_commit_does_not() {
        let next = crash(CommitFate::Hang);
        assert_eq!(next.records(run(1)), Ok(vec![b"a".to_vec()]));
        assert_eq!(answer(&next, add(run(1), 1, &[b"b"])), Some(Ok(())));
    }

    #[test]
    fn a_handle_that_was_followed_by_another_writes_nothing_any_more() {
        let store = MemoryStore::default();
        let next = store.reopen();
        assert_eq!(answer(&store, start(run(1), "order-1", &[b"a"])), None);
        assert_eq!(next.run(run(1)), Ok(None));
    }

    #[test]
    fn a_disk_that_fails_fails_for_good() {
        let store = MemoryStore::default().fail_after(1);
        wait(store.commit(start(run(1), "order-1", &[b"a"]))).expect("written");
        for _ in 0..2 {
            assert!(matches!(wait(store.commit(add(run(1), 1, &[b"b"]))), Err(StoreError::Io { .. })));
        }
        assert_eq!(store.records(run(1)), Ok(vec![b"a".to_vec()]));
    }
}
