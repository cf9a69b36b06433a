//! A disk in memory that fails and loses power, for tests.
//!
//! It keeps what the process sees, and a log of every write and sync. From the log follows, for every moment, what a
//! loss of power at that moment leaves: all that was synced, and of the rest whatever the disk pleases.

#[cfg(test)]
mod sweeps;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Database, ReadableTable as _, StorageBackend};

use super::bundle::{Bundle, bundles, unbundled};
use super::log::{self, Layout};
use super::tables::{BY_RUN, JOURNAL, Pointer, run_and_number};
use crate::dice::Dice;
use crate::names::RunKey;

/// The size that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Where redb's pages begin on such a disk.
pub(crate) const PAGES_AT: usize = log::pages_at(log::SHORT) as usize;

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

/// The error of a disk that is broken.
pub(crate) const EIO: i32 = 5;

/// Which calls are counted until one fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// Writes, changes of length and syncs.
    Changes,
    /// Reads.
    Reads,
}

/// How the disk misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Misbehaviour {
    /// It does not.
    #[default]
    None,
    /// The call with this number fails, and if `lasting` all after it, with this error of the system.
    Fail { calls: Calls, at: u64, lasting: bool, errno: i32 },
    /// The change with this number, if it is a write, leaves half of it and then says that nothing more fits.
    ShortWrite(u64),
    /// The change with this number panics.
    Panic(u64),
    /// It says that it has synced, and has not.
    Lie,
}

/// A disk in memory; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    image: Vec<u8>,
    log: Vec<Op>,
    /// Writes, changes of length and syncs so far.
    changes: u64,
    reads: u64,
    /// How many changes there had been when a call failed for the first time.
    failed: Option<u64>,
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

    /// Lets the disk misbehave from now on; calls are counted from here.
    pub fn misbehave(&self, misbehaviour: Misbehaviour) {
        let mut state = self.state();
        state.misbehaviour = misbehaviour;
        (state.changes, state.reads, state.failed) = (0, 0, None);
    }

    /// Returns how many changes were tried since a call failed, that one not counted; nothing if none has failed.
    pub fn tried_since_failure(&self) -> Option<u64> {
        let state = self.state();
        state.failed.map(|failed| state.changes - failed)
    }

    /// Notes that `acknowledged` commits are known to be durable.
    pub fn mark(&self, acknowledged: usize) {
        self.state().log.push(Op::Mark(acknowledged));
    }

    /// Returns the number of changes so far.
    pub fn changes(&self) -> u64 {
        self.state().changes
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
    /// Counts a call of `kind`, which fails if the disk is to misbehave just there.
    fn called(&mut self, kind: Calls) -> io::Result<()> {
        let counter = if kind == Calls::Changes { &mut self.changes } else { &mut self.reads };
        let number = *counter;
        *counter += 1;
        let error = match self.misbehaviour {
            Misbehaviour::Fail { calls, at, lasting, errno } if calls == kind => {
                (number == at || lasting && number > at).then(|| io::Error::from_raw_os_error(errno))
            }
            Misbehaviour::Panic(at) if kind == Calls::Changes && number == at => {
                self.failed = Some(self.changes);
                panic!("the disk's driver has a bug");
            }
            _ => None,
        };
        if error.is_some() {
            self.failed.get_or_insert(self.changes);
        }
        error.map_or(Ok(()), Err)
    }
}

impl StorageBackend for FaultDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().image.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        state.called(Calls::Reads)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let there = state.image.get(offset..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        state.called(Calls::Changes)?;
        apply(&mut state.image, &Op::Length(length));
        state.log.push(Op::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.called(Calls::Changes)?;
        if state.misbehaviour != Misbehaviour::Lie {
            state.log.push(Op::Sync);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let short = state.misbehaviour == Misbehaviour::ShortWrite(state.changes);
        state.called(Calls::Changes)?;
        if short {
            let half = Op::Write(offset, data[..data.len() / 2].to_vec());
            apply(&mut state.image, &half);
            state.log.push(half);
            state.failed = Some(state.changes);
            return Err(io::ErrorKind::WriteZero.into());
        }
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

/// Changes the records of a run in the store on `disk`, behind the back of everything that would notice. `change` is
/// given the number of the first event of the commit, the event's own number, and its record.
pub(crate) fn edit_records(disk: &FaultDisk, run: RunKey, mut change: impl FnMut(u64, u64, &mut Vec<u8>)) {
    let layout = Layout::of(disk.clone(), None).expect("readable").expect("a store");
    let database = Database::builder().create_with_backend(layout.pages()).expect("a database");
    let tx = database.begin_write().expect("a transaction");
    {
        let mut journal = tx.open_table(JOURNAL).expect("the table");
        for row in tx.open_table(BY_RUN).expect("the table").iter().expect("readable") {
            let (key, row) = row.expect("readable");
            let ((owner, first), pointer) = (run_and_number(key.value()), Pointer::of_bytes(row.value()));
            if owner != run {
                continue;
            }
            let (at, row) = {
                let mut rows = journal.range(..=pointer.sequence).expect("readable");
                let (at, row) = rows.next_back().expect("a row").expect("readable");
                (at.value(), row.value().to_vec())
            };
            let mut commits: Vec<Vec<u8>> = bundles(&row).map(<[u8]>::to_vec).collect();
            let commit = usize::try_from(pointer.sequence - at).expect("a place in the row");
            let records = unbundled(&commits[commit], pointer.count).expect("a bundle").into_iter().map(<[u8]>::to_vec);
            let changed = records.zip(first..).map(|(mut record, number)| {
                change(first, number, &mut record);
                record
            });
            commits[commit] = changed.collect::<Bundle>().bytes().to_vec();
            journal.insert(at, commits.iter().collect::<Bundle>().bytes()).expect("written");
        }
    }
    tx.commit().expect("written");
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
