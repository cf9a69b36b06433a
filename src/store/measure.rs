//! How long a store takes to open after a crash, and what a commit costs. Not run by default; `docs/reliability.md` has the command and what it printed.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::conformance::{add, definition, live, run, wait};
use super::journal::{Commit, DoneRow, Journal as _, StartRow};
use super::open::OpenOptions;
use super::redb::RedbStore;
use crate::machine::event::{Compensation, Status};
use crate::time::Timestamp;

/// Runs that stay unfinished, whatever the size.
const UNFINISHED: u128 = 100;

/// Events of a run, and the bytes of each: those of an order.
const EVENTS: usize = 30;
const EVENT: usize = 600;

#[expect(clippy::disallowed_methods, reason = "a measurement is about the real time")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = std::time::Instant::now();
    let done = work();
    (done, begun.elapsed())
}

fn open(path: &Path) -> RedbStore {
    RedbStore::open(path, OpenOptions { create: true }).expect("it opens")
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).expect("it is there").len()
}

/// Writes finished runs, from number `from` on, until the file has this size. Returns the next free number.
fn fill(path: &Path, mut from: u128, until: u64) -> u128 {
    let store = Arc::new(open(path));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    while size(path) < until {
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for n in from..from + 200 {
                let store = Arc::clone(&store);
                tasks.spawn(async move { store.commit(whole(n)).await.expect("written") });
            }
            tasks.join_all().await;
        });
        from += 200;
    }
    store.close().expect("closed");
    from
}

/// Returns a run of thirty events; the first hundred are not finished.
fn whole(n: u128) -> Commit {
    let id = format!("order-{n}");
    let record: Vec<u8> = (0..EVENT).map(|at| (n as usize + at * 7) as u8).collect();
    let (started_at, finished_at) = (Timestamp(17), Timestamp(18));
    let finish = (n >= UNFINISHED).then(|| DoneRow {
        id: id.clone(),
        workflow: "order".into(),
        started_at,
        finished_at,
        status: Status::Completed,
        compensation: Compensation::NoneNeeded,
    });
    let start = Some(StartRow { live: live(&id), id, definition: definition(10_000) });
    Commit {
        run: run(n),
        first: 0,
        records: std::iter::repeat_n(record, EVENTS).collect(),
        start,
        finish,
        breakers: vec![],
    }
}

/// Returns the time of one commit of a lone run, and of one among 64 runs.
fn commits(store: &Arc<RedbStore>, from: u128) -> (Duration, Duration) {
    const ALONE: u64 = 200;
    const TOGETHER: u64 = 40;
    wait(store.commit(Commit { finish: None, ..whole(from) })).expect("written");
    let ((), alone) = timed(|| {
        for number in 0..ALONE {
            wait(store.commit(add(run(from), EVENTS as u64 + number, &[&[7; EVENT]]))).expect("written");
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let ((), together) = timed(|| {
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for n in from + 1..from + 65 {
                let store = Arc::clone(store);
                tasks.spawn(async move {
                    store.commit(Commit { finish: None, ..whole(n) }).await.expect("written");
                    for number in 0..TOGETHER {
                        let more = add(run(n), EVENTS as u64 + number, &[&[7; EVENT]]);
                        store.commit(more).await.expect("written");
                    }
                });
            }
            tasks.join_all().await;
        });
    });
    (alone / ALONE as u32, together / (64 * TOGETHER as u32))
}

/// Opens what a kill would leave of the store at `path` now, with nothing of it in memory; then again, warm. Returns
/// both times, and how long its unfinished runs take to be listed.
fn reopened(path: &Path) -> (Duration, Duration, Duration) {
    let left = path.with_extension("left");
    fs::copy(path, &left).expect("copied");
    let file = File::open(&left).expect("it opens");
    file.sync_all().expect("synced");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a hint");
    let (store, cold) = timed(|| open(&left));
    let (unfinished, listed) = timed(|| store.live().expect("readable").len());
    assert!(unfinished >= UNFINISHED as usize);
    drop(store);
    fs::copy(path, &left).expect("copied");
    let (store, warm) = timed(|| open(&left));
    drop(store);
    fs::remove_file(left).expect("removed");
    (cold, warm, listed)
}

#[test]
#[ignore = "takes minutes and gigabytes; FLOWRUN_MEASURE_STORE names the sizes in MiB"]
fn opening_after_a_crash() {
    let sizes = std::env::var("FLOWRUN_MEASURE_STORE").unwrap_or_else(|_| "16 64".into());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("flowrun.redb");
    let mut next = 0;
    println!("| file MiB | open cold | warm | list unfinished | commit alone | commit of 64 |");
    for mib in sizes.split_whitespace().map(|text| text.parse::<u64>().expect("a size in MiB")) {
        next = fill(&path, next, mib << 20);
        let store = Arc::new(open(&path));
        let (alone, together) = commits(&store, next);
        next += 100;
        let (cold, warm, listed) = reopened(&path);
        store.close().expect("closed");
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "| {} | {:.0} ms | {:.0} ms | {:.1} ms | {:.2} ms | {:.3} ms |",
            size(&path) >> 20,
            ms(cold),
            ms(warm),
            ms(listed),
            ms(alone),
            ms(together)
        );
        let (store, clean) = timed(|| open(&path));
        store.close().expect("closed");
        println!("| {} | closed in order | {:.0} ms | | | |", size(&path) >> 20, clean.as_secs_f64() * 1e3);
    }
}
