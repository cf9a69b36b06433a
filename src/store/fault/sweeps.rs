//! The store alone, under commits of made-up runs, on a disk that loses power or fails at every moment.

use super::{Calls, EIO, FaultDisk, Misbehaviour, Op, Replay, Surviving};
use crate::machine::event::Compensation;
use crate::store::conformance::{Dump, add, definition, done, dump, finish, run, start, wait};
use crate::store::journal::{Commit, Journal as _, StoreError};
use crate::store::memory::MemoryStore;
use crate::store::redb::RedbStore;

/// Some dozens of commits of interleaved runs, small and large.
fn workload() -> Vec<Commit> {
    let mut commits = Vec::new();
    for round in 0..7 {
        for n in 1..=5_u128 {
            let (id, large) = (format!("order-{n}"), vec![n as u8; 9000]);
            commits.push(match round {
                0 => {
                    let mut first = start(run(n), &id, &[b"started", b"first"]);
                    first.start.as_mut().expect("it starts").definition = definition(n as usize * 1500);
                    first
                }
                3 => add(run(n), round + 1, &[&large]),
                6 => finish(run(n), round + 1, &[b"end"], done(&id, Compensation::Complete)),
                _ => Commit {
                    breakers: vec![(format!("service-{n}"), vec![round as u8])],
                    ..add(run(n), round + 1, &[format!("event {round}").as_bytes()])
                },
            });
        }
    }
    commits
}

/// What a store must look like after each number of commits.
fn expected(commits: &[Commit]) -> Vec<Dump> {
    let model = MemoryStore::default();
    let look = || dump(&model).expect("memory can be read");
    let mut states = vec![look()];
    for commit in commits {
        wait(model.commit(commit.clone())).expect("the workload is sound");
        states.push(look());
    }
    states
}

/// Runs the workload on `disk`, which marks every acknowledgement. Returns how many there were, and what ended it.
fn work(disk: &FaultDisk, commits: &[Commit]) -> (usize, Option<StoreError>) {
    match RedbStore::with_backend(disk.clone()) {
        Ok(store) => work_in(store, disk, commits),
        Err(error) => (0, Some(error)),
    }
}

fn work_in(store: RedbStore, disk: &FaultDisk, commits: &[Commit]) -> (usize, Option<StoreError>) {
    disk.mark(0);
    for (index, commit) in commits.iter().enumerate() {
        if let Err(error) = wait(store.commit(commit.clone())) {
            let again = wait(store.commit(commit.clone())).expect_err("nothing is written after a failure");
            assert_eq!(again, error);
            return (index, Some(error));
        }
        disk.mark(index + 1);
    }
    drop(store);
    (commits.len(), None)
}

/// Opens what a crash left. Returns what is wrong with it.
fn flaw(image: Vec<u8>, acknowledged: usize, states: &[Dump]) -> Option<String> {
    let store = match RedbStore::with_backend(FaultDisk::holding(image)) {
        Ok(store) => store,
        Err(error) => return Some(format!("does not open: {error}")),
    };
    let found = match dump(&store) {
        Ok(found) => found,
        Err(error) => return Some(format!("cannot be read: {error}")),
    };
    // The commit that was under way may have got through.
    let may_be = &states[acknowledged..states.len().min(acknowledged + 2)];
    if !may_be.contains(&found) {
        let is = states.iter().position(|state| *state == found);
        return Some(format!("{acknowledged} commits were acknowledged, and it has the state after {is:?}"));
    }
    let probe = start(run(99), "probe", &[b"x"]);
    wait(store.commit(probe)).err().map(|error| format!("does not go on: {error}"))
}

/// Tells whether everything is to be tried; by default the tests try a part, so that they take seconds.
fn full() -> bool {
    std::env::var_os("FLOWRUN_FULL").is_some()
}

/// Loses power after every entry of `log`, in two of four ways each, or in all. Returns the flaws.
fn sweep(before: Vec<u8>, log: &[Op], states: &[Dump]) -> (usize, Vec<String>) {
    let (mut replay, mut flaws, mut crashes) = (Replay::from(before), Vec::new(), 0);
    for (at, op) in log.iter().enumerate() {
        replay.step(op);
        let (Some(acknowledged), false) = (replay.acknowledged(), matches!(op, Op::Mark(_))) else { continue };
        let seed = at as u64;
        let images = match op {
            // Nothing is unsynced just after a sync.
            Op::Sync => vec![Surviving::Nothing],
            _ if full() => {
                vec![Surviving::Nothing, Surviving::Everything, Surviving::Some(seed), Surviving::Torn(seed)]
            }
            _ => vec![
                if at % 2 == 0 { Surviving::Nothing } else { Surviving::Everything },
                [Surviving::Some(seed), Surviving::Torn(seed)][at / 2 % 2],
            ],
        };
        for surviving in images {
            crashes += 1;
            if let Some(flaw) = flaw(replay.image(surviving), acknowledged, states) {
                flaws.push(format!("crash after operation {at}, surviving {surviving:?}: {flaw}"));
            }
        }
    }
    (crashes, flaws)
}

#[test]
fn a01_a02_a03_no_crash_loses_or_tears_a_commit() {
    let commits = workload();
    let states = expected(&commits);
    let disk = FaultDisk::default();
    assert_eq!(work(&disk, &commits), (commits.len(), None));
    let (crashes, flaws) = sweep(vec![], &disk.log(), &states);
    assert!(crashes > 250, "only {crashes} crashes were tried");
    assert!(flaws.is_empty(), "{} of {crashes}:\n{}", flaws.len(), flaws.join("\n"));
}

#[test]
fn a01_a02_a03_the_same_where_every_commit_is_made_durable_in_the_tables() {
    let commits = workload();
    let states = expected(&commits);
    let disk = FaultDisk::default();
    // Not one group fits into a log of no length.
    let store = RedbStore::with_backend_and_log(disk.clone(), 0).expect("a new store");
    let syncs = |disk: &FaultDisk| disk.log().iter().filter(|op| matches!(op, Op::Sync)).count();
    let before = syncs(&disk);
    assert_eq!(work_in(store, &disk, &commits), (commits.len(), None));
    assert!(syncs(&disk) - before >= 2 * commits.len(), "a transaction of the tables has two phases");
    let (crashes, flaws) = sweep(vec![], &disk.log(), &states);
    assert!(crashes > 250, "only {crashes} crashes were tried");
    assert!(flaws.is_empty(), "{} of {crashes}:\n{}", flaws.len(), flaws.join("\n"));
}

/// The sweep has teeth: a disk that lies about its syncs is found out.
#[test]
fn a_disk_that_does_not_sync_is_caught() {
    let commits = workload();
    let states = expected(&commits);
    let disk = FaultDisk::default();
    drop(RedbStore::with_backend(disk.clone()).expect("a new store"));
    let before = disk.image();
    let disk = FaultDisk::holding(before.clone());
    disk.misbehave(Misbehaviour::Lie);
    assert_eq!(work(&disk, &commits), (commits.len(), None));
    let (_, flaws) = sweep(before, &disk.log(), &states);
    assert!(flaws.iter().any(|flaw| flaw.contains("were acknowledged")), "{flaws:?}");
}

#[test]
fn a05_a_crash_of_the_repair_loses_nothing_either() {
    let commits = workload();
    let states = expected(&commits);
    let disk = FaultDisk::default();
    work(&disk, &commits);
    let mut replay = Replay::from(vec![]);
    let mut tried = 0;
    for (at, op) in disk.log().iter().enumerate() {
        replay.step(op);
        let Some(acknowledged) = replay.acknowledged() else { continue };
        if at % 41 != 0 {
            continue;
        }
        let image = replay.image(Surviving::Some(at as u64));
        let repaired = FaultDisk::holding(image.clone());
        repaired.mark(acknowledged);
        drop(RedbStore::with_backend(repaired.clone()).expect("the first crash is survived"));
        // The repair may only have kept the commit that was under way, or not: both states stay allowed.
        let mut second = Replay::from(image);
        for (step, op) in repaired.log().iter().enumerate() {
            second.step(op);
            for surviving in [Surviving::Nothing, Surviving::Everything, Surviving::Torn(step as u64)] {
                tried += 1;
                assert_eq!(flaw(second.image(surviving), acknowledged, &states), None, "crash {at}, then {step}");
            }
        }
    }
    assert!(tried > 100, "only {tried} second crashes were tried");
}

#[test]
fn b01_b02_b03_an_error_of_the_disk_ends_the_store_and_loses_nothing() {
    let commits = workload();
    let states = expected(&commits);
    let disk = FaultDisk::default();
    drop(RedbStore::with_backend(disk.clone()).expect("a new store"));
    let empty = disk.image();
    let disk = FaultDisk::holding(empty.clone());
    disk.misbehave(Misbehaviour::None);
    work(&disk, &commits);
    let operations = disk.changes();
    assert!(operations > 200);

    let step = if full() { 1 } else { 11 };
    for at in (0..operations).step_by(step) {
        for fault in [false, true].map(|lasting| Misbehaviour::Fail { calls: Calls::Changes, at, lasting, errno: EIO })
        {
            let disk = FaultDisk::holding(empty.clone());
            disk.misbehave(fault);
            let (acknowledged, error) = work(&disk, &commits);
            if acknowledged < commits.len() {
                let error = error.expect("it ended early");
                assert!(
                    matches!(&error, StoreError::Io { message, .. } if message.contains("os error 5")),
                    "{error:?}"
                );
            }
            // The next process finds what the system still has in memory, or after a loss of power what was synced.
            assert_eq!(flaw(disk.image(), acknowledged, &states), None, "{fault:?}");
            let mut replay = Replay::from(empty.clone());
            disk.log().iter().for_each(|op| replay.step(op));
            assert_eq!(flaw(replay.image(Surviving::Nothing), acknowledged, &states), None, "{fault:?}");
        }
    }
}

#[test]
fn b04_an_error_while_reading_is_an_error() {
    let disk = FaultDisk::default();
    work(&disk, &workload());
    let disk = FaultDisk::holding(disk.image());
    disk.misbehave(Misbehaviour::Fail { calls: Calls::Reads, at: 0, lasting: true, errno: EIO });
    assert!(matches!(RedbStore::with_backend(disk), Err(StoreError::Io { .. })));
}
