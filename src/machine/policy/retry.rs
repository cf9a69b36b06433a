//! When a failed call is tried again (SPEC 6.3, 6.5).

use std::time::Duration;

use crate::failure::ErrorKind;
use crate::failure::Failure;
use crate::machine::state::CallState;
use crate::plan::duration::delay;
use crate::plan::{Call, Jitter};
use crate::teeth::{Bug, awake};
use crate::time::Timestamp;

/// Codes that say that the handler was not called, or must not be called again.
const NEVER_REPEATED: [&str; 5] = ["template", "limit", "breaker_open", "cancelled", "deadline"];

/// Returns when `call` is tried again after `failure`, or nothing if it is not.
///
/// `dice` is a number that is different for every attempt and the same after every restart.
#[must_use]
pub fn next_attempt(call: &Call, so_far: &CallState, failure: &Failure, at: Timestamp, dice: u64) -> Option<Timestamp> {
    let retry = &call.retry;
    if so_far.counted >= retry.attempts || !is_repeated(call, failure) {
        return None;
    }
    let pause = match failure.retry_after_ms {
        Some(wish) => Duration::from_millis(wish),
        None => spread(delay(retry, so_far.counted), retry.jitter, dice),
    };
    let next = at.after(pause);
    match (retry.within, so_far.first_at) {
        (Some(within), Some(first)) if next > first.after(within) => None,
        _ => Some(next),
    }
}

/// Tells whether an error of this kind and code is one that the policy repeats.
fn is_repeated(call: &Call, failure: &Failure) -> bool {
    let retry = &call.retry;
    let kind_allows = match failure.kind {
        ErrorKind::Retryable => true,
        ErrorKind::Permanent => false,
        ErrorKind::Unknown => call.repeatable() || awake(Bug::RetryOnceAfterUnclear),
    };
    kind_allows
        && !NEVER_REPEATED.contains(&failure.code.as_str())
        && !retry.except.contains(&failure.code)
        && retry.errors.as_ref().is_none_or(|errors| errors.contains(&failure.code))
}

#[expect(clippy::cast_precision_loss, reason = "a delay needs no more than 53 bits of luck")]
fn spread(delay: Duration, jitter: Jitter, dice: u64) -> Duration {
    match jitter {
        Jitter::None => delay,
        Jitter::Full => delay.mul_f64((dice >> 11) as f64 / (1u64 << 53) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Backoff, Retry};

    fn policy(backoff: Backoff, delay_ms: u64, factor: f64, max_ms: u64) -> Retry {
        Retry {
            attempts: 100,
            backoff,
            delay: Duration::from_millis(delay_ms),
            factor,
            max_delay: Duration::from_millis(max_ms),
            jitter: Jitter::None,
            ..Retry::default()
        }
    }

    #[test]
    fn rule_03_delays_follow_the_formula_and_stop_growing_at_max_delay() {
        let delays = |retry: &Retry| (1..=5).map(|n| delay(retry, n).as_millis()).collect::<Vec<_>>();
        assert_eq!(delays(&policy(Backoff::Fixed, 200, 2.0, 60_000)), [200, 200, 200, 200, 200]);
        assert_eq!(delays(&policy(Backoff::Linear, 200, 2.0, 700)), [200, 400, 600, 700, 700]);
        assert_eq!(delays(&policy(Backoff::Exponential, 200, 2.0, 1_500)), [200, 400, 800, 1_500, 1_500]);
    }

    #[test]
    fn c06_a_delay_never_overflows() {
        for factor in [1e308, f64::INFINITY, f64::NAN, 1.0] {
            for n in [1, 2, 1_000, u32::MAX] {
                let retry = policy(Backoff::Exponential, 200, factor, 1_000);
                assert!(delay(&retry, n) <= retry.max_delay, "factor {factor}, attempt {n}");
            }
        }
    }

    #[test]
    fn full_jitter_stays_between_nothing_and_the_delay() {
        let second = Duration::from_secs(1);
        assert_eq!(spread(second, Jitter::Full, 0), Duration::ZERO);
        assert!(spread(second, Jitter::Full, u64::MAX) <= second, "a nanosecond below it is rounded up");
        assert!(spread(second, Jitter::Full, u64::MAX / 2) > Duration::from_millis(400));
    }
}
