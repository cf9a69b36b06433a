//! The time of a scenario, which goes on from one life of the process to the next.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::time::{Clock, Sleep, Timestamp, VirtualClock};

/// A clock that every life of a scenario's process shares, so that handlers and their ledger outlive the process.
#[derive(Clone, Debug)]
pub(super) struct LivesClock(Arc<Mutex<Face>>);

#[derive(Clone, Copy, Debug)]
enum Face {
    /// No process is alive; the time stands still.
    Stopped(Timestamp),
    /// A process is alive, and the time is that of its runtime.
    Running(VirtualClock),
}

impl LivesClock {
    /// Returns a clock that stands at `at`.
    pub(super) fn at(at: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Face::Stopped(at))))
    }

    /// Lets the time run with the async runtime this is called in.
    pub(super) fn start(&self) {
        let now = self.now();
        *self.0.lock() = Face::Running(VirtualClock::starting_at(now));
    }

    /// Stops the time, later by `down`. Must be called inside the runtime that it ran with.
    pub(super) fn stop(&self, down: std::time::Duration) {
        let now = self.now();
        *self.0.lock() = Face::Stopped(now.after(down));
    }
}

impl Clock for LivesClock {
    fn now(&self) -> Timestamp {
        let face = *self.0.lock();
        match face {
            Face::Stopped(at) => at,
            Face::Running(clock) => clock.now(),
        }
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        let face = *self.0.lock();
        match face {
            // Whoever sleeps now is about to die with its runtime.
            Face::Stopped(_) => Box::pin(std::future::pending()),
            Face::Running(clock) => clock.sleep_until(at),
        }
    }
}
