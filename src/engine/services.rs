//! What runs share: each service's breaker, and its places for calls under way (SPEC 6.14).

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::driver::{Mailbox, Message};
use crate::machine::policy::breaker::{Admission, BreakerState, Health};
use crate::machine::state::CallIx;
use crate::names::ServiceName;
use crate::plan::Service;
use crate::time::{Clock, Timestamp};

/// One service: its breaker, and its places, with those who wait for one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Places<W> {
    breaker: BreakerState,
    busy: u32,
    /// Each with the policy of its own workflow.
    queue: VecDeque<(Service, W)>,
}

impl<W> Default for Places<W> {
    fn default() -> Self {
        Self { breaker: BreakerState::default(), busy: 0, queue: VecDeque::new() }
    }
}

impl<W> Places<W> {
    /// Answers a call that wants to pass, or lets it wait for a place; then [`Places::next`] has its answer.
    pub(crate) fn admit(&mut self, policy: &Service, who: W, now: Timestamp) -> Option<Admission> {
        if policy.concurrency.is_some_and(|places| self.busy >= places) {
            self.queue.push_back((policy.clone(), who));
            return None;
        }
        Some(self.let_in(policy, now))
    }

    /// Notes how a call that was let in ended.
    pub(crate) fn leave(&mut self, policy: &Service, probe: bool, health: Health, now: Timestamp) {
        self.busy = self.busy.saturating_sub(1);
        if let Some(breaker) = &policy.breaker {
            self.breaker.record(breaker, now, probe, health);
        }
    }

    /// Answers the next of those who wait, if there is a place for it.
    pub(crate) fn next(&mut self, now: Timestamp) -> Option<(W, Admission)> {
        let (policy, _) = self.queue.front()?;
        if policy.concurrency.is_some_and(|places| self.busy >= places) {
            return None;
        }
        let (policy, who) = self.queue.pop_front()?;
        let answer = self.let_in(&policy, now);
        Some((who, answer))
    }

    /// Takes an answer back: whoever it was for is gone.
    fn unheard(&mut self, answer: Admission) {
        if !matches!(answer, Admission::Refused(_)) {
            self.busy -= 1;
            if matches!(answer, Admission::Probe) {
                self.breaker.forget_probe();
            }
        }
    }

    fn let_in(&mut self, policy: &Service, now: Timestamp) -> Admission {
        let answer = policy.breaker.as_ref().map_or(Admission::Pass, |breaker| self.breaker.admit(breaker, now));
        if !matches!(answer, Admission::Refused(_)) {
            self.busy += 1;
        }
        answer
    }
}

/// A call that wants a place.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) call: CallIx,
    pub(super) mailbox: Mailbox,
}

/// The services of a store.
#[derive(Debug, Default)]
pub(super) struct Services(Mutex<BTreeMap<ServiceName, Places<Asker>>>);

impl Services {
    /// Takes over the recorded breakers. Probes of a process that is gone are forgotten.
    pub(super) fn restore(recorded: Vec<(String, Vec<u8>)>) -> Self {
        let states = recorded.into_iter().map(|(name, bytes)| {
            let mut breaker: BreakerState = postcard::from_bytes(&bytes).unwrap_or_default();
            breaker.forget_probe();
            (name.into(), Places { breaker, ..Places::default() })
        });
        Self(Mutex::new(states.collect()))
    }

    /// Answers a call, or lets it wait for a place; then the answer comes by its mailbox.
    pub(super) fn admit(
        &self,
        service: &ServiceName,
        policy: &Service,
        asker: Asker,
        now: Timestamp,
    ) -> Option<Admission> {
        let mut states = self.0.lock();
        states.entry(service.clone()).or_default().admit(policy, asker, now)
    }

    /// Notes how a call that was let in ended, and gives its place to the next.
    pub(super) fn leave(
        &self,
        service: &ServiceName,
        policy: &Service,
        probe: bool,
        health: Health,
        clock: &dyn Clock,
    ) {
        let now = clock.now();
        let mut states = self.0.lock();
        let places = states.entry(service.clone()).or_default();
        places.leave(policy, probe, health, now);
        while let Some((next, answer)) = places.next(now) {
            if next.mailbox.send(Message::Admission { call: next.call, answer }).is_err() {
                places.unheard(answer);
            }
        }
    }

    /// Hands the present state of these services' breakers to `write`, and lets nothing change them meanwhile: what
    /// is recorded last is what is true.
    pub(super) fn with_states<T>(
        &self,
        services: impl IntoIterator<Item = ServiceName>,
        write: impl FnOnce(Vec<(String, Vec<u8>)>) -> T,
    ) -> T {
        let states = self.0.lock();
        let rows = services.into_iter().filter_map(|name| {
            let bytes = postcard::to_stdvec(&states.get(&name)?.breaker).expect("a breaker's state can be written");
            Some((name.to_string(), bytes))
        });
        write(rows.collect())
    }
}
