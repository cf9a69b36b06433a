//! A disk in memory that fails and loses power, for tests.
//!
//! It keeps what the process sees, and a log of every write and sync. From the log follows, for every moment, what a
//! loss of power at that moment leaves: all that was synced, and of the rest whatever the disk pleases.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// The size that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// One thing that was done to the disk, or noted beside it.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Bytes were written.
    Write(u64, Vec<u8>),
    /// The length was set.
    Length(u64),
    /// What was written before is durable.
    Sync,
    /// The test noted a number: so many commits have been acknowledged.
    Mark(usize),
}

/// How the disk misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Misbehaviour {
    /// It does not.
    #[default]
    None,
    /// The operation with this number fails, the others work.
    FailOnce(u64),
    /// This operation and all after it fail: what a process sees that is frozen there.
    FailFrom(u64),
    /// It says that it has synced, and has not.
    Lie,
    /// Reads fail.
    FailReads,
}

/// A disk in memory; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    image: Vec<u8>,
    log: Vec<Op>,
    /// Writes, changes of length and syncs so far.
    operations: u64,
    misbehaviour: Misbehaviour,
}

/// What a loss of power leaves of the writes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surviving {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// Some, in parts of whole sectors, as the number has it.
    Some(u64),
    /// All, but the last is cut at a sector, as the number has it.
    Torn(u64),
}

impl FaultDisk {
    /// Returns a disk that holds `image`.
    pub fn holding(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { image, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the disk misbehave from now on; operations are counted from here.
    pub fn misbehave(&self, misbehaviour: Misbehaviour) {
        let mut state = self.state();
        state.misbehaviour = misbehaviour;
        state.operations = 0;
    }

    /// Notes that `acknowledged` commits are known to be durable.
    pub fn mark(&self, acknowledged: usize) {
        self.state().log.push(Op::Mark(acknowledged));
    }

    /// Returns the number of operations so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Returns what the process sees on the disk.
    pub fn image(&self) -> Vec<u8> {
        self.state().image.clone()
    }

    /// Returns everything that was done to the disk.
    pub fn log(&self) -> Vec<Op> {
        self.state().log.clone()
    }
}

impl State {
    fn operation(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        let fails = match self.misbehaviour {
            Misbehaviour::FailOnce(at) => number == at,
            Misbehaviour::FailFrom(from) => number >= from,
            Misbehaviour::None | Misbehaviour::Lie | Misbehaviour::FailReads => false,
        };
        if fails { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}

impl StorageBackend for FaultDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().image.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if state.misbehaviour == Misbehaviour::FailReads {
            return Err(io::Error::from_raw_os_error(5));
        }
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let there = state.image.get(offset..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        apply(&mut state.image, &Op::Length(length));
        state.log.push(Op::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        if state.misbehaviour != Misbehaviour::Lie {
            state.log.push(Op::Sync);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        let op = Op::Write(offset, data.to_vec());
        apply(&mut state.image, &op);
        state.log.push(op);
        Ok(())
    }
}

fn apply(image: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write(offset, data) => {
            let start = usize::try_from(*offset).expect("test disks fit into memory");
            if image.len() < start + data.len() {
                image.resize(start + data.len(), 0);
            }
            image[start..start + data.len()].copy_from_slice(data);
        }
        Op::Length(length) => image.resize(usize::try_from(*length).expect("test disks fit into memory"), 0),
        Op::Sync | Op::Mark(_) => {}
    }
}

/// The disk at each moment of a log.
#[derive(Debug)]
pub(crate) struct Replay {
    durable: Vec<u8>,
    unsynced: Vec<Op>,
    acknowledged: Option<usize>,
}

impl Replay {
    /// Returns the moment before a log that began with `image` on the disk.
    pub fn from(image: Vec<u8>) -> Self {
        Self { durable: image, unsynced: vec![], acknowledged: None }
    }

    /// Goes on by one entry of the log.
    pub fn step(&mut self, op: &Op) {
        match op {
            Op::Sync => self.unsynced.drain(..).for_each(|op| apply(&mut self.durable, &op)),
            Op::Mark(acknowledged) => self.acknowledged = Some(*acknowledged),
            Op::Write(..) | Op::Length(_) => self.unsynced.push(op.clone()),
        }
    }

    /// Returns how many commits had been acknowledged; nothing before the first mark.
    pub fn acknowledged(&self) -> Option<usize> {
        self.acknowledged
    }

    /// Returns what a loss of power leaves now.
    pub fn image(&self, surviving: Surviving) -> Vec<u8> {
        let mut image = self.durable.clone();
        let last = self.unsynced.iter().rposition(|op| matches!(op, Op::Write(..)));
        let mut dice = Dice(match surviving {
            Surviving::Some(seed) | Surviving::Torn(seed) => seed,
            Surviving::Nothing | Surviving::Everything => 0,
        });
        for (at, op) in self.unsynced.iter().enumerate() {
            match (surviving, op) {
                (Surviving::Nothing, _) => {}
                (Surviving::Some(_), Op::Write(offset, data)) => {
                    for (sector, part) in data.chunks(SECTOR).enumerate() {
                        if dice.below(2) == 0 {
                            apply(&mut image, &Op::Write(offset + (sector * SECTOR) as u64, part.to_vec()));
                        }
                    }
                }
                // A length is one entry in the file system's own journal, which keeps the order.
                (Surviving::Torn(_), Op::Write(offset, data)) if Some(at) == last => {
                    let sectors = data.len().div_ceil(SECTOR);
                    let kept = (dice.below(sectors as u64) as usize * SECTOR).min(data.len());
                    apply(&mut image, &Op::Write(*offset, data[..kept].to_vec()));
                }
                _ => apply(&mut image, op),
            }
        }
        image
    }
}

/// A few random numbers that a seed repeats.
#[derive(Debug)]
pub(crate) struct Dice(pub u64);

impl Dice {
    /// Returns a number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{Dump, add, definition, done, dump, finish, run, start, wait};
    use super::super::journal::{Commit, Journal as _, StoreError};
    use super::super::memory::MemoryStore;
    use super::super::redb::RedbStore;
    use super::*;
    use crate::machine::event::Compensation;

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
    fn a01_a02_a03_the_same_where_commits_are_made_for_a_quick_repair() {
        let commits = workload();
        let states = expected(&commits);
        let disk = FaultDisk::default();
        let store = RedbStore::with_backend_quick_repair(disk.clone()).expect("a new store");
        let syncs = |disk: &FaultDisk| disk.log().iter().filter(|op| matches!(op, Op::Sync)).count();
        let before = syncs(&disk);
        assert_eq!(work_in(store, &disk, &commits), (commits.len(), None));
        assert!(syncs(&disk) - before >= 2 * commits.len(), "a commit for a quick repair has two phases");
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
        let operations = disk.operations();
        assert!(operations > 200);

        let step = if full() { 1 } else { 11 };
        for at in (0..operations).step_by(step) {
            for fault in [Misbehaviour::FailOnce(at), Misbehaviour::FailFrom(at)] {
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
        disk.misbehave(Misbehaviour::FailReads);
        assert!(matches!(RedbStore::with_backend(disk), Err(StoreError::Io { .. })));
    }
}
