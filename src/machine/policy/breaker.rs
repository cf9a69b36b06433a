//! When a service is left alone (SPEC 6.14).
//!
//! The state belongs to the service and is shared by all runs; this module only says how it changes.

use serde::{Deserialize, Serialize};

use crate::failure::ErrorKind;
use crate::failure::Failure;
use crate::plan::Breaker;
use crate::time::Timestamp;

/// What a breaker remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BreakerState {
    /// Calls pass; these are the times of the latest failures.
    Closed {
        /// Oldest first, none older than the policy's window.
        failures: Vec<Timestamp>,
    },
    /// Calls are refused.
    Open {
        /// Until then.
        until: Timestamp,
    },
    /// One probe is under way; other calls are refused.
    HalfOpen {
        /// Since then.
        since: Timestamp,
    },
    /// A breaker of which nothing is known.
    #[default]
    New,
}

/// A breaker's answer to a call that wants to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Admission {
    /// It may, as one of many.
    Pass,
    /// It may, as the one probe of a half-open breaker.
    Probe,
    /// It may not; asking again makes sense from this time on.
    Refused(Timestamp),
}

/// How a call that had passed came to an end, as far as the service's health is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// The service answered: a success or a permanent error.
    Answered,
    /// The service did not do its work: a retryable or unknown error, or a timeout.
    Failed,
    /// Says nothing of the service: our own crash or panic, or a call that never left.
    Silent,
}

impl Health {
    /// Judges an error.
    #[must_use]
    pub fn of(failure: &Failure) -> Self {
        match (failure.code.as_str(), failure.kind) {
            ("crashed" | "panic" | "cancelled" | "template" | "limit" | "breaker_open", _) => Self::Silent,
            // The handler was not called, so nobody asked the service.
            ("bad_input" | "handler_missing" | "secret_missing", _) => Self::Silent,
            (_, ErrorKind::Permanent) => Self::Answered,
            (_, ErrorKind::Retryable | ErrorKind::Unknown) => Self::Failed,
        }
    }
}

impl BreakerState {
    /// Answers a call that wants to pass at `now`, and remembers the answer.
    pub fn admit(&mut self, policy: &Breaker, now: Timestamp) -> Admission {
        match self {
            Self::New | Self::Closed { .. } => Admission::Pass,
            Self::Open { until } if now < *until => Admission::Refused(*until),
            Self::HalfOpen { .. } => Admission::Refused(now.after(policy.cooldown)),
            Self::Open { .. } => {
                *self = Self::HalfOpen { since: now };
                Admission::Probe
            }
        }
    }

    /// Remembers how a call ended. `probe` says whether it was the probe.
    pub fn record(&mut self, policy: &Breaker, now: Timestamp, probe: bool, health: Health) {
        match (&mut *self, health) {
            (Self::HalfOpen { .. }, Health::Answered) if probe => *self = Self::Closed { failures: Vec::new() },
            (Self::HalfOpen { .. }, Health::Failed) if probe => {
                *self = Self::Open { until: now.after(policy.cooldown) }
            }
            // The probe's place is free again, for the next call that asks.
            (Self::HalfOpen { .. }, Health::Silent) if probe => *self = Self::Open { until: now },
            (Self::New | Self::Closed { .. }, Health::Failed) => {
                let mut failures = match std::mem::take(self) {
                    Self::Closed { failures } => failures,
                    Self::New | Self::Open { .. } | Self::HalfOpen { .. } => Vec::new(),
                };
                failures.retain(|at| now.since(*at) < policy.within);
                failures.push(now);
                *self = if failures.len() >= policy.failures as usize {
                    Self::Open { until: now.after(policy.cooldown) }
                } else {
                    Self::Closed { failures }
                };
            }
            // Calls that had passed before the breaker opened say nothing new; an answer while closed changes nothing.
            (Self::New | Self::Closed { .. }, Health::Answered | Health::Silent)
            | (Self::Open { .. } | Self::HalfOpen { .. }, _) => {}
        }
    }

    /// Frees the place of a probe whose process is gone.
    pub fn forget_probe(&mut self) {
        if let Self::HalfOpen { since } = self {
            *self = Self::Open { until: *since };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const POLICY: Breaker = Breaker { failures: 3, within: Duration::from_secs(60), cooldown: Duration::from_secs(30) };

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000)
    }

    fn failed(times: &[i64]) -> BreakerState {
        let mut state = BreakerState::default();
        for t in times {
            state.record(&POLICY, at(*t), false, Health::Failed);
        }
        state
    }

    #[test]
    fn rule_14_opens_at_the_last_of_n_failures_within_the_window() {
        assert_eq!(failed(&[0, 1]).admit(&POLICY, at(2)), Admission::Pass);
        assert_eq!(failed(&[0, 1, 2]).admit(&POLICY, at(3)), Admission::Refused(at(32)));
        assert_eq!(failed(&[0, 1, 61]).admit(&POLICY, at(62)), Admission::Pass, "the first two are too old");
    }

    #[test]
    fn rule_14_half_open_admits_one_probe() {
        let mut state = failed(&[0, 1, 2]);
        assert_eq!(state.admit(&POLICY, at(32)), Admission::Probe);
        assert_eq!(state.admit(&POLICY, at(33)), Admission::Refused(at(63)));
        assert_eq!(state.admit(&POLICY, at(900)), Admission::Refused(at(930)), "however long the probe takes");
    }

    #[test]
    fn rule_14_any_end_of_the_probe_frees_its_place() {
        for (health, next) in [
            (Health::Answered, Admission::Pass),
            (Health::Failed, Admission::Refused(at(63))),
            (Health::Silent, Admission::Probe),
        ] {
            let mut state = failed(&[0, 1, 2]);
            assert_eq!(state.admit(&POLICY, at(32)), Admission::Probe);
            state.record(&POLICY, at(33), true, health);
            assert_eq!(state.admit(&POLICY, at(34)), next, "{health:?}");
        }
        let mut state = failed(&[0, 1, 2]);
        state.admit(&POLICY, at(32));
        state.forget_probe();
        assert_eq!(state.admit(&POLICY, at(33)), Admission::Probe, "its process died");
    }

    #[test]
    fn rule_14_late_answers_of_calls_that_passed_earlier_do_not_close_it() {
        let mut state = failed(&[0, 1, 2]);
        state.record(&POLICY, at(3), false, Health::Answered);
        assert_eq!(state.admit(&POLICY, at(4)), Admission::Refused(at(32)));
    }

    #[test]
    fn rule_14_what_is_counted() {
        for (code, kind, health) in [
            ("payment.unavailable", ErrorKind::Retryable, Health::Failed),
            ("payment.lost", ErrorKind::Unknown, Health::Failed),
            ("timeout", ErrorKind::Unknown, Health::Failed),
            ("payment.declined", ErrorKind::Permanent, Health::Answered),
            ("crashed", ErrorKind::Unknown, Health::Silent),
            ("panic", ErrorKind::Unknown, Health::Silent),
        ] {
            assert_eq!(Health::of(&Failure::new(code, kind, "")), health, "{code}");
        }
    }
}
