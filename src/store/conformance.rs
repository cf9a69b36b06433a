//! What every store must do, as one suite over the trait.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use uuid::Uuid;

use super::journal::{Commit, DoneRow, Journal, LiveRow, RunRow, StartRow, StoreError};
use super::memory::MemoryStore;
use super::open::OpenOptions;
use super::redb::RedbStore;
use crate::machine::event::{Compensation, Status};
use crate::names::RunKey;
use crate::time::Timestamp;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for `future` on this thread, also inside a runtime, whose time stands still meanwhile; nothing here needs timers.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Returns the `n`-th run; keys rise with `n`.
pub(crate) fn run(n: u128) -> RunKey {
    RunKey(Uuid::from_u128(0x0193_5a5b_0000_7000_8000_0000_0000_0000 + (n << 80)))
}

pub(crate) fn live(id: &str) -> LiveRow {
    LiveRow { id: id.into(), workflow: "order".into(), started_at: Timestamp(17) }
}

pub(crate) fn done(id: &str, compensation: Compensation) -> DoneRow {
    DoneRow {
        id: id.into(),
        workflow: "order".into(),
        started_at: Timestamp(17),
        finished_at: Timestamp(18),
        status: Status::Failed,
        compensation,
    }
}

/// Returns a definition of `length` bytes, with its fingerprint.
pub(crate) fn definition(length: usize) -> ([u8; 32], Arc<[u8]>) {
    use sha2::Digest as _;
    let bytes: Vec<u8> = (0..length).map(|at| (at % 61) as u8).collect();
    (sha2::Sha256::digest(&bytes).into(), bytes.into())
}

pub(crate) fn add(run: RunKey, first: u64, records: &[&[u8]]) -> Commit {
    Commit { run, first, records: records.iter().collect(), start: None, finish: None, breakers: vec![] }
}

pub(crate) fn start(run: RunKey, id: &str, records: &[&[u8]]) -> Commit {
    let start = StartRow { id: id.into(), live: live(id), definition: definition(100) };
    Commit { start: Some(start), ..add(run, 0, records) }
}

pub(crate) fn finish(run: RunKey, first: u64, records: &[&[u8]], row: DoneRow) -> Commit {
    Commit { finish: Some(row), ..add(run, first, records) }
}

/// Everything that can be seen of a store.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dump {
    runs: BTreeMap<RunKey, (RunRow, Vec<Vec<u8>>)>,
    live: Vec<(RunKey, LiveRow)>,
    breakers: Vec<(String, Vec<u8>)>,
}

/// Reads all of a store, and holds its indexes against each other.
pub(crate) fn dump(store: &impl Journal) -> Result<Dump, StoreError> {
    let mut runs = BTreeMap::new();
    for (run, row) in store.runs(None, usize::MAX)? {
        let id = match &row {
            RunRow::Live(row) => &row.id,
            RunRow::Done(row) => &row.id,
        };
        assert_eq!(store.run_by_id(id)?, Some(run));
        runs.insert(run, (row, store.records(run)?));
    }
    Ok(Dump { runs, live: store.live()?, breakers: store.breakers()? })
}

/// Returns the records of a run below number `before`, the last one first.
fn read_backwards(store: &impl Journal, run: RunKey, mut before: u64) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let (first, records) = store.records_back(run, before).expect("readable");
        all.extend(records.into_iter().rev().map(|record| String::from_utf8(record).expect("a letter")));
        if first == 0 {
            return all;
        }
        assert!(first < before, "it goes backwards");
        before = first;
    }
}

fn begun_and_read_back(store: &impl Journal) {
    wait(store.commit(start(run(1), "order-1", &[b"a", b"b"]))).expect("written");
    wait(store.commit(add(run(1), 2, &[b"c"]))).expect("written");
    assert_eq!(store.records(run(1)), Ok(vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]));
    assert_eq!(store.records(run(2)), Ok(vec![]));
    assert_eq!(read_backwards(store, run(1), u64::MAX), ["c", "b", "a"]);
    assert_eq!(read_backwards(store, run(1), 1), ["a"], "from the middle of a commit");
    assert_eq!(read_backwards(store, run(1), 0), [""; 0]);
    assert_eq!(read_backwards(store, run(2), u64::MAX), [""; 0]);
    assert_eq!(store.run(run(1)), Ok(Some(RunRow::Live(live("order-1")))));
    assert_eq!(store.run(run(2)), Ok(None));
    assert_eq!(store.live(), Ok(vec![(run(1), live("order-1"))]));
    assert_eq!(store.run_by_id("order-1"), Ok(Some(run(1))));
    assert_eq!(store.run_by_id("order"), Ok(None));
    let (fingerprint, bytes) = definition(100);
    assert_eq!(store.definition(fingerprint), Ok(bytes));
    assert!(matches!(store.definition([0; 32]), Err(StoreError::Missing { .. })));
}

fn finished_and_changed_afterwards(store: &impl Journal) {
    wait(store.commit(start(run(1), "order-1", &[b"a"]))).expect("written");
    let first_end = done("order-1", Compensation::Incomplete);
    wait(store.commit(finish(run(1), 1, &[b"b"], first_end.clone()))).expect("written");
    assert_eq!(store.run(run(1)), Ok(Some(RunRow::Done(first_end))));
    assert_eq!(store.live(), Ok(vec![]));

    wait(store.commit(add(run(1), 2, &[b"c"]))).expect("a final run takes more events");
    assert_eq!(store.live(), Ok(vec![(run(1), live("order-1"))]), "it is to be gone on with");
    assert_eq!(store.run(run(1)), Ok(Some(RunRow::Live(live("order-1")))));
    let second_end = done("order-1", Compensation::Complete);
    wait(store.commit(finish(run(1), 3, &[b"d"], second_end.clone()))).expect("written");
    assert_eq!(store.run(run(1)), Ok(Some(RunRow::Done(second_end))));
    assert_eq!(store.records(run(1)).map(|records| records.len()), Ok(4));

    let in_one = Commit { finish: Some(done("order-2", Compensation::Complete)), ..start(run(2), "order-2", &[b"a"]) };
    wait(store.commit(in_one)).expect("written");
    assert_eq!(store.live(), Ok(vec![]));
    assert!(matches!(store.run(run(2)), Ok(Some(RunRow::Done(_)))));
}

fn misfits_are_refused_and_leave_nothing(store: &impl Journal) {
    wait(store.commit(start(run(1), "order-1", &[b"a", b"b"]))).expect("written");
    let before = dump(store).expect("readable");
    for misfit in [
        add(run(1), 1, &[b"again"]),
        add(run(1), 3, &[b"gap"]),
        add(run(2), 0, &[b"never started"]),
        start(run(1), "order-1", &[b"second start"]),
        start(run(3), "order-3", &[]),
        Commit { first: 2, ..start(run(1), "order-1", &[b"x"]) },
    ] {
        let refused = wait(store.commit(misfit.clone()));
        assert!(matches!(refused, Err(StoreError::Refused { .. })), "{misfit:?}: {refused:?}");
    }
    let taken = wait(store.commit(start(run(4), "order-1", &[b"a"]))).expect_err("the id is taken");
    assert!(matches!(taken, StoreError::IdTaken { id, run: owner } if id == "order-1" && owner == run(1)));
    assert_eq!(dump(store), Ok(before));
    wait(store.commit(add(run(1), 2, &[b"c"]))).expect("the store goes on");
}

fn of_two_starts_with_one_id_one_wins(store: &impl Journal) {
    let (first, second) = (store.commit(start(run(1), "same", &[b"a"])), store.commit(start(run(2), "same", &[b"b"])));
    let other = store.commit(start(run(3), "other", &[b"c"]));
    assert!(wait(first).is_ok());
    assert!(matches!(wait(second), Err(StoreError::IdTaken { .. })));
    wait(other).expect("only that commit fails");
    assert_eq!(store.run_by_id("same"), Ok(Some(run(1))));
    assert_eq!(store.run(run(2)), Ok(None));
    assert_eq!(store.records(run(2)), Ok(vec![]));
    assert_eq!(store.records(run(3)), Ok(vec![b"c".to_vec()]));
}

fn lists_merge_live_and_final_runs(store: &impl Journal) {
    for n in 1..=9 {
        let id = format!("order-{n}");
        wait(store.commit(start(run(n), &id, &[b"a"]))).expect("written");
        if n % 3 == 0 {
            wait(store.commit(finish(run(n), 1, &[b"b"], done(&id, Compensation::Complete)))).expect("written");
        }
    }
    let keys = |before, most| -> Vec<RunKey> {
        store.runs(before, most).expect("readable").into_iter().map(|(run, _)| run).collect()
    };
    assert_eq!(keys(None, 100), (1..=9).rev().map(run).collect::<Vec<_>>());
    assert_eq!(keys(None, 2), [run(9), run(8)]);
    assert_eq!(keys(Some(run(8)), 3), [run(7), run(6), run(5)]);
    assert_eq!(keys(Some(run(1)), 3), []);
    assert_eq!(keys(None, 0), []);
    let finals = store.runs(None, 100).expect("readable").into_iter().filter(|(_, row)| matches!(row, RunRow::Done(_)));
    assert_eq!(finals.map(|(run, _)| run).collect::<Vec<_>>(), [run(9), run(6), run(3)]);
    assert_eq!(
        store.live().expect("readable").into_iter().map(|(run, _)| run).collect::<Vec<_>>(),
        [1, 2, 4, 5, 7, 8].map(run)
    );
}

fn prefixes_find_ids_and_keys(store: &impl Journal) {
    for (n, id) in [(1, "order-1"), (2, "order-10"), (3, "invoice-1"), (0x30, "zz"), (5, &run(5).to_string())] {
        wait(store.commit(start(run(n), id, &[b"a"]))).expect("written");
    }
    let find = |prefix: &str, most| store.runs_by_prefix(prefix, most).expect("readable");
    assert_eq!(find("order-1", 9), [run(2), run(1)]);
    assert_eq!(find("order-1", 1), [run(2)]);
    assert_eq!(find("order-10", 9), [run(2)]);
    assert_eq!(find("order-2", 9), []);
    let key = run(3).to_string();
    assert_eq!(find(&key, 9), [run(3)]);
    assert_eq!(find(&key[..13], 9), [run(3)]);
    assert_eq!(find(&key[..13].to_ascii_uppercase(), 9), [run(3)]);
    assert_eq!(find(&run(5).to_string(), 9), [run(5)]);
    assert_eq!(find("0193", 9), [run(0x30), run(5), run(3), run(2), run(1)]);
    assert_eq!(find("0193", 2), [run(0x30), run(5)]);
    assert_eq!(find("", 2), [run(0x30), run(5)]);
    assert_eq!(find("ö", 2), []);
    assert_eq!(find("0193", 0), []);
}

fn breakers_keep_their_last_state(store: &impl Journal) {
    let with = |first, states: &[(&str, &[u8])]| Commit {
        breakers: states.iter().map(|(service, state)| ((*service).into(), state.to_vec())).collect(),
        ..add(run(1), first, &[b"x"])
    };
    wait(store.commit(start(run(1), "order-1", &[b"a"]))).expect("written");
    wait(store.commit(with(1, &[("gateway", b"open"), ("mail", b"closed")]))).expect("written");
    wait(store.commit(with(2, &[("gateway", b"half")]))).expect("written");
    let states = store.breakers().expect("readable");
    assert_eq!(states, [("gateway".into(), b"half".to_vec()), ("mail".into(), b"closed".to_vec())]);
}

fn large_things_come_back_whole(store: &impl Journal) {
    let large = vec![7; 3 << 20];
    let (fingerprint, bytes) = definition(1 << 20);
    let mut commit = start(run(1), "order-1", &[&large, b"small"]);
    commit.start.as_mut().expect("it starts").definition = (fingerprint, Arc::clone(&bytes));
    wait(store.commit(commit)).expect("written");
    assert_eq!(store.records(run(1)), Ok(vec![large, b"small".to_vec()]));
    assert_eq!(store.definition(fingerprint), Ok(bytes));
}

fn commits_of_a_run_keep_their_order_unawaited(store: &impl Journal) {
    let mut pending = vec![store.commit(start(run(1), "order-1", &[b"0"]))];
    pending.extend((1..100).map(|n: u64| store.commit(add(run(1), n, &[n.to_string().as_bytes()]))));
    wait(async {
        for commit in pending {
            commit.await.expect("written");
        }
    });
    let records: Vec<Vec<u8>> = (0..100).map(|n: u64| n.to_string().into_bytes()).collect();
    assert_eq!(store.records(run(1)), Ok(records));
}

fn a_closed_store_says_so(store: &impl Journal) {
    wait(store.commit(start(run(1), "order-1", &[b"a"]))).expect("written");
    let pending = store.commit(add(run(1), 1, &[b"b"]));
    store.close().expect("closed");
    wait(pending).expect("what was begun is finished");
    assert!(matches!(wait(store.commit(add(run(1), 2, &[b"c"]))), Err(StoreError::Io { .. })));
    assert!(matches!(store.records(run(1)), Err(StoreError::Io { .. })));
    store.close().expect("closing twice is harmless");
}

macro_rules! suite {
    ($($case:ident)*) => {
        mod memory {
            $(#[test]
            fn $case() {
                super::$case(&super::MemoryStore::default());
            })*
        }

        mod redb {
            $(#[test]
            fn $case() {
                let folder = tempfile::tempdir().expect("a folder");
                let options = super::OpenOptions { create: true };
                super::$case(&super::RedbStore::open(folder.path().join("flowrun.redb"), options).expect("a new store"));
            })*
        }
    };
}

suite! {
    begun_and_read_back
    finished_and_changed_afterwards
    misfits_are_refused_and_leave_nothing
    of_two_starts_with_one_id_one_wins
    lists_merge_live_and_final_runs
    prefixes_find_ids_and_keys
    breakers_keep_their_last_state
    large_things_come_back_whole
    commits_of_a_run_keep_their_order_unawaited
    a_closed_store_says_so
}

/// The rest of a journal that looks on, or gets in the way, while another does the work: passed on to its field `store`.
macro_rules! passes_on_the_rest {
    () => {
        fn store_id(&self) -> [u8; 16] {
            self.store.store_id()
        }
        fn definition(&self, fingerprint: [u8; 32]) -> Result<Arc<[u8]>, StoreError> {
            self.store.definition(fingerprint)
        }
        fn run_by_id(&self, id: &str) -> Result<Option<RunKey>, StoreError> {
            self.store.run_by_id(id)
        }
        fn runs_by_prefix(&self, prefix: &str, most: usize) -> Result<Vec<RunKey>, StoreError> {
            self.store.runs_by_prefix(prefix, most)
        }
        fn live(&self) -> Result<Vec<(RunKey, LiveRow)>, StoreError> {
            self.store.live()
        }
        fn run(&self, run: RunKey) -> Result<Option<RunRow>, StoreError> {
            self.store.run(run)
        }
        fn runs(&self, before: Option<RunKey>, most: usize) -> Result<Vec<(RunKey, RunRow)>, StoreError> {
            self.store.runs(before, most)
        }
        fn breakers(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
            self.store.breakers()
        }
        fn close(&self) -> Result<(), StoreError> {
            self.store.close()
        }
    };
}
pub(crate) use passes_on_the_rest;
