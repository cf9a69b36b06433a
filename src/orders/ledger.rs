//! The simulated services' own book: what happened, in order, by idempotency key.
//!
//! It is a file of JSON lines in the store's folder. What the services know is the fold of its lines, and a service
//! answers only when what it did is on disk: a repeated call, also after a crash, finds it and gets the same answer.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::inventory::Stock;
use super::types::{Line, Short, Time};
use crate::handlers::ledger::{read_time, write_time};
use crate::handlers::outcome::OTHER_ERROR;
use crate::handlers::{Ledger, LedgerEntry, StepError, World};
use crate::time::Timestamp;

/// The name of the file in the store's folder.
pub const FILE: &str = "ledger.jsonl";

/// The name of the file by whose lock several processes take turns.
const TURNS: &str = "ledger.lock";

/// Something that happened, with all that is needed to give the same answer again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "effect", content = "detail", rename_all = "snake_case")]
pub enum Fact {
    /// Stock was set aside.
    Reserved { hold_id: String, items: Vec<Line>, short: Vec<Short>, expires_at: Time },
    /// It was given up.
    Released { of: String },
    /// It was sold.
    Taken { hold_id: String },
    /// The sale was taken back; the stock is on hold again.
    PutBack { of: String },
    /// Money moved to us; `queue_id` if it had been waiting in the queue.
    Charged { payment_id: String, method: String, queue_id: Option<String> },
    /// It moved back.
    Refunded { of: String, payment_id: String },
    /// A payment waits for its settlement.
    PaymentQueued { queue_id: String, due: i64 },
    /// It no longer does.
    Withdrawn { of: String },
    /// A label was printed.
    Labelled { tracking: String },
    /// It was voided.
    Voided { of: String },
    /// A person was asked to ship.
    HandedOver { tracking: String },
    /// And told not to.
    Closed { of: String },
    /// A mail went out.
    Mailed { to: String, template: String },
    /// A mail waits to go out.
    MailQueued { to: String, template: String },
    /// The end of a run was noted.
    Audited { status: String, compensation: Option<String>, error: Option<Value> },
    /// Nothing was there to undo or to find; a late call with this key is refused from now on.
    Blocked { of: String },
}

impl Fact {
    /// Returns the key of the call that this fact undoes.
    fn undone(&self) -> Option<&str> {
        match self {
            Self::Released { of }
            | Self::PutBack { of }
            | Self::Refunded { of, .. }
            | Self::Withdrawn { of }
            | Self::Voided { of }
            | Self::Closed { of } => Some(of),
            Self::Reserved { .. }
            | Self::Taken { .. }
            | Self::Charged { .. }
            | Self::PaymentQueued { .. }
            | Self::Labelled { .. }
            | Self::HandedOver { .. }
            | Self::Mailed { .. }
            | Self::MailQueued { .. }
            | Self::Audited { .. }
            | Self::Blocked { .. } => None,
        }
    }
}

/// A line of the ledger; [`LedgerEntry`] is the same line for readers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The order.
    pub order_id: String,
    /// The key of the call.
    pub key: String,
    /// The money that moved, in minor units.
    pub amount: Option<i64>,
    /// When.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
}

/// Who calls a service, for which order and when.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The order.
    pub order_id: &'a str,
    /// The idempotency key of the call.
    pub key: &'a str,
    /// The present time.
    pub now: Timestamp,
}

impl Caller<'_> {
    /// Returns the record of something the caller did that moved no money.
    #[must_use]
    pub fn did(&self, fact: Fact) -> Record {
        Record { order_id: self.order_id.into(), key: self.key.into(), amount: None, at: self.now, fact }
    }

    /// Returns the record of something the caller did that moved money.
    #[must_use]
    pub fn moved(&self, amount: i64, fact: Fact) -> Record {
        Record { amount: Some(amount), ..self.did(fact) }
    }
}

/// What is known about a key.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// Nothing was done with it.
    Nothing,
    /// This was done with it.
    Done(&'a Record),
    /// It was done and undone.
    Undone,
    /// Nothing was done with it, and nothing may be any more.
    Blocked,
}

/// The fold of the ledger.
pub struct Book {
    records: Vec<Record>,
    /// For each key the record of its effect, and whether that was undone.
    effects: HashMap<String, (usize, bool)>,
    blocked: HashSet<String>,
    by_order: HashMap<String, Vec<usize>>,
    /// What is left of the stock.
    pub stock: Stock,
    /// Lines that are not on disk yet.
    pending: String,
}

impl Book {
    fn new(stock: Stock) -> Self {
        Self {
            records: Vec::new(),
            effects: HashMap::new(),
            blocked: HashSet::new(),
            by_order: HashMap::new(),
            stock,
            pending: String::new(),
        }
    }

    /// Returns what is known about `key`.
    #[must_use]
    pub fn known(&self, key: &str) -> Known<'_> {
        match self.effects.get(key) {
            Some((_, true)) => Known::Undone,
            Some((at, false)) => Known::Done(&self.records[*at]),
            None if self.blocked.contains(key) => Known::Blocked,
            None => Known::Nothing,
        }
    }

    /// Returns the records of an order, oldest first.
    pub fn of_order(&self, order_id: &str) -> impl Iterator<Item = &Record> {
        self.by_order.get(order_id).into_iter().flatten().map(|at| &self.records[*at])
    }

    fn apply(&mut self, record: Record) {
        let at = self.records.len();
        match (&record.fact, record.fact.undone()) {
            (Fact::Blocked { of }, _) => {
                self.blocked.insert(of.clone());
            }
            (_, Some(of)) => {
                if let Some((_, undone)) = self.effects.get_mut(of) {
                    *undone = true;
                }
            }
            (_, None) => {
                self.effects.entry(record.key.clone()).or_insert((at, false));
            }
        }
        self.by_order.entry(record.order_id.clone()).or_default().push(at);
        self.stock.apply(&record);
        self.records.push(record);
    }
}

/// The ledger of a store, or of a test.
pub struct Services {
    dir: Option<PathBuf>,
    /// Whether other processes write the file, too.
    shared: bool,
    stock: Stock,
    /// Read when it is first needed: by then this process holds the store, and nobody writes the file unless it is shared.
    book: Mutex<Option<Book>>,
    disk: Mutex<Disk>,
}

#[derive(Default)]
struct Disk {
    file: Option<File>,
    /// How many records are on disk.
    synced: usize,
    /// Bytes of the file that hold whole lines.
    whole: u64,
    /// Why nothing more is written.
    failed: Option<String>,
}

impl Services {
    /// Opens the services of a world. The scenario's `stock` overrides the products it names.
    ///
    /// # Errors
    /// When the scenario's `stock` cannot be read.
    pub fn open(world: &World) -> Result<Self, String> {
        let stock = Stock::starting_with(world.setup.get("stock"))?;
        let (dir, shared) = (world.dir.clone(), world.shared);
        Ok(Self { dir, shared, stock, book: Mutex::default(), disk: Mutex::default() })
    }

    /// Opens the services of a world in memory, after they have done what `entries` say.
    #[cfg(test)]
    pub fn having_done(world: &World, entries: &[LedgerEntry]) -> Result<Self, String> {
        let services = Self::open(world)?;
        let mut book = Book::new(services.stock.clone());
        for entry in entries {
            let line = serde_json::to_value(entry).map_err(|e| e.to_string())?;
            book.apply(serde_json::from_value(line).map_err(|e| e.to_string())?);
        }
        Ok(Self { book: Mutex::new(Some(book)), ..services })
    }

    /// Decides and records in one piece, and answers when it is on disk.
    ///
    /// # Errors
    /// What `decide` reports; or an error of kind unknown, if the ledger cannot be written.
    pub fn act<A>(
        &self,
        decide: impl FnOnce(&mut Book) -> Result<(Vec<Record>, A), StepError>,
    ) -> Result<A, StepError> {
        let _turn = self.turn().map_err(unclear)?;
        let mut guard = self.book()?;
        let book = guard.as_mut().expect("book() has just read it");
        let (records, answer) = decide(book)?;
        for record in records {
            book.pending.push_str(&serde_json::to_string(&record)?);
            book.pending.push('\n');
            book.apply(record);
        }
        let upto = book.records.len();
        drop(guard);
        // Also when nothing was added: the answer may rest on what another call has not brought to disk yet.
        self.sync(upto).map_err(unclear)?;
        Ok(answer)
    }

    /// Waits until no other process is in the middle of something, and reads what others have written. Whoever has the turn
    /// keeps it until its own lines are on disk.
    fn turn(&self) -> Result<Option<File>, String> {
        let (true, Some(dir)) = (self.shared, &self.dir) else { return Ok(None) };
        let failed = |e: std::io::Error| format!("{}: {e}", dir.join(TURNS).display());
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(TURNS)).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let mut guard = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(book) = guard.as_mut() {
            let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
            let (records, whole) = read_from::<Record>(&dir.join(FILE), disk.whole)?;
            records.into_iter().for_each(|record| book.apply(record));
            disk.synced = book.records.len();
            disk.whole = whole;
        }
        Ok(Some(lock))
    }

    fn book(&self) -> Result<MutexGuard<'_, Option<Book>>, StepError> {
        let mut guard = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            let mut book = Book::new(self.stock.clone());
            if let Some(dir) = &self.dir {
                // What an earlier attempt did cannot be told either.
                let (records, whole) = read_from::<Record>(&dir.join(FILE), 0).map_err(unclear)?;
                for record in records {
                    book.apply(record);
                }
                let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
                disk.synced = book.records.len();
                disk.whole = whole;
            }
            *guard = Some(book);
        }
        Ok(guard)
    }

    /// Brings at least the first `upto` records to disk; whoever waited meanwhile finds its own there too.
    fn sync(&self, upto: usize) -> Result<(), String> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if disk.synced >= upto {
            return Ok(());
        }
        if let Some(why) = &disk.failed {
            return Err(why.clone());
        }
        let (text, end) = {
            let mut guard = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            let book = guard.as_mut().expect("there are records, so it was read");
            (std::mem::take(&mut book.pending), book.records.len())
        };
        let path = dir.join(FILE);
        if let Err(e) = disk.append(&path, &text, self.shared) {
            // What of it is on disk is not known: only a new reading can tell.
            let why = format!("{}: {e}", path.display());
            disk.failed = Some(why.clone());
            return Err(why);
        }
        disk.synced = end;
        Ok(())
    }
}

impl Disk {
    fn append(&mut self, path: &Path, text: &str, shared: bool) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => {
                if shared {
                    // Another process may have died in the middle of a line.
                    file.set_len(self.whole)?;
                    file.seek(SeekFrom::End(0))?;
                }
                file
            }
            None => {
                let created = !path.exists();
                let mut options = OpenOptions::new();
                options.create(true).write(true).truncate(false);
                #[cfg(unix)]
                std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
                let mut file = options.open(path)?;
                // A line that a crash cut short was never answered for.
                file.set_len(self.whole)?;
                file.seek(SeekFrom::End(0))?;
                if let (true, Some(dir)) = (created, path.parent()) {
                    File::open(dir)?.sync_all()?;
                }
                self.file.insert(file)
            }
        };
        file.write_all(text.as_bytes())?;
        self.whole += text.len() as u64;
        file.sync_data()
    }
}

impl Ledger for Services {
    fn entries(&self, order: Option<&str>) -> Result<Vec<LedgerEntry>, String> {
        let guard = self.book().map_err(|e| e.message().to_owned())?;
        let book = guard.as_ref().expect("book() has just read it");
        let wanted: Vec<&Record> = match order {
            Some(order) => book.of_order(order).collect(),
            None => book.records.iter().collect(),
        };
        wanted
            .into_iter()
            .map(|r| serde_json::from_value(serde_json::to_value(r)?))
            .collect::<Result<_, _>>()
            .map_err(|e| e.to_string())
    }
}

/// Reads the ledger in a store's folder, also while it is being written.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn read_entries(dir: &Path) -> Result<Vec<LedgerEntry>, String> {
    read_from(&dir.join(FILE), 0).map(|(entries, _)| entries)
}

/// Returns the whole lines of the file from a byte on, and where they end; a last line without its end is no line.
fn read_from<T: serde::de::DeserializeOwned>(path: &Path, from: u64) -> Result<(Vec<T>, u64), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(e) => return Err(failed(e)),
    };
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(from)).and_then(|_| file.read_to_end(&mut text)).map_err(failed)?;
    let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    let mut entries = Vec::new();
    for (number, line) in text[..whole].split_inclusive(|b| *b == b'\n').enumerate() {
        let entry = serde_json::from_slice(line)
            .map_err(|e| format!("{}, line {}: the ledger is damaged: {e}", path.display(), number + 1))?;
        entries.push(entry);
    }
    Ok((entries, from + whole as u64))
}

fn unclear(why: String) -> StepError {
    StepError::unknown(OTHER_ERROR, why)
}

/// Returns a short id that is always the same for the same key: `PAY-1f0c9a77d2`.
#[must_use]
pub fn id(prefix: &str, key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    let mut id = format!("{prefix}-");
    for byte in &digest[..5] {
        id.push_str(&format!("{byte:02x}"));
    }
    id
}
