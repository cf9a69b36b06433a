//! What runs share: each service's breaker, and its places for calls under way (SPEC 6.14).

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

use super::driver::{Mailbox, Message};
use crate::machine::policy::breaker::{Admission, BreakerState, Health};
use crate::machine::state::CallIx;
use crate::names::ServiceName;
use crate::plan::Service;
use crate::time::{Clock, Timestamp};

/// A call that wants a place.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) call: CallIx,
    pub(super) service: ServiceName,
    pub(super) policy: Service,
    pub(super) mailbox: Mailbox,
}

#[derive(Debug, Default)]
struct State {
    breaker: BreakerState,
    busy: u32,
    queue: VecDeque<Asker>,
}

/// The services of a store.
#[derive(Debug, Default)]
pub(super) struct Services(Mutex<BTreeMap<ServiceName, State>>);

impl Services {
    /// Takes over the recorded breakers. Probes of a process that is gone are forgotten.
    pub(super) fn restore(recorded: Vec<(String, Vec<u8>)>) -> Self {
        let states = recorded.into_iter().map(|(name, bytes)| {
            let mut breaker: BreakerState = postcard::from_bytes(&bytes).unwrap_or_default();
            breaker.forget_probe();
            (name.into(), State { breaker, ..State::default() })
        });
        Self(Mutex::new(states.collect()))
    }

    /// Answers a call, or lets it wait for a place; then the answer comes by its mailbox.
    pub(super) fn admit(&self, asker: Asker, now: Timestamp) -> Option<Admission> {
        let mut states = self.0.lock();
        let state = states.entry(asker.service.clone()).or_default();
        if asker.policy.concurrency.is_some_and(|places| state.busy >= places) {
            state.queue.push_back(asker);
            return None;
        }
        Some(state.let_in(&asker.policy, now))
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
        let state = states.entry(service.clone()).or_default();
        state.busy = state.busy.saturating_sub(1);
        if let Some(breaker) = &policy.breaker {
            state.breaker.record(breaker, now, probe, health);
        }
        while let Some(next) = state.queue.front() {
            if next.policy.concurrency.is_some_and(|places| state.busy >= places) {
                break;
            }
            let next = state.queue.pop_front().expect("it was looked at just now");
            let answer = state.let_in(&next.policy, now);
            let lost = next.mailbox.send(Message::Admission { call: next.call, answer }).is_err();
            if lost && !matches!(answer, Admission::Refused(_)) {
                state.busy -= 1;
                if matches!(answer, Admission::Probe) {
                    state.breaker.forget_probe();
                }
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

impl State {
    fn let_in(&mut self, policy: &Service, now: Timestamp) -> Admission {
        let answer = policy.breaker.as_ref().map_or(Admission::Pass, |breaker| self.breaker.admit(breaker, now));
        if !matches!(answer, Admission::Refused(_)) {
            self.busy += 1;
        }
        answer
    }
}
