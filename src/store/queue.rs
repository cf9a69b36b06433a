//! The way of a commit from the engine's tasks to the writer's thread.
//!
//! A commit is in its place in the queue when the call returns, so the order of calls is the order of writing. What
//! holds senders back is the answer: a task goes on only when its commit is durable, so no more waits here than there
//! are runs, and a group is bounded in commits and in bytes. The writer sleeps on a condition. Whoever sends wakes it
//! only when it has something to do: an idle one at once, one that lingers when its group is full.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::change::Change;
use super::journal::StoreError;

/// How much room a group has: for so many small commits, for 64 MiB, or for one larger commit.
const ROOM: usize = 16_384;

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
    jobs: VecDeque<Job>,
    /// How many jobs wake the writer; none do while it writes.
    wake_at: Option<usize>,
    /// What ended the store; nothing is taken any more.
    ended: Option<StoreError>,
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
        state.jobs.push_back(job);
        if state.wake_at.is_some_and(|at| state.jobs.len() >= at) {
            state.wake_at = None;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Waits for the next group and puts it into `jobs`: at once if fewer than two commits are expected, else lingering
    /// until all have come, or enough of them. Tells whether there is one; there is none once the queue has ended and is empty.
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
        let mut room = ROOM;
        let fits = state.jobs.iter().take_while(|job| {
            let left = room.checked_sub(job.change.room());
            room = left.unwrap_or(0);
            left.is_some()
        });
        // A commit that is larger than a group is one by itself.
        let fits = fits.count().max(1);
        jobs.extend(state.jobs.drain(..fits));
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
        for job in jobs {
            let _ = job.ack.send(Err(error.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::RunKey;

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

    #[test]
    fn groups_are_bounded_in_commits_and_in_bytes() {
        let queue = Queue::default();
        let sizes: Vec<usize> = std::iter::repeat_n(1, ROOM + 5).chain([70 << 20, 40 << 20, 40 << 20, 1]).collect();
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
            assert!(queue.take(0, &mut jobs));
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
        assert!(queue.take(5, &mut jobs));
        assert_eq!(jobs.len(), 1, "nobody else came");

        queue.push(job(1, 1).0);
        queue.push(job(2, 1).0);
        jobs.clear();
        assert!(queue.take(2, &mut jobs));
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
        assert!(queue.take(0, &mut jobs));
        assert!(!queue.take(0, &mut Vec::new()));
        assert_eq!(jobs.len(), 1);
    }

    #[test]
    fn a_failed_queue_answers_everybody() {
        let queue = Queue::default();
        let (waiting, mut answer) = job(1, 1);
        queue.push(waiting);
        queue.fail(&error());
        assert_eq!(answer.try_recv(), Ok(Err(error())));
        assert!(!queue.take(0, &mut Vec::new()));
    }
}
