//! The log: one write in one place makes a group of commits durable.
//!
//! redb makes a transaction durable by writing every page that it touched, wherever these lie: ten for a single row, and
//! a disk takes longer for ten places than for one. So the file has a log at its front. A group is appended to it and
//! synced; then its transaction is committed in redb without being durable there, which costs no input or output. When the
//! log is full, the next transaction is made durable in redb, with all that came before it, and says which group comes
//! next; the log begins again at its front. Whoever opens the file applies what the log has behind that.
//!
//! ```text
//! page 0      the head: magic, length of the log, checksum
//! then        the log: groups, each from the beginning of a page on
//! then        the pages of redb
//!
//! group       checksum of all that follows (4), number (8), length of the commits (4), commits, each after its length
//! ```
//!
//! Groups are numbered without end, so what is left of an earlier round is not taken for the present one. A group is
//! written only when the one before it is durable: a later one without the one that comes next can only mean damage.
//!
//! It knows nothing of rows and transactions.

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{BackendError, StorageBackend};

use super::bundle::{add_written, all_unbundled};
use super::change::Change;
use super::held::locks_of_below;
use super::tables::Fault;
use crate::teeth::{Bug, awake};

/// The length of a log. A longer one is emptied more rarely, and holds the others up for longer.
pub(super) const LENGTH: u64 = 4 << 20;

/// The length for a store that is no file; tests fill it now and then.
pub(super) const SHORT: u64 = 24 << 10;

/// Where groups begin: no page is written for two of them, so that a torn write of one leaves the other as it was.
const PAGE: u64 = 4096;

/// What every store begins with.
const MAGIC: &[u8; 16] = b"flowrun store 1\n";

/// What a file of redb begins with.
const MAGIC_OF_REDB: &[u8; 9] = b"redb\x1A\x0A\xA9\x0D\x0A";

/// The bytes of the head: magic, length of the log, checksum of both.
const HEAD: usize = 16 + 8 + 4;

/// Bytes before the commits of a group.
const HEADER: usize = 4 + 8 + 4;

/// Returns where redb's pages begin behind a log of this length.
pub(super) const fn pages_at(log: u64) -> u64 {
    PAGE + log
}

/// Why something is not a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoStore {
    /// It has no bytes.
    Empty,
    /// It is a file of redb, and nothing more.
    Redb,
    /// It is something else.
    Other,
    /// It ends where a store goes on.
    Cut,
}

/// What log and pages lie on. After a change that failed nothing is changed any more: what is there then is looked at by
/// the next process, and redb does not know of an error of the log.
#[derive(Debug)]
struct Disk {
    inner: Box<dyn StorageBackend>,
    failed: AtomicBool,
}

impl Disk {
    fn change<T>(&self, change: impl FnOnce(&dyn StorageBackend) -> io::Result<T>) -> io::Result<T> {
        if self.failed.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier write failed"));
        }
        let mut outcome = Outcome { failed: &self.failed, good: false };
        let changed = change(&*self.inner)?;
        outcome.good = true;
        Ok(changed)
    }
}

/// Notes that a change failed, also if it ended in a panic.
struct Outcome<'a> {
    failed: &'a AtomicBool,
    good: bool,
}

impl Drop for Outcome<'_> {
    fn drop(&mut self) {
        if !self.good {
            self.failed.store(true, Ordering::Release);
        }
    }
}

/// A file that begins like a store.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    disk: Arc<Disk>,
    /// The length of its log.
    log: u64,
}

impl Layout {
    /// Returns the parts of the store on a disk. If it is empty, it is made the beginning of one with a log of so many bytes
    /// if `make` says so.
    pub fn of(disk: impl StorageBackend, make: Option<u64>) -> io::Result<Result<Self, NoStore>> {
        let disk = Disk { inner: Box::new(disk), failed: AtomicBool::new(false) };
        Ok(match (Self::read(&disk)?, make) {
            (Err(NoStore::Empty), Some(log)) => Ok(Self { log: Self::begin(&disk, log)?, disk: Arc::new(disk) }),
            (Ok(log), _) => Ok(Self { log, disk: Arc::new(disk) }),
            (Err(other), _) => Err(other),
        })
    }

    /// Makes an empty disk the beginning of a store, and returns the length of its log.
    fn begin(disk: &Disk, log: u64) -> io::Result<u64> {
        let log = log.next_multiple_of(PAGE);
        let mut head = [0; HEAD];
        head[..16].copy_from_slice(MAGIC);
        head[16..24].copy_from_slice(&log.to_le_bytes());
        let sum = crc32fast::hash(&head[..24]);
        head[24..].copy_from_slice(&sum.to_le_bytes());
        disk.change(|disk| disk.set_len(pages_at(log)))?;
        disk.change(|disk| disk.write(0, &head))?;
        Ok(log)
    }

    /// Looks at what is on a disk, and returns the length of its log.
    fn read(disk: &Disk) -> io::Result<Result<u64, NoStore>> {
        let length = disk.inner.len()?;
        if length == 0 {
            return Ok(Err(NoStore::Empty));
        }
        let mut head = [0; HEAD];
        let there = usize::try_from(length).unwrap_or(HEAD).min(HEAD);
        disk.inner.read(0, &mut head[..there])?;
        let log = u64::from_le_bytes(head[16..24].try_into().expect("8 of 28 bytes"));
        let sum = u32::from_le_bytes(head[24..].try_into().expect("4 of 28 bytes"));
        if head[..16] != *MAGIC || sum != crc32fast::hash(&head[..24]) {
            return Ok(Err(if head.starts_with(MAGIC_OF_REDB) { NoStore::Redb } else { NoStore::Other }));
        }
        // Without a page of redb it would be made anew.
        let whole = log.is_multiple_of(PAGE) && log.checked_add(2 * PAGE).is_some_and(|least| length >= least);
        Ok(if whole { Ok(log) } else { Err(NoStore::Cut) })
    }

    /// Returns the part of the file that is redb's.
    pub fn pages(&self) -> Pages {
        Pages { disk: Arc::clone(&self.disk), from: pages_at(self.log) }
    }
}

/// The part of a store's file that is redb's.
#[derive(Debug)]
pub(super) struct Pages {
    disk: Arc<Disk>,
    from: u64,
}

impl StorageBackend for Pages {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.inner.len()?.saturating_sub(self.from))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.inner.read(self.from + offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk.change(|disk| disk.set_len(self.from + length))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.change(|disk| disk.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.change(|disk| disk.write(self.from + offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.disk.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.disk.inner.try_lock_range(start, end)
    }

    locks_of_below!(disk.inner);
}

/// The log of an open store.
#[derive(Debug)]
pub(super) struct Log {
    layout: Layout,
    /// Where the next group goes, from the beginning of the log.
    at: u64,
    /// The number of the next group.
    next: u64,
    /// What the last group was put together in.
    frame: Vec<u8>,
}

impl Log {
    /// Returns the log of a store whose tables have everything before group `next`, and what it has behind that.
    pub fn open(layout: Layout, next: u64) -> Result<(Self, Vec<Vec<Change>>), Fault> {
        let mut bytes = vec![0; usize::try_from(layout.log).map_err(io::Error::other)?];
        layout.disk.inner.read(PAGE, &mut bytes)?;
        let mut log = Self { layout, at: 0, next, frame: Vec::new() };
        let mut groups = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some((number, commits, length)) = group(rest)
            && (number == log.next || awake(Bug::OldGroupApplied))
            && !awake(Bug::LogNotApplied)
        {
            let changes = all_unbundled(commits).and_then(|all| all.into_iter().map(Change::of_bytes).collect());
            groups.push(changes.ok_or_else(|| damaged(number))?);
            rest = rest.get(length..).unwrap_or_default();
            (log.at, log.next) = (log.at + length as u64, number + 1);
        }
        // Numbers rise by one and each group takes a page or more, so no later one can have a number beyond this.
        let possible = log.next + 1..=log.next + bytes.len() as u64 / PAGE;
        let is_later = |at: usize| {
            let number = rest[at..].get(4..12).map(|number| u64::from_le_bytes(number.try_into().expect("8 bytes")));
            number.is_some_and(|number| possible.contains(&number)) && group(&rest[at..]).is_some()
        };
        if (0..rest.len()).step_by(PAGE as usize).any(is_later) && !awake(Bug::DamagedLogCutOff) {
            return Err(damaged(log.next));
        }
        Ok((log, groups))
    }

    /// Returns the number of the next group.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Tells whether it has no group that the tables may lack.
    pub fn is_empty(&self) -> bool {
        self.at == 0
    }

    /// Makes a group durable; tells whether there was room for it.
    ///
    /// # Errors
    /// When the disk fails; nobody knows then whether the group is in the log.
    pub fn append<'a>(&mut self, changes: impl Iterator<Item = &'a Change>) -> io::Result<bool> {
        let frame = &mut self.frame;
        frame.clear();
        frame.resize(HEADER, 0);
        for change in changes {
            add_written(frame, |frame| change.write(frame));
        }
        let Ok(size) = u32::try_from(frame.len() - HEADER) else { return Ok(false) };
        frame[4..12].copy_from_slice(&self.next.to_le_bytes());
        frame[12..HEADER].copy_from_slice(&size.to_le_bytes());
        let sum = crc32fast::hash(&frame[4..]);
        frame[..4].copy_from_slice(&sum.to_le_bytes());
        // Whole pages need not be read before they are written.
        frame.resize(frame.len().next_multiple_of(PAGE as usize), 0);
        let length = frame.len() as u64;
        if self.at + length > self.layout.log {
            // What is larger than the log comes once in a while, and needs much room.
            if length > self.layout.log {
                self.frame = Vec::new();
            }
            return Ok(false);
        }
        self.layout.disk.change(|disk| disk.write(PAGE + self.at, frame))?;
        if !awake(Bug::SkipSync) {
            self.layout.disk.change(|disk| disk.sync_data())?;
        }
        (self.at, self.next) = (self.at + length, self.next + 1);
        Ok(true)
    }

    /// Begins at the front again: the tables have everything, and say so.
    pub fn begin_again(&mut self) {
        self.at = 0;
    }
}

fn damaged(number: u64) -> Fault {
    Fault::Damaged(format!("the file is damaged: group {number} of its log cannot be read, and there are later ones"))
}

/// Returns number and commits of the group at the beginning of these bytes, and how many bytes it takes.
fn group(bytes: &[u8]) -> Option<(u64, &[u8], usize)> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let number = u64::from_le_bytes(header[4..12].try_into().expect("8 of 16 bytes"));
    let size = usize::try_from(u32::from_le_bytes(header[12..].try_into().expect("4 of 16 bytes"))).ok()?;
    let commits = rest.get(..size)?;
    let sum = u32::from_le_bytes(header[..4].try_into().expect("4 of 16 bytes"));
    let is_whole = crc32fast::hash(&bytes[4..HEADER + size]) == sum || awake(Bug::TornGroupApplied);
    (is_whole && size > 0).then(|| (number, commits, (HEADER + size).next_multiple_of(PAGE as usize)))
}

#[cfg(test)]
mod tests {
    use super::super::change::tests::change;
    use super::super::fault::FaultDisk;
    use super::*;

    fn layout(disk: &FaultDisk) -> Layout {
        Layout::of(disk.clone(), Some(8 * PAGE)).expect("the disk works").expect("a store, or empty")
    }

    /// Returns a disk with a page of redb's behind the log.
    fn disk() -> FaultDisk {
        let disk = FaultDisk::default();
        layout(&disk).pages().set_len(PAGE).expect("it grows");
        disk
    }

    fn found(disk: &FaultDisk, next: u64) -> Result<Vec<Vec<Change>>, String> {
        match Log::open(layout(disk), next) {
            Ok((_, groups)) => Ok(groups),
            Err(Fault::Damaged(message)) => Err(message),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn groups_are_found_as_they_were_written_from_the_first_that_is_asked_for() {
        let disk = disk();
        let (mut log, none) = Log::open(layout(&disk), 1).expect("readable");
        assert!(none.is_empty() && log.is_empty());
        let groups: Vec<Vec<Change>> = (1..5).map(|n| (0..n).map(|flags| change(9, flags as u8)).collect()).collect();
        for group in &groups[..3] {
            assert!(log.append(group.iter()).expect("written"));
        }
        assert_eq!(found(&disk, 1), Ok(groups[..3].to_vec()));
        assert_eq!(found(&disk, 4), Ok(vec![]), "the tables have them all");
        log.begin_again();
        assert!(log.append(groups[3].iter()).expect("written"));
        assert_eq!(
            found(&disk, 4),
            Ok(groups[3..].to_vec()),
            "what is left of the first round is not taken for the second"
        );
    }

    #[test]
    fn a_group_that_does_not_fit_is_not_written() {
        let disk = disk();
        let (mut log, _) = Log::open(layout(&disk), 1).expect("readable");
        let large = Change { records: [vec![7; 3 * PAGE as usize]].into_iter().collect(), ..change(1, 1) };
        for fits in [true, true, false] {
            assert_eq!(log.append([&large].into_iter()).expect("the disk works"), fits);
        }
        assert_eq!(log.next(), 3);
        assert_eq!(found(&disk, 1).map(|groups| groups.len()), Ok(2));
    }

    #[test]
    fn a_damaged_group_is_not_taken_for_the_end() {
        let disk = disk();
        let (mut log, _) = Log::open(layout(&disk), 1).expect("readable");
        for n in 1..4 {
            assert!(log.append([&change(n, 1)].into_iter()).expect("written"));
        }
        for group in 0..3 {
            let mut image = disk.image();
            image[(PAGE + group * PAGE) as usize + 20] ^= 1;
            let found = found(&FaultDisk::holding(image), 1);
            match group {
                2 => assert_eq!(found.map(|groups| groups.len()), Ok(2), "the last may have been torn"),
                _ => assert!(found.is_err_and(|e| e.contains(&format!("group {} of its log", group + 1))), "{group}"),
            }
        }
    }

    #[test]
    fn tables_that_are_older_than_the_log_are_damage() {
        let disk = disk();
        let (mut log, _) = Log::open(layout(&disk), 5).expect("readable");
        assert!(log.append([&change(1, 1)].into_iter()).expect("written"));
        assert_eq!(found(&disk, 5).map(|groups| groups.len()), Ok(1));
        assert_eq!(found(&disk, 6), Ok(vec![]));
        let older = found(&disk, 4).expect_err("group 4 is missing");
        assert!(older.contains("group 4 of its log cannot be read, and there are later ones"), "{older}");
    }

    #[test]
    fn what_is_no_store_is_told_from_one_that_was_cut() {
        let of = |image| Layout::of(FaultDisk::holding(image), None).expect("readable").map(|found| found.log);
        let whole = disk().image();
        assert_eq!(of(whole.clone()), Ok(8 * PAGE));
        assert_eq!(of(vec![]), Err(NoStore::Empty));
        assert_eq!(of(b"redb\x1A\x0A\xA9\x0D\x0A and more".to_vec()), Err(NoStore::Redb));
        assert_eq!(of(b"a".to_vec()), Err(NoStore::Other));
        assert_eq!(of(whole[..whole.len() - 1].to_vec()), Err(NoStore::Cut));
        for byte in 0..HEAD {
            let mut damaged = whole.clone();
            damaged[byte] ^= 4;
            assert_eq!(of(damaged), Err(NoStore::Other), "{byte}");
        }
    }
}
