//! The way of a commit from the engine's tasks to the writer's thread.
//!
//! Bounded in commits and in bytes; senders wait asynchronously, the writer sleeps on a condition. Whoever sends wakes
//! the writer only when it has something to do: an idle one at once, one that lingers when its group is full.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};

use super::journal::StoreError;
use crate::names::RunKey;

/// How many commits may wait.
pub(super) const ROOM: u32 = 16_384;

/// So many bytes take as much room as one more commit: at most 64 MiB wait.
const BYTES_PER_ROOM: usize = 4096;

/// The longest that a group is waited for.
const LINGER: Duration = Duration::from_micros(200);

/// A commit whose rows are bytes already.
#[derive(Debug)]
pub(super) struct Job {
    pub run: RunKey,
    pub first: u64,
    pub records: Vec<Vec<u8>>,
    pub start: Option<Start>,
    pub finish: Option<Vec<u8>>,
    pub breakers: Vec<(String, Vec<u8>)>,
    pub ack: oneshot::Sender<Result<(), StoreError>>,
}

/// What a starting run adds.
#[derive(Debug)]
pub(super) struct Start {
    pub id: String,
    pub live: Vec<u8>,
    pub fingerprint: [u8; 32],
    /// The definition as a record; absent if the store is known to have it.
    pub definition: Option<Vec<u8>>,
}

impl Job {
    /// Returns how much of the queue's room the commit takes.
    pub fn room(&self) -> u32 {
        let records: usize = self.records.iter().map(Vec::len).sum();
        let start = self.start.as_ref().map_or(0, |s| s.live.len() + s.definition.as_ref().map_or(0, Vec::len));
        let bytes = records + start + self.finish.as_ref().map_or(0, Vec::len);
        u32::try_from(1 + bytes / BYTES_PER_ROOM).unwrap_or(ROOM).min(ROOM)
    }
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    room: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    jobs: Vec<Job>,
    /// How many jobs wake the writer; none do while it writes.
    wake_at: Option<usize>,
    /// What ended the store; nothing is taken any more.
    ended: Option<StoreError>,
}

impl Queue {
    /// Returns an empty queue.
    pub fn new() -> Self {
        Self { state: Mutex::default(), wake: Condvar::new(), room: Semaphore::new(ROOM as usize) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a job into the queue; gives it back if there is no room now.
    pub fn try_push(&self, job: Job) -> Option<Job> {
        match self.room.try_acquire_many(job.room()) {
            Ok(room) => {
                room.forget();
                self.add(job);
                None
            }
            // A queue that has ended is closed too: `push` tells the sender why.
            Err(_) => Some(job),
        }
    }

    /// Puts a job into the queue as soon as there is room.
    pub async fn push(&self, job: Job) {
        if let Ok(room) = self.room.acquire_many(job.room()).await {
            room.forget();
        }
        self.add(job);
    }

    fn add(&self, job: Job) {
        let mut state = self.state();
        if let Some(error) = &state.ended {
            // Nobody listens any more if this fails.
            let _ = job.ack.send(Err(error.clone()));
            return;
        }
        state.jobs.push(job);
        if state.wake_at.is_some_and(|at| state.jobs.len() >= at) {
            state.wake_at = None;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Waits for the next group and puts it into `jobs`: at once if fewer than two commits are expected, else lingering
    /// until all have come. Tells whether there is one; there is none once the queue has ended and is empty.
    #[expect(clippy::disallowed_methods, reason = "the linger is a matter of the disk, whatever clock the runs have")]
    pub fn take(&self, expected: usize, jobs: &mut Vec<Job>) -> bool {
        let mut state = self.state();
        while state.jobs.is_empty() {
            if state.ended.is_some() {
                return false;
            }
            state.wake_at = Some(1);
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if expected > state.jobs.len() {
            let until = Instant::now() + LINGER;
            while expected > state.jobs.len() && state.ended.is_none() {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                state.wake_at = Some(expected);
                state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        state.wake_at = None;
        std::mem::swap(&mut state.jobs, jobs);
        drop(state);
        self.room.add_permits(jobs.iter().map(|job| job.room() as usize).sum());
        true
    }

    /// Takes nothing any more and answers with `error`; what has been taken is still given to the writer.
    pub fn end(&self, error: StoreError) {
        let mut state = self.state();
        state.ended.get_or_insert(error);
        drop(state);
        self.room.close();
        self.wake.notify_one();
    }

    /// Ends the queue and answers every commit in it with `error`.
    pub fn fail(&self, error: &StoreError) {
        self.end(error.clone());
        let jobs = std::mem::take(&mut self.state().jobs);
        for job in jobs {
            let _ = job.ack.send(Err(error.clone()));
        }
    }
}
