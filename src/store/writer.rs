//! The one thread that writes: it takes what has come together, makes one transaction of it and one group of the log,
//! and says when it is durable.
//!
//! It moves bytes. A transaction that fails ends the store for this process: redb cannot be trusted after an error of
//! the disk, and what reached it is known only when the file is opened again. So nothing is ever tried twice.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use redb::{Database, Durability};

use super::change::Change;
use super::guard::guarded;
use super::journal::StoreError;
use super::log::Log;
use super::mark::Marker;
use super::pace::Pace;
use super::queue::{Job, Queue};
use super::rows::{self, Tables};
use super::tables::{self, COPIED, Fault, META};
use crate::names::RunKey;
use crate::teeth::{Bug, awake};

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

    /// Says what is wrong if the path does not lead to the file any more.
    fn check(&self) -> Result<(), String> {
        use std::os::unix::fs::MetadataExt as _;
        match std::fs::metadata(&self.path) {
            Ok(now) if (now.dev(), now.ino()) == (self.device, self.inode) => Ok(()),
            Ok(_) if awake(Bug::ReplacedStoreWritten) => Ok(()),
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
    log: Log,
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
        log: Log,
        next_sequence: u64,
    ) -> Self {
        Self {
            database,
            shared,
            identity,
            marker: None,
            copied: false,
            log,
            next_sequence,
            runs: HashMap::new(),
            pace: Pace::default(),
        }
    }

    /// Writes until the queue ends, and makes the tables durable then.
    ///
    /// # Errors
    /// When these cannot be made durable; the log has what they lack.
    pub fn run(mut self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let mut jobs = Vec::new();
        let mut failed = false;
        while shared.queue.take(self.pace.expected(), self.pace.room(), &mut jobs) {
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
                    failed = true;
                }
            }
        }
        if failed || self.log.is_empty() {
            return Ok(());
        }
        guarded(|| rows::make_durable(self.database.begin_write()?))
            .unwrap_or_else(|panic| Err(Fault::panicked(&panic)))
            .map_err(|fault| fault.at(&shared.path))
    }

    /// Writes a group. Returns what was refused, by place in the group; the rest is durable.
    fn write(&mut self, jobs: &[Job]) -> Result<Vec<(usize, StoreError)>, Fault> {
        if let Some(identity) = &self.identity {
            identity.check().map_err(|message| Fault::Redb(redb::Error::Io(std::io::Error::other(message))))?;
        }
        let group = self.pace.begin();
        let mut tx = self.database.begin_write()?;
        let (mut accepted, mut refused) = (Vec::with_capacity(jobs.len()), Vec::new());
        let next_sequence = {
            let mut tables = Tables::open(&tx, self.next_sequence)?;
            for (index, Job { change, .. }) in jobs.iter().enumerate() {
                let tail = self.runs.get(&change.run).copied();
                let next = match tail {
                    Some(tail) => tail.next,
                    None => tables::count(&tables.by_run, change.run)?,
                };
                if let Some(error) = tables.refuse(change, next)? {
                    refused.push((index, error));
                    continue;
                }
                accepted.push(change);
                tables.enter(change, tail.is_some())?;
                self.pace.saw(tail.map(|tail| tail.group));
                if change.finish.is_some() {
                    self.runs.remove(&change.run);
                    self.pace.finished();
                } else {
                    self.runs.insert(change.run, Tail { next: next + u64::from(change.records.count()), group });
                }
            }
            tables.end_group()?
        };
        if accepted.is_empty() {
            tx.abort()?;
            return Ok(refused);
        }
        // The first commit to a copy makes it a store of its own; no group of the log can say that.
        let logged = !self.copied && self.append(&accepted)?;
        rows::note_logged(&tx, self.log.next())?;
        if self.copied {
            tx.open_table(META)?.remove(COPIED)?;
        }
        if logged || awake(Bug::LogEmptiedTooEarly) {
            tx.set_durability(Durability::None)?;
            tx.commit()?;
        } else {
            rows::make_durable(tx)?;
        }
        if !logged {
            self.log.begin_again();
        }
        self.copied = false;
        self.next_sequence = next_sequence;
        if let Some(marker) = &mut self.marker {
            marker.note(self.next_sequence);
        }
        let written = &self.shared.written;
        written.groups.fetch_add(1, Ordering::Relaxed);
        written.commits.fetch_add(accepted.len() as u64, Ordering::Relaxed);
        let records = accepted.iter().map(|change| u64::from(change.records.count())).sum();
        written.records.fetch_add(records, Ordering::Relaxed);
        self.learn_definitions(&accepted);
        Ok(refused)
    }

    /// Makes a group durable in the log, if it has room for it.
    #[expect(clippy::disallowed_methods, reason = "how long the disk takes is no matter of the runs' clock")]
    fn append(&mut self, group: &[&Change]) -> Result<bool, Fault> {
        let begun = Instant::now();
        let logged = self.log.append(group.iter().copied()).map_err(redb::Error::Io)?;
        if logged {
            self.pace.took(begun.elapsed());
        }
        Ok(logged)
    }

    fn learn_definitions(&self, accepted: &[&Change]) {
        let new = accepted.iter().filter_map(|change| {
            let start = change.start.as_ref()?;
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
