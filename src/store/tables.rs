//! The tables of the store's file, and how they are read.
//!
//! This module owns keys and rows. Who writes when is the writer's business, what an event means the machine's.

use std::sync::Arc;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition};

use super::bundle::{bundles, unbundled};
use super::format::{self, FormatError};
use super::journal::{DoneRow, LiveRow, RunRow, StoreError};
use crate::names::RunKey;
use crate::teeth::{Bug, awake};

/// The records of all commits of all runs, in the order of the commits, which are numbered. A row has those of commits that
/// were written together, under the number of the first.
pub(super) const JOURNAL: TableDefinition<u64, &[u8]> = TableDefinition::new("journal");
/// Where a run's records are: run and number of the commit's first event -> a [`Pointer`].
pub(super) const BY_RUN: TableDefinition<&[u8; 24], &[u8; POINTER]> = TableDefinition::new("by_run");
/// Summaries of runs that are not final.
pub(super) const LIVE: TableDefinition<&[u8; 16], &[u8]> = TableDefinition::new("live");
/// Summaries of final runs.
pub(super) const DONE: TableDefinition<&[u8; 16], &[u8]> = TableDefinition::new("done");
/// The users' ids.
pub(super) const IDS: TableDefinition<&str, &[u8; 16]> = TableDefinition::new("ids");
/// Pinned definitions by their fingerprints.
pub(super) const DEFINITIONS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("definitions");
/// Breaker states by service.
pub(super) const BREAKERS: TableDefinition<&str, &[u8]> = TableDefinition::new("breakers");
/// What the file is: `format`, `needs`, `id`, `created`, `copied`, `logged`. Stays as it is in every later format.
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// The format of the tables that is written, and the newest that is known.
pub(super) const FORMAT: u32 = 1;

/// The first flowrun that knows this format. A raised format, and a raised version of records with it, takes a new one.
pub(super) const NEEDS: &str = "0.1.0";

/// The key in `meta` that says when the store was copied; the first commit takes it away.
pub(super) const COPIED: &str = "copied";

/// The key in `meta` that says which group of the log is the first that the tables may lack.
pub(super) const LOGGED: &str = "logged";

/// Returns the key of a run's record in `by_run`.
pub(super) fn place(run: RunKey, number: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(run.0.as_bytes());
    key[16..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Takes the key of a run's record apart.
pub(super) fn run_and_number(place: &[u8; 24]) -> (RunKey, u64) {
    let (run, number) = place.split_at(16);
    let run = run.try_into().expect("the first 16 of 24 bytes");
    let number = number.try_into().expect("the last 8 of 24 bytes");
    (RunKey(uuid::Uuid::from_bytes(run)), u64::from_be_bytes(number))
}

/// The bytes of a row of `by_run`.
pub(super) const POINTER: usize = 16;

/// A row of `by_run`: where the records of a commit are, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    /// The key in `journal`.
    pub sequence: u64,
    /// How many records the row there has.
    pub count: u32,
    seal: u32,
}

impl Pointer {
    /// Makes the row that leads from `place` to a bundle: sealed, so that neither can be exchanged for another. `sum`
    /// is the bundle's own checksum.
    pub fn new(place: &[u8; 24], sequence: u64, count: u32, sum: u32) -> Self {
        let mut seal = crc32fast::Hasher::new();
        seal.update(place);
        seal.update(&sequence.to_be_bytes());
        seal.update(&count.to_be_bytes());
        seal.update(&sum.to_be_bytes());
        Self { sequence, count, seal: seal.finalize() }
    }

    /// Returns the row as bytes.
    pub fn to_bytes(self) -> [u8; POINTER] {
        let mut row = [0; POINTER];
        row[..8].copy_from_slice(&self.sequence.to_be_bytes());
        row[8..12].copy_from_slice(&self.count.to_be_bytes());
        row[12..].copy_from_slice(&self.seal.to_be_bytes());
        row
    }

    /// Reads a row.
    pub fn of_bytes(row: &[u8; POINTER]) -> Self {
        let part = |at: usize| u32::from_be_bytes(row[at..at + 4].try_into().expect("4 of 16 bytes"));
        let sequence = u64::from_be_bytes(*row.first_chunk().expect("8 of 16 bytes"));
        Self { sequence, count: part(8), seal: part(12) }
    }
}

/// The most that commits share a row for: with what redb adds, it fills pages of 32 KiB. A larger commit has a row of its
/// own.
pub(super) const ROW: usize = (32 << 10) - 64;

/// Finds the bundle of the commit with this number.
pub(super) fn bundle_of<T>(
    journal: &impl ReadableTable<u64, &'static [u8]>,
    sequence: u64,
    read: impl FnOnce(Option<&[u8]>) -> T,
) -> Result<T, Fault> {
    let row = journal.range(..=sequence)?.next_back().transpose()?;
    let row = row.as_ref().map(|(first, row)| (first.value(), row.value()));
    let bundle = row.and_then(|(first, row)| bundles(row).nth(usize::try_from(sequence - first).ok()?));
    Ok(read(bundle))
}

/// Returns the number of the next commit.
pub(super) fn next_sequence(journal: &impl ReadableTable<u64, &'static [u8]>) -> Result<u64, Fault> {
    let last = journal.last()?;
    // A row has commits, so also after one that is damaged comes a number that is free.
    Ok(last.map_or(0, |(first, row)| first.value().saturating_add((bundles(row.value()).count() as u64).max(1))))
}

/// Returns the run of a key of `live`, `done` or a row of `ids`.
pub(super) fn run_key(bytes: &[u8; 16]) -> RunKey {
    RunKey(uuid::Uuid::from_bytes(*bytes))
}

/// What went wrong below the trait: redb's error, or a row that is not what was written.
#[derive(Debug)]
pub(super) enum Fault {
    /// redb's own.
    Redb(redb::Error),
    /// A row is damaged; says which.
    Damaged(String),
    /// Something that must be there is not.
    Missing(String),
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

impl Fault {
    /// Returns what a caught panic of redb means.
    pub fn panicked(panic: &str) -> Self {
        Self::Damaged(format!("the file is damaged: {panic}"))
    }

    /// Returns the error as the engine sees it.
    pub fn at(self, path: &str) -> StoreError {
        let corrupt = |message: String| StoreError::Corrupt { path: path.into(), message };
        match self {
            Self::Redb(error) => from_redb(path, error),
            Self::Damaged(what) => corrupt(what),
            Self::Missing(what) => StoreError::Missing { what },
        }
    }
}

/// Returns what redb says as the store's error.
pub(super) fn from_redb(path: &str, error: redb::Error) -> StoreError {
    use redb::Error;
    let path = path.to_owned();
    let corrupt = |message: String| StoreError::Corrupt { path: path.clone(), message };
    match error {
        Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => StoreError::Busy { path },
        Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            corrupt("the file is damaged: it ends too early".into())
        }
        Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            corrupt(format!("the file is damaged: {error}"))
        }
        Error::Io(error) => StoreError::Io { path, message: io_message(&error) },
        Error::PreviousIo => StoreError::Io { path, message: "an earlier read or write failed".into() },
        Error::DatabaseClosed => StoreError::Io { path, message: "the store is closed".into() },
        Error::Corrupted(what) => corrupt(format!("the file is damaged: {what}")),
        Error::TableTypeMismatch { table, .. } => corrupt(format!("table `{table}` is not one of flowrun's")),
        Error::TableDoesNotExist(table) => corrupt(format!("table `{table}` is missing")),
        Error::UpgradeRequired(version) => {
            corrupt(format!("the file has version {version} of redb's format, which is too old"))
        }
        other => StoreError::Io { path, message: other.to_string() },
    }
}

/// Returns what the system said, and what can be done about it.
pub(super) fn io_message(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    let remedy = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "; free some space, then `flowrun resume`: everything that was recorded is kept"
        }
        ErrorKind::FileTooLarge => "; raise the limit on the size of files, then `flowrun resume`",
        ErrorKind::PermissionDenied => "; the user that runs flowrun must be able to read and write it",
        ErrorKind::ReadOnlyFilesystem => "; name a store on a disk that can be written with --store",
        _ => "",
    };
    format!("{error}{remedy}")
}

/// Reads a summary.
fn row<T: serde::de::DeserializeOwned>(table: &str, run: RunKey, bytes: &[u8]) -> Result<T, Fault> {
    format::decode_row(bytes).map_err(|e| Fault::Damaged(format!("run {run}, row in `{table}`: {e}")))
}

/// Reads a row of `live`.
pub(super) fn live_row(run: RunKey, bytes: &[u8]) -> Result<LiveRow, Fault> {
    row("live", run, bytes)
}

/// Reads a row of `done`.
pub(super) fn done_row(run: RunKey, bytes: &[u8]) -> Result<DoneRow, Fault> {
    row("done", run, bytes)
}

/// Returns the records of a run, in order.
pub(super) fn records(tx: &ReadTransaction, run: RunKey) -> Result<Vec<Vec<u8>>, Fault> {
    let mut records = Vec::new();
    each_bundle(tx, run, 0, |bundle| {
        records.extend(bundle?);
        Ok(true)
    })?;
    Ok(records)
}

/// Returns records of a run in order, from number `from` on, until they have `bytes`.
pub(super) fn records_from(tx: &ReadTransaction, run: RunKey, from: u64, bytes: usize) -> Result<Vec<Vec<u8>>, Fault> {
    let (mut records, mut sum) = (Vec::new(), 0);
    each_bundle(tx, run, from, |bundle| match bundle {
        Ok(bundle) => {
            sum += bundle.iter().map(Vec::len).sum::<usize>();
            records.extend(bundle);
            Ok(sum <= bytes)
        }
        // What comes before it can be used; who asks for it is told.
        Err(Fault::Damaged(_)) if !records.is_empty() => Ok(false),
        Err(fault) => Err(fault),
    })?;
    Ok(records)
}

/// Returns the records of a run's last commit that begins below number `before`, and the number of the first.
pub(super) fn records_back(tx: &ReadTransaction, run: RunKey, before: u64) -> Result<(u64, Vec<Vec<u8>>), Fault> {
    let (by_run, journal) = (tx.open_table(BY_RUN)?, tx.open_table(JOURNAL)?);
    let Some(last) = by_run.range::<&[u8; 24]>(&place(run, 0)..&place(run, before))?.next_back().transpose()? else {
        return if before > 0 && summary(tx, run)?.is_some() {
            Err(Fault::Damaged(format!("run {run}: event 0 is missing")))
        } else {
            Ok((0, Vec::new()))
        };
    };
    let (key, row) = last;
    let (_, first) = run_and_number(key.value());
    let mut records = records_of(&journal, key.value(), Pointer::of_bytes(row.value()))?;
    records.truncate(usize::try_from(before - first).unwrap_or(usize::MAX));
    Ok((first, records))
}

/// Goes through the records of a run, commit by commit, from number `from` on, until `take` has enough.
fn each_bundle(
    tx: &ReadTransaction,
    run: RunKey,
    from: u64,
    mut take: impl FnMut(Result<Vec<Vec<u8>>, Fault>) -> Result<bool, Fault>,
) -> Result<(), Fault> {
    let (by_run, journal) = (tx.open_table(BY_RUN)?, tx.open_table(JOURNAL)?);
    // The record may stand in the middle of its commit.
    let before = by_run.range::<&[u8; 24]>(&place(run, 0)..=&place(run, from))?.next_back().transpose()?;
    let first = before.map_or(from, |(key, _)| run_and_number(key.value()).1);
    let (mut next, mut skipped) = (first, from - first);
    let mut any = false;
    for row in by_run.range::<&[u8; 24]>(&place(run, first)..=&place(run, u64::MAX))? {
        let (key, row) = row?;
        any = true;
        let pointer = Pointer::of_bytes(row.value());
        let bundle = if run_and_number(key.value()).1 == next {
            records_of(&journal, key.value(), pointer)
        } else {
            Err(Fault::Damaged(format!("run {run}: event {next} is missing")))
        };
        let wanted = bundle.map(|mut bundle| {
            bundle.drain(..usize::try_from(skipped).unwrap_or(usize::MAX).min(bundle.len()));
            bundle
        });
        skipped = skipped.saturating_sub(u64::from(pointer.count));
        next = next.saturating_add(u64::from(pointer.count));
        if !take(wanted)? {
            return Ok(());
        }
    }
    if !any && from == 0 && summary(tx, run)?.is_some() {
        return take(Err(Fault::Damaged(format!("run {run}: event 0 is missing")))).map(drop);
    }
    Ok(())
}

/// Returns the records that a row of `by_run` points at.
pub(super) fn records_of(
    journal: &ReadOnlyTable<u64, &'static [u8]>,
    place: &[u8; 24],
    pointer: Pointer,
) -> Result<Vec<Vec<u8>>, Fault> {
    bundle_of(journal, pointer.sequence, |bundle| records_in(bundle, place, pointer))?
}

/// Returns the records of a bundle, if it is the one that was written.
fn records_in(bundle: Option<&[u8]>, place: &[u8; 24], pointer: Pointer) -> Result<Vec<Vec<u8>>, Fault> {
    let (run, number) = run_and_number(place);
    let Some(bundle) = bundle else {
        return Err(Fault::Damaged(format!("run {run}: event {number} is missing")));
    };
    let records = unbundled(bundle, pointer.count);
    let sealed = Pointer::new(place, pointer.sequence, pointer.count, crc32fast::hash(bundle)) == pointer
        || awake(Bug::SealNotChecked);
    match records {
        Some(records) if sealed => Ok(records.into_iter().map(<[u8]>::to_vec).collect()),
        records => {
            // The one that was changed can be told by its own checksum, unless it was exchanged as a whole.
            let damaged = records.iter().flatten().position(|record| format::decode(record).is_err());
            let number = number + damaged.unwrap_or(0) as u64;
            Err(Fault::Damaged(format!("run {run}: event {number} is not the one that was written")))
        }
    }
}

/// Returns how many records a run has.
pub(super) fn count(
    by_run: &impl ReadableTable<&'static [u8; 24], &'static [u8; POINTER]>,
    run: RunKey,
) -> Result<u64, Fault> {
    let last = by_run.range::<&[u8; 24]>(&place(run, 0)..=&place(run, u64::MAX))?.next_back().transpose()?;
    Ok(last.map_or(0, |(key, row)| {
        run_and_number(key.value()).1.saturating_add(u64::from(Pointer::of_bytes(row.value()).count))
    }))
}

/// Returns a run's summary.
pub(super) fn summary(tx: &ReadTransaction, run: RunKey) -> Result<Option<RunRow>, Fault> {
    if let Some(bytes) = tx.open_table(LIVE)?.get(run.0.as_bytes())? {
        return Ok(Some(RunRow::Live(live_row(run, bytes.value())?)));
    }
    let done = tx.open_table(DONE)?;
    let Some(bytes) = done.get(run.0.as_bytes())? else { return Ok(None) };
    Ok(Some(RunRow::Done(done_row(run, bytes.value())?)))
}

/// Returns a pinned definition.
pub(super) fn definition(tx: &ReadTransaction, fingerprint: &[u8; 32]) -> Result<Arc<[u8]>, Fault> {
    let table = tx.open_table(DEFINITIONS)?;
    let name = || format!("definition {}", hex(fingerprint));
    let Some(bytes) = table.get(fingerprint)? else { return Err(Fault::Missing(name())) };
    let plain =
        format::decode_bytes(bytes.value()).map_err(|e: FormatError| Fault::Damaged(format!("{}: {e}", name())))?;
    Ok(plain.into())
}

/// Returns the run that has this id.
pub(super) fn run_by_id(tx: &ReadTransaction, id: &str) -> Result<Option<RunKey>, Fault> {
    let Some(run) = tx.open_table(IDS)?.get(id)?.map(|key| run_key(key.value())) else { return Ok(None) };
    let has_id = match summary(tx, run)? {
        Some(RunRow::Live(row)) => row.id == id,
        Some(RunRow::Done(row)) => row.id == id,
        None => false,
    };
    if has_id {
        Ok(Some(run))
    } else {
        Err(Fault::Damaged(format!("the id `{id}` leads to run {run}, which has another")))
    }
}

/// Returns runs, newest first: those in `range`, at most `most`, without reading more than is returned.
pub(super) fn newest(
    tx: &ReadTransaction,
    range: (std::ops::Bound<&[u8; 16]>, std::ops::Bound<&[u8; 16]>),
    most: usize,
) -> Result<Vec<(RunKey, RunRow)>, Fault> {
    let (live, done) = (tx.open_table(LIVE)?, tx.open_table(DONE)?);
    let mut live = live.range::<&[u8; 16]>(range)?.rev();
    let mut done = done.range::<&[u8; 16]>(range)?.rev();
    let (mut next_live, mut next_done) = (live.next().transpose()?, done.next().transpose()?);
    let mut runs = Vec::new();
    while runs.len() < most {
        let live_key = next_live.as_ref().map(|(key, _)| run_key(key.value()));
        let done_key = next_done.as_ref().map(|(key, _)| run_key(key.value()));
        if let (Some(run), true, Some((_, bytes))) = (live_key, live_key >= done_key, &next_live) {
            runs.push((run, RunRow::Live(live_row(run, bytes.value())?)));
            next_live = live.next().transpose()?;
        } else if let (Some(run), Some((_, bytes))) = (done_key, &next_done) {
            runs.push((run, RunRow::Done(done_row(run, bytes.value())?)));
            next_done = done.next().transpose()?;
        } else {
            break;
        }
    }
    Ok(runs)
}

/// Returns the newest run older than `before`. Its summary is not read: it may be damaged.
pub(super) fn run_before(tx: &ReadTransaction, before: Option<RunKey>) -> Result<Option<RunKey>, Fault> {
    use std::ops::Bound;
    let end = before.as_ref().map_or(Bound::Unbounded, |run| Bound::Excluded(run.0.as_bytes()));
    let mut newest = None;
    for table in [LIVE, DONE] {
        let table = tx.open_table(table)?;
        let last = table.range::<&[u8; 16]>((Bound::Unbounded, end))?.next_back().transpose()?;
        newest = newest.max(last.map(|(key, _)| run_key(key.value())));
    }
    Ok(newest)
}

/// Returns the lowest and the highest key whose text begins with `prefix`; nothing if no key's text does.
pub(super) fn keys_with_prefix(prefix: &str) -> Option<([u8; 16], [u8; 16])> {
    const TEXT: usize = 36;
    if prefix.len() > TEXT {
        return None;
    }
    let (mut low, mut high) = ([0; 16], [0xff; 16]);
    let mut digit = 0;
    for (at, c) in prefix.bytes().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if c != b'-' {
                return None;
            }
            continue;
        }
        let value = u8::try_from(char::from(c).to_digit(16)?).ok()?;
        let (shift, keep) = if digit % 2 == 0 { (4, 0x0f) } else { (0, 0xf0) };
        for bound in [&mut low, &mut high] {
            bound[digit / 2] = bound[digit / 2] & keep | value << shift;
        }
        digit += 1;
    }
    Some((low, high))
}

/// Returns the runs whose id or key begins with `prefix`, newest first.
pub(super) fn by_prefix(tx: &ReadTransaction, prefix: &str, most: usize) -> Result<Vec<RunKey>, Fault> {
    use std::ops::Bound::Included;
    // Ids are not in the order of time, so all that match are looked at, but never more than `most` are kept.
    let mut newest_runs = std::collections::BTreeSet::new();
    let mut keep = |run| {
        newest_runs.insert(run);
        if newest_runs.len() > most {
            newest_runs.pop_first();
        }
    };
    for row in tx.open_table(IDS)?.range::<&str>(prefix..)? {
        let (id, key) = row?;
        if !id.value().starts_with(prefix) {
            break;
        }
        keep(run_key(key.value()));
    }
    if let Some((low, high)) = keys_with_prefix(prefix) {
        for (run, _) in newest(tx, (Included(&low), Included(&high)), most)? {
            keep(run);
        }
    }
    Ok(newest_runs.into_iter().rev().collect())
}

/// Returns bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text takes whatever is written to it");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_apart_again_and_sorts_by_number() {
        let run = RunKey(uuid::Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_00ff));
        assert_eq!(run_and_number(&place(run, 300)), (run, 300));
        assert!(place(run, 255) < place(run, 256));
    }

    #[test]
    fn a_pointer_holds_run_number_sequence_count_and_records_together() {
        let run = RunKey(uuid::Uuid::from_u128(1));
        let sealed = Pointer::new(&place(run, 1), 7, 2, 99);
        assert_eq!(Pointer::of_bytes(&sealed.to_bytes()), sealed);
        assert_eq!((sealed.sequence, sealed.count), (7, 2));
        for other in [
            Pointer::new(&place(run, 2), 7, 2, 99),
            Pointer::new(&place(run, 1), 8, 2, 99),
            Pointer::new(&place(run, 1), 7, 3, 99),
            Pointer::new(&place(run, 1), 7, 2, 98),
        ] {
            assert_ne!(other.seal, sealed.seal, "{other:?}");
        }
    }

    #[test]
    fn prefixes_of_keys_become_ranges() {
        let run = uuid::Uuid::from_u128(0x0193_5a5b_1234_7000_8000_0000_0000_00ff);
        let text = run.to_string();
        for length in 0..=text.len() {
            let (low, high) = keys_with_prefix(&text[..length]).expect("a prefix");
            assert!(low <= *run.as_bytes() && *run.as_bytes() <= high, "{}", &text[..length]);
        }
        let (low, high) = keys_with_prefix(&text).expect("the whole key");
        assert_eq!((low, high), (*run.as_bytes(), *run.as_bytes()));
        let (low, high) = keys_with_prefix("0193").expect("a prefix");
        assert_eq!((low[..3].to_vec(), high[..3].to_vec()), (vec![1, 0x93, 0], vec![1, 0x93, 0xff]));
        assert_eq!(keys_with_prefix("order"), None);
        assert_eq!(keys_with_prefix("01935a5b1"), None);
        assert_eq!(keys_with_prefix(&format!("{text}0")), None);
    }

    #[test]
    fn errors_of_the_system_carry_a_remedy() {
        let full = io_message(&std::io::ErrorKind::StorageFull.into());
        assert!(full.contains("free some space"), "{full}");
        let denied = io_message(&std::io::ErrorKind::PermissionDenied.into());
        assert!(denied.contains("must be able to read and write"), "{denied}");
    }
}
