//! The rows of a commit: what it changes in the tables of one transaction.
//!
//! This module says which rows those are. When a transaction is made, and how it becomes durable, is the writer's business.

use redb::{Database, Key, ReadableTable as _, Table, TableDefinition, Value, WriteTransaction};

use super::bundle::add_part;
use super::change::Change;
use super::format;
use super::journal::{DoneRow, LiveRow, StoreError};
use super::tables::{
    self, BREAKERS, BY_RUN, DEFINITIONS, DONE, Fault, IDS, JOURNAL, LIVE, LOGGED, META, POINTER, Pointer, place,
    run_key,
};
use crate::names::RunKey;
use crate::scratch;
use crate::teeth::{Bug, awake};

/// The tables of one transaction. Those that few commits touch are opened by the first that does: each table that is
/// open costs pages.
pub(super) struct Tables<'tx, 'c> {
    tx: &'tx WriteTransaction,
    /// The number of the next commit.
    sequence: u64,
    /// The records of the commits of the present group.
    bundles: Vec<&'c [u8]>,
    journal: Table<'tx, u64, &'static [u8]>,
    pub by_run: Table<'tx, &'static [u8; 24], &'static [u8; POINTER]>,
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

impl<'tx, 'c> Tables<'tx, 'c> {
    /// Opens the tables, in which the next commit gets the number `sequence`.
    pub fn open(tx: &'tx WriteTransaction, sequence: u64) -> Result<Self, Fault> {
        Ok(Self {
            tx,
            sequence,
            bundles: Vec::new(),
            journal: tx.open_table(JOURNAL)?,
            by_run: tx.open_table(BY_RUN)?,
            ids: None,
            definitions: None,
            live: None,
            done: None,
            breakers: None,
        })
    }

    /// Returns why a commit must not be written, for a run that has `next` records.
    pub fn refuse(&mut self, change: &Change, next: u64) -> Result<Option<StoreError>, Fault> {
        if let Some(message) = misfit(change.first, change.records.count(), change.start.is_some(), next) {
            return Ok(Some(StoreError::Refused { run: change.run, message }));
        }
        let Some(start) = &change.start else { return Ok(None) };
        let owner = opened(&mut self.ids, self.tx, IDS)?.get(start.id.as_str())?.map(|run| run_key(run.value()));
        Ok(owner.filter(|run| *run != change.run).map(|run| StoreError::IdTaken { id: start.id.clone(), run }))
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

    /// Writes a commit. Whether its run is final need not be looked up if it is known to go on.
    pub fn enter(&mut self, change: &'c Change, goes_on: bool) -> Result<(), Fault> {
        let may_begin_again = !goes_on && change.start.is_none() && change.finish.is_none();
        if may_begin_again && !awake(Bug::TakenUpStaysFinal) {
            self.take_up(change.run)?;
        }
        if change.records.count() > 0 {
            self.point(change)?;
            self.bundles.push(change.records.bytes());
            self.sequence += 1;
        }
        self.insert(change)
    }

    /// Ends a group: puts the records of its commits behind all others, and returns the number of the next commit. Commits
    /// share rows: a row costs redb about as much as the bytes of a commit, and a page that has only one is neither copied
    /// nor split when the next comes.
    pub fn end_group(&mut self) -> Result<u64, Fault> {
        let mut first = self.sequence - self.bundles.len() as u64;
        let mut bundles = self.bundles.as_slice();
        while !bundles.is_empty() {
            let mut room = tables::ROW;
            let fits = bundles.iter().take_while(|bundle| {
                let left = room.checked_sub(bundle.len() + 4);
                room = left.unwrap_or(0);
                left.is_some()
            });
            let (row, rest) = bundles.split_at(fits.count().max(1));
            scratch::with(|bytes| {
                row.iter().for_each(|bundle| add_part(bytes, bundle));
                self.journal.insert(first, bytes.as_slice()).map(drop)
            })?;
            first += row.len() as u64;
            bundles = rest;
        }
        self.bundles.clear();
        Ok(self.sequence)
    }

    /// Says where the records of a commit are.
    fn point(&mut self, change: &Change) -> Result<(), Fault> {
        let place = place(change.run, change.first);
        let pointer = Pointer::new(&place, self.sequence, change.records.count(), change.sum);
        self.by_run.insert(&place, &pointer.to_bytes())?;
        Ok(())
    }

    /// Writes what a commit has besides its records.
    fn insert(&mut self, change: &Change) -> Result<(), Fault> {
        let run = change.run.0.as_bytes();
        if let Some(start) = &change.start {
            opened(&mut self.ids, self.tx, IDS)?.insert(start.id.as_str(), run)?;
            if let Some(definition) = &start.definition {
                let definitions = opened(&mut self.definitions, self.tx, DEFINITIONS)?;
                if definitions.get(&start.fingerprint)?.is_none() {
                    definitions.insert(&start.fingerprint, definition.as_slice())?;
                }
            }
        }
        match (&change.start, &change.finish) {
            (_, Some(finish)) => {
                opened(&mut self.live, self.tx, LIVE)?.remove(run)?;
                opened(&mut self.done, self.tx, DONE)?.insert(run, finish.as_slice())?;
            }
            (Some(start), None) => {
                opened(&mut self.live, self.tx, LIVE)?.insert(run, start.live.as_slice())?;
            }
            (None, None) => {}
        }
        for (service, state) in &change.breakers {
            opened(&mut self.breakers, self.tx, BREAKERS)?.insert(service.as_str(), state.as_slice())?;
        }
        Ok(())
    }
}

/// Notes that the tables have every group of the log before this one. It is a part of each transaction: whichever redb
/// makes durable says by itself what it lacks.
pub(super) fn note_logged(tx: &WriteTransaction, next: u64) -> Result<(), Fault> {
    tx.open_table(META)?.insert(LOGGED, next.to_le_bytes().as_slice())?;
    Ok(())
}

/// Makes a transaction durable, and all that were committed before it.
pub(super) fn make_durable(mut tx: WriteTransaction) -> Result<(), Fault> {
    // Without this the next process would have to read all pages to find out which are free.
    tx.set_quick_repair(true);
    Ok(tx.commit()?)
}

/// Writes what the log has and the tables do not, and makes it durable. `next` is the number of the group after these.
pub(super) fn apply(database: &Database, groups: &[Vec<Change>], next: u64) -> Result<(), Fault> {
    let tx = database.begin_write()?;
    {
        let sequence = tables::next_sequence(&tx.open_table(JOURNAL)?)?;
        let mut tables = Tables::open(&tx, sequence)?;
        for group in groups {
            for change in group {
                tables.enter(change, false)?;
            }
            tables.end_group()?;
        }
    }
    note_logged(&tx, next)?;
    make_durable(tx)
}

/// Returns why a commit does not continue a run that has `next` records.
pub(super) fn misfit(first: u64, records: u32, starts: bool, next: u64) -> Option<String> {
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
