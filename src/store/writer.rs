//! The one thread that writes: it takes what has come together, makes one transaction of it, and says when it is
//! durable.
//!
//! It moves bytes. A transaction that fails ends the store for this process: redb cannot be trusted after an error of
//! the disk, and what reached it is known only when the file is opened again. So nothing is ever tried twice.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, Durability, Key, ReadableTable as _, Table, TableDefinition, Value, WriteTransaction};

use super::format;
use super::guard::guarded;
use super::journal::{DoneRow, LiveRow, StoreError};
use super::mark::Marker;
use super::pace::Pace;
use super::queue::{Job, Queue};
use super::tables::{
    self, BREAKERS, BY_RUN, COPIED, DEFINITIONS, DONE, Fault, IDS, JOURNAL, LIVE, META, POINTER, Pointer, place,
    run_key,
};
use crate::names::RunKey;
use crate::teeth::{Bug, awake};

/// From this size on every transaction records what a repair would have to find out by reading the whole file.
pub(super) const QUICK_REPAIR_FROM: u64 = 128 << 20;

/// What the writer shares with those who ask.
#[derive(Debug)]
pub(super) struct Shared {
    pub queue: Queue,
    /// The store's file, for messages.
    pub path: String,
    /// Definitions that are known to be in the store; others may be.
    pub definitions: Mutex<HashSet<[u8; 32]>>,
    pub written: Counters,
}

/// What was written so far.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub groups: AtomicU64,
    pub commits: AtomicU64,
    pub records: AtomicU64,
}

/// Which file the store's path must lead to.
#[derive(Debug)]
pub(super) struct Identity {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Identity {
    /// Returns the identity of an open file at `path`.
    pub fn of(path: PathBuf, file: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self { path, device: file.dev(), inode: file.ino() }
    }

    /// Returns the store's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the file's size, if it is still the one at the path.
    fn check(&self) -> Result<u64, String> {
        use std::os::unix::fs::MetadataExt as _;
        match std::fs::metadata(&self.path) {
            Ok(now) if (now.dev(), now.ino()) == (self.device, self.inode) => Ok(now.len()),
            Ok(now) if awake(Bug::ReplacedStoreWritten) => Ok(now.len()),
            Ok(_) => {
                Err("the store was replaced by another file while flowrun was running; nothing more is written".into())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err("the store was deleted while flowrun was running; nothing more is written".into())
            }
            Err(error) => Err(tables::io_message(&error)),
        }
    }
}

/// The writer.
#[derive(Debug)]
pub(super) struct Writer {
    pub database: Arc<Database>,
    pub shared: Arc<Shared>,
    /// Absent for stores that are no files.
    pub identity: Option<Identity>,
    /// Notes beside the file how far it has come.
    pub marker: Option<Marker>,
    /// Whether the file still says that it is a copy.
    pub copied: bool,
    /// From which size of the file on transactions are made for a quick repair.
    quick_repair_from: u64,
    next_sequence: u64,
    /// Runs that have written and are not final.
    runs: HashMap<RunKey, Tail>,
    pace: Pace,
}

/// Where a run's journal goes on.
#[derive(Clone, Copy, Debug)]
struct Tail {
    next: u64,
    group: u64,
}

impl Writer {
    /// Returns a writer that goes on after the last record.
    pub fn new(
        database: Arc<Database>,
        shared: Arc<Shared>,
        identity: Option<Identity>,
        quick_repair_from: u64,
        next_sequence: u64,
    ) -> Self {
        Self {
            database,
            shared,
            identity,
            marker: None,
            copied: false,
            quick_repair_from,
            next_sequence,
            runs: HashMap::new(),
            pace: Pace::default(),
        }
    }

    /// Writes until the queue ends.
    pub fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut jobs = Vec::new();
        while shared.queue.take(self.pace.expected(), &mut jobs) {
            let mut written = guarded(|| self.write(&jobs)).unwrap_or_else(|panic| Err(Fault::panicked(&panic)));
            if awake(Bug::RetryAfterFailedCommit) && written.is_err() {
                written = self.write(&jobs);
            }
            match written {
                Ok(refused) => acknowledge(&mut jobs, refused),
                Err(fault) => {
                    let error = fault.at(&shared.path);
                    tracing::error!(%error, "the store has failed; nothing more is written");
                    // The senders after these must find the store failed when they learn of it.
                    shared.queue.fail(&error);
                    jobs.drain(..).for_each(|job| drop(job.ack.send(Err(error.clone()))));
                }
            }
        }
    }

    /// Writes a group in one transaction. Returns what was refused, by place in the group; the rest is durable.
    fn write(&mut self, jobs: &[Job]) -> Result<Vec<(usize, StoreError)>, Fault> {
        let size = match &self.identity {
            Some(identity) => {
                identity.check().map_err(|message| Fault::Redb(redb::Error::Io(std::io::Error::other(message))))?
            }
            None => 0,
        };
        let group = self.pace.begin();
        let mut tx = self.database.begin_write()?;
        tx.set_durability(if awake(Bug::SkipSync) { Durability::None } else { Durability::Immediate })?;
        tx.set_quick_repair(size >= self.quick_repair_from);
        let mut refused = Vec::new();
        let mut records = 0;
        {
            let first = self.next_sequence;
            let mut bundles = Vec::with_capacity(jobs.len());
            let mut tables = Tables::open(&tx)?;
            for (index, job) in jobs.iter().enumerate() {
                let tail = self.runs.get(&job.run).copied();
                let next = match tail {
                    Some(tail) => tail.next,
                    None => tables::count(&tables.by_run, job.run)?,
                };
                if let Some(error) = tables.refuse(job, next)? {
                    refused.push((index, error));
                    continue;
                }
                let begins_again = tail.is_none() && job.start.is_none() && job.finish.is_none();
                if begins_again && !awake(Bug::TakenUpStaysFinal) {
                    tables.take_up(job.run)?;
                }
                if job.count > 0 {
                    bundles.push(job.bundle.as_slice());
                    tables.point(job, self.next_sequence)?;
                    self.next_sequence += 1;
                }
                tables.insert(job)?;
                records += u64::from(job.count);
                self.pace.saw(tail.map(|tail| tail.group));
                if job.finish.is_some() {
                    self.runs.remove(&job.run);
                    self.pace.finished();
                } else {
                    self.runs.insert(job.run, Tail { next: next + u64::from(job.count), group });
                }
            }
            tables.append(first, &bundles)?;
        }
        if refused.len() == jobs.len() {
            tx.abort()?;
            return Ok(refused);
        }
        if self.copied {
            // From here on it is a store of its own.
            tx.open_table(META)?.remove(COPIED)?;
        }
        tx.commit()?;
        if awake(Bug::SplitTransaction) {
            self.finish_apart(jobs)?;
        }
        self.copied = false;
        if let Some(marker) = &mut self.marker {
            marker.note(self.next_sequence);
        }
        let written = &self.shared.written;
        written.groups.fetch_add(1, Ordering::Relaxed);
        written.commits.fetch_add((jobs.len() - refused.len()) as u64, Ordering::Relaxed);
        written.records.fetch_add(records, Ordering::Relaxed);
        self.learn_definitions(jobs, &refused);
        Ok(refused)
    }

    /// The deliberate bug `split_transaction`: that runs are final is written after the events that say so.
    fn finish_apart(&self, jobs: &[Job]) -> Result<(), Fault> {
        let tx = self.database.begin_write()?;
        for job in jobs {
            if let Some(finish) = &job.finish {
                tx.open_table(LIVE)?.remove(job.run.0.as_bytes())?;
                tx.open_table(DONE)?.insert(job.run.0.as_bytes(), finish.as_slice())?;
            }
        }
        Ok(tx.commit()?)
    }

    fn learn_definitions(&self, jobs: &[Job], refused: &[(usize, StoreError)]) {
        let is_refused = |index| refused.iter().any(|(at, _)| *at == index);
        let new = jobs.iter().enumerate().filter(|(index, _)| !is_refused(*index)).filter_map(|(_, job)| {
            let start = job.start.as_ref()?;
            start.definition.as_ref().map(|_| start.fingerprint)
        });
        let mut new = new.peekable();
        if new.peek().is_some() {
            self.shared.definitions.lock().unwrap_or_else(PoisonError::into_inner).extend(new);
        }
    }
}

/// Answers a group that is durable.
fn acknowledge(jobs: &mut Vec<Job>, refused: Vec<(usize, StoreError)>) {
    let mut refused = refused.into_iter().peekable();
    for (index, job) in jobs.drain(..).enumerate() {
        let answer = match refused.next_if(|(at, _)| *at == index) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        };
        // Nobody listens any more if this fails.
        let _ = job.ack.send(answer);
    }
}

/// The tables of one transaction. Those that few commits touch are opened by the first that does: each table that is
/// open costs pages.
struct Tables<'tx> {
    tx: &'tx WriteTransaction,
    journal: Table<'tx, u64, &'static [u8]>,
    by_run: Table<'tx, &'static [u8; 24], &'static [u8; POINTER]>,
    ids: Option<Table<'tx, &'static str, &'static [u8; 16]>>,
    definitions: Option<Table<'tx, &'static [u8; 32], &'static [u8]>>,
    live: Option<Table<'tx, &'static [u8; 16], &'static [u8]>>,
    done: Option<Table<'tx, &'static [u8; 16], &'static [u8]>>,
    breakers: Option<Table<'tx, &'static str, &'static [u8]>>,
}

/// Returns the table in `slot`, which is opened if it is not yet.
fn opened<'a, 'tx, K: Key + 'static, V: Value + 'static>(
    slot: &'a mut Option<Table<'tx, K, V>>,
    tx: &'tx WriteTransaction,
    definition: TableDefinition<K, V>,
) -> Result<&'a mut Table<'tx, K, V>, Fault> {
    Ok(match slot {
        Some(table) => table,
        None => slot.insert(tx.open_table(definition)?),
    })
}

impl<'tx> Tables<'tx> {
    fn open(tx: &'tx WriteTransaction) -> Result<Self, Fault> {
        let (journal, by_run) = (tx.open_table(JOURNAL)?, tx.open_table(BY_RUN)?);
        Ok(Self { tx, journal, by_run, ids: None, definitions: None, live: None, done: None, breakers: None })
    }

    /// Returns why a commit must not be written, for a run that has `next` records.
    fn refuse(&mut self, job: &Job, next: u64) -> Result<Option<StoreError>, Fault> {
        if let Some(message) = misfit(job.first, job.count as usize, job.start.is_some(), next) {
            return Ok(Some(StoreError::Refused { run: job.run, message }));
        }
        let Some(start) = &job.start else { return Ok(None) };
        let owner = opened(&mut self.ids, self.tx, IDS)?.get(start.id.as_str())?.map(|run| run_key(run.value()));
        Ok(owner.filter(|run| *run != job.run).map(|run| StoreError::IdTaken { id: start.id.clone(), run }))
    }

    /// Lists a final run as unfinished again, when something more is begun of it: whoever resumes all runs must find it.
    fn take_up(&mut self, run: RunKey) -> Result<(), Fault> {
        let done = opened(&mut self.done, self.tx, DONE)?;
        let row = done.remove(run.0.as_bytes())?.map(|bytes| tables::done_row(run, bytes.value())).transpose()?;
        let Some(DoneRow { id, workflow, started_at, .. }) = row else { return Ok(()) };
        let live = format::encode_row(&LiveRow { id, workflow, started_at });
        opened(&mut self.live, self.tx, LIVE)?.insert(run.0.as_bytes(), live.as_slice())?;
        Ok(())
    }

    /// Puts the commits of a group behind all others, the first of which has the number `first`. Commits share rows: a row
    /// costs redb about as much as the bytes of a commit, and a page that has only one is neither copied nor split when the
    /// next comes.
    fn append(&mut self, mut first: u64, mut bundles: &[&[u8]]) -> Result<(), Fault> {
        while !bundles.is_empty() {
            let mut room = tables::ROW;
            let fits = bundles.iter().take_while(|bundle| {
                let left = room.checked_sub(bundle.len() + 4);
                room = left.unwrap_or(0);
                left.is_some()
            });
            let (row, rest) = bundles.split_at(fits.count().max(1));
            self.journal.insert(first, tables::bundle(row).as_slice())?;
            first += row.len() as u64;
            bundles = rest;
        }
        Ok(())
    }

    /// Says where the records of a commit are.
    fn point(&mut self, job: &Job, sequence: u64) -> Result<(), Fault> {
        let place = place(job.run, job.first);
        let pointer = Pointer::new(&place, sequence, job.count, job.sum);
        self.by_run.insert(&place, &pointer.to_bytes())?;
        Ok(())
    }

    /// Writes what a commit has besides its records.
    fn insert(&mut self, job: &Job) -> Result<(), Fault> {
        let run = job.run.0.as_bytes();
        if let Some(start) = &job.start {
            opened(&mut self.ids, self.tx, IDS)?.insert(start.id.as_str(), run)?;
            if let Some(definition) = &start.definition {
                let definitions = opened(&mut self.definitions, self.tx, DEFINITIONS)?;
                if definitions.get(&start.fingerprint)?.is_none() {
                    definitions.insert(&start.fingerprint, definition.as_slice())?;
                }
            }
        }
        match (&job.start, &job.finish) {
            (_, Some(_)) if awake(Bug::SplitTransaction) => {}
            (_, Some(finish)) => {
                opened(&mut self.live, self.tx, LIVE)?.remove(run)?;
                opened(&mut self.done, self.tx, DONE)?.insert(run, finish.as_slice())?;
            }
            (Some(start), None) => {
                opened(&mut self.live, self.tx, LIVE)?.insert(run, start.live.as_slice())?;
            }
            (None, None) => {}
        }
        for (service, state) in &job.breakers {
            opened(&mut self.breakers, self.tx, BREAKERS)?.insert(service.as_str(), state.as_slice())?;
        }
        Ok(())
    }
}

/// Returns why a commit does not continue a run that has `next` records.
pub(super) fn misfit(first: u64, records: usize, starts: bool, next: u64) -> Option<String> {
    if first != next {
        return Some(format!("the run has {next} events, and a commit began with event {first}"));
    }
    if starts && next > 0 {
        return Some("the run was started a second time".into());
    }
    if next == 0 && !starts {
        return Some("the first commit of the run does not start it".into());
    }
    (starts && records == 0).then(|| "the run was started without an event".into())
}
