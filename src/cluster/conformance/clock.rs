//! The time of a scenario beside a server that lives in ours: it stands still until the player lets it go on.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::time::{Clock, Sleep, Timestamp};

/// A clock that somebody else sets. Clones show the same time.
#[derive(Clone)]
pub(super) struct HeldClock(Arc<Mutex<Face>>);

struct Face {
    now: Timestamp,
    /// Who sleeps until when.
    sleepers: BTreeMap<(Timestamp, u64), oneshot::Sender<()>>,
    number: u64,
}

/// Takes a sleeper off the list that does not want to be woken any more.
struct Sleeper(HeldClock, (Timestamp, u64));

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.0.lock().sleepers.remove(&self.1);
    }
}

impl HeldClock {
    /// Returns a clock that stands at `now`.
    pub(super) fn at(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Face { now, sleepers: BTreeMap::new(), number: 0 })))
    }

    /// Says when the next sleeper wants to be woken.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.0.lock().sleepers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Lets it be `at`, and wakes who slept until then.
    pub(super) fn set(&self, at: Timestamp) {
        let mut face = self.0.lock();
        face.now = face.now.max(at);
        let first_later = (face.now.after(std::time::Duration::from_millis(1)), 0);
        let later = face.sleepers.split_off(&first_later);
        let awake = std::mem::replace(&mut face.sleepers, later);
        drop(face);
        for sleeper in awake.into_values() {
            // It may not listen any more.
            let _ = sleeper.send(());
        }
    }
}

impl Clock for HeldClock {
    fn now(&self) -> Timestamp {
        self.0.lock().now
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        let mut face = self.0.lock();
        if at <= face.now {
            return Box::pin(std::future::ready(()));
        }
        face.number += 1;
        let place = (at, face.number);
        let (wake, woken) = oneshot::channel();
        face.sleepers.insert(place, wake);
        let sleeper = Sleeper(self.clone(), place);
        Box::pin(async move {
            let _sleeper = sleeper;
            // The sender is dropped only with the sleeper.
            let _ = woken.await;
        })
    }
}
