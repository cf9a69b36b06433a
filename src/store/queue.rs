//! The way of a commit from the engine's tasks to the writer's thread.
//!
//! A commit is in its place in the queue when the call returns, so a run's commits are written in the order of calls. What
//! holds senders back is the answer: a task goes on only when its commit is durable, so no more waits here than there
//! are runs. Where more wait than a group has room for, the oldest runs go first: what they have in the processors' caches
//! is used while it is there, each run is done sooner than if all took turns, and those that start wait for those that
//! are under way. The writer sleeps on a condition. Whoever sends wakes it only when it has something to do: an idle one
//! at once, one that lingers when its group is full.

use std::collections::btree_map::{Entry, OccupiedEntry};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::change::Change;
use super::journal::StoreError;
use crate::names::RunKey;

/// A commit that so many came after goes before those of older runs: nobody waits for ever.
const PASSED: u64 = 16_384;

/// The longest that a group is waited for.
const LINGER: Duration = Duration::from_micros(200);

/// So many commits are enough for a group: what they share costs each of them little, and while they are written the other
/// runs can get on with their work instead of waiting for the last of them.
const ENOUGH: usize = 4;

/// A commit, and where the answer goes.
#[derive(Debug)]
pub(super) struct Job {
    pub change: Change,
    pub ack: oneshot::Sender<Result<(), StoreError>>,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By the run's key, which rises with the time of its start, and by the number of the commit here.
    jobs: BTreeMap<(RunKey, u64), Job>,
    /// The same in the order in which they came, and some that have been taken.
    came: VecDeque<(RunKey, u64)>,
    /// How many commits came.
    number: u64,
    /// How many jobs wake the writer; none do while it writes.
    wake_at: Option<usize>,
    /// What ended the store; nothing is taken any more.
    ended: Option<StoreError>,
}

impl State {
    /// Returns the job whose turn it is.
    fn next(&mut self) -> Option<OccupiedEntry<'_, (RunKey, u64), Job>> {
        while self.came.front().is_some_and(|place| !self.jobs.contains_key(place)) {
            self.came.pop_front();
        }
        let longest = *self.came.front()?;
        if self.number <= longest.1 + PASSED {
            return self.jobs.first_entry();
        }
        match self.jobs.entry(longest) {
            Entry::Occupied(job) => Some(job),
            Entry::Vacant(_) => None,
        }
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a job into the queue; answers it at once if the queue has ended.
    pub fn push(&self, job: Job) {
        let mut state = self.state();
        if let Some(error) = &state.ended {
            // Nobody listens any more if this fails.
            let _ = job.ack.send(Err(error.clone()));
            return;
        }
        let place = (job.change.run, state.number);
        state.number += 1;
        state.came.push_back(place);
        state.jobs.insert(place, job);
        if state.wake_at.is_some_and(|at| state.jobs.len() >= at) {
            state.wake_at = None;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Waits for the next group and puts it into `jobs`: at once if fewer than two commits are expected, else lingering
    /// until all have come, or enough of them. It gets as many as there is `room` for, and one at least. Tells whether there
    /// is one; there is none once the queue has ended and is empty.
    #[expect(clippy::disallowed_methods, reason = "the linger is a matter of the disk, whatever clock the runs have")]
    pub fn take(&self, expected: usize, mut room: usize, jobs: &mut Vec<Job>) -> bool {
        let mut state = self.state();
        while state.jobs.is_empty() {
            if state.ended.is_some() {
                return false;
            }
            state.wake_at = Some(1);
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let expected = expected.min(ENOUGH);
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
        while let Some(next) = state.next() {
            let takes = next.get().change.room();
            // A commit that is larger than a group is one by itself.
            if takes > room && !jobs.is_empty() {
                break;
            }
            room = room.saturating_sub(takes);
            jobs.push(next.remove());
        }
        true
    }

    /// Returns what ended the queue, if it has ended.
    pub fn ended(&self) -> Option<StoreError> {
        self.state().ended.clone()
    }

    /// Takes nothing any more and answers with `error`; what has been taken is still given to the writer.
    pub fn end(&self, error: StoreError) {
        let mut state = self.state();
        state.ended.get_or_insert(error);
        drop(state);
        self.wake.notify_one();
    }

    /// Ends the queue and answers every commit in it with `error`.
    pub fn fail(&self, error: &StoreError) {
        self.end(error.clone());
        let jobs = std::mem::take(&mut self.state().jobs);
        for job in jobs.into_values() {
            let _ = job.ack.send(Err(error.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(n: u128, bytes: usize) -> (Job, oneshot::Receiver<Result<(), StoreError>>) {
        let (ack, answer) = oneshot::channel();
        let change = Change {
            run: RunKey(uuid::Uuid::from_u128(n)),
            first: 0,
            records: [vec![0; bytes]].into_iter().collect(),
            sum: 0,
            start: None,
            finish: None,
            breakers: vec![],
        };
        (Job { change, ack }, answer)
    }

    fn error() -> StoreError {
        StoreError::Busy { path: "here".into() }
    }

    /// Takes the next group, and returns the runs it is of.
    fn runs(queue: &Queue, room: usize) -> Vec<u128> {
        let mut jobs = Vec::new();
        assert!(queue.take(0, room, &mut jobs));
        jobs.iter().map(|job| job.change.run.0.as_u128()).collect()
    }

    #[test]
    fn the_oldest_runs_go_first_where_not_all_find_room() {
        let queue = Queue::default();
        for run in [3, 1, 4, 1, 5, 9, 2] {
            queue.push(job(run, 1).0);
        }
        assert_eq!(runs(&queue, 3), [1, 1, 2]);
        queue.push(job(3, 1).0);
        assert_eq!(runs(&queue, 3), [3, 3, 4]);
        assert_eq!(runs(&queue, 3), [5, 9]);
    }

    #[test]
    fn commits_of_a_run_keep_their_order() {
        let queue = Queue::default();
        for first in 0..5 {
            let (mut job, _) = job(1, 1);
            job.change.first = first;
            queue.push(job);
        }
        let mut jobs = Vec::new();
        assert!(queue.take(0, 9, &mut jobs));
        assert_eq!(jobs.iter().map(|job| job.change.first).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_young_run_does_not_wait_for_ever() {
        let queue = Queue::default();
        queue.push(job(9, 1).0);
        for _ in 1..PASSED {
            queue.push(job(1, 1).0);
            assert_eq!(runs(&queue, 1), [1]);
        }
        queue.push(job(1, 1).0);
        assert_eq!(runs(&queue, 1), [9]);
        assert_eq!(runs(&queue, 1), [1]);
    }

    #[test]
    fn groups_are_bounded_in_commits_and_in_bytes() {
        const ROOM: usize = 1_000;
        let queue = Queue::default();
        let sizes: Vec<usize> = std::iter::repeat_n(1, ROOM + 5).chain([5 << 20, 3 << 20, 3 << 20, 1]).collect();
        let answers: Vec<_> = sizes
            .iter()
            .map(|bytes| {
                let (job, answer) = job(1, *bytes);
                queue.push(job);
                answer
            })
            .collect();
        let mut groups = Vec::new();
        while groups.iter().sum::<usize>() < sizes.len() {
            let mut jobs = Vec::new();
            assert!(queue.take(0, ROOM, &mut jobs));
            groups.push(jobs.len());
        }
        assert_eq!(groups, [ROOM, 5, 1, 1, 2]);
        drop(answers);
    }

    #[test]
    fn a_lingering_writer_is_woken_by_the_last_that_is_expected_or_goes_on_without() {
        let queue = Queue::default();
        let mut jobs = Vec::new();
        queue.push(job(1, 1).0);
        assert!(queue.take(5, 9, &mut jobs));
        assert_eq!(jobs.len(), 1, "nobody else came");

        queue.push(job(1, 1).0);
        queue.push(job(2, 1).0);
        jobs.clear();
        assert!(queue.take(2, 9, &mut jobs));
        assert_eq!(jobs.len(), 2);
    }

    #[test]
    fn an_ended_queue_gives_out_what_it_has_and_refuses_the_rest() {
        let queue = Queue::default();
        queue.push(job(1, 1).0);
        queue.end(error());
        let (late, mut answer) = job(2, 1);
        queue.push(late);
        assert_eq!(answer.try_recv(), Ok(Err(error())));
        let mut jobs = Vec::new();
        assert!(queue.take(0, 9, &mut jobs));
        assert!(!queue.take(0, 9, &mut Vec::new()));
        assert_eq!(jobs.len(), 1);
    }

    #[test]
    fn a_failed_queue_answers_everybody() {
        let queue = Queue::default();
        let (waiting, mut answer) = job(1, 1);
        queue.push(waiting);
        queue.fail(&error());
        assert_eq!(answer.try_recv(), Ok(Err(error())));
        assert!(!queue.take(0, 9, &mut Vec::new()));
    }
}
