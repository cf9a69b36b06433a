//! How long a step may take at most when everything that can be waited for is waited for.
//!
//! A wait whose end is not known before the run counts as nothing, and a `foreach` as one item: what is said here is
//! certain to be possible, not certain to be enough.

use std::time::Duration;

use super::node::{Action, Backoff, Call, Member, Retry, Step, Wait, WaitLimit};

/// Delays that are added up one by one; the rest of them have the length of the last.
const COUNTED: u32 = 10_000;

/// Returns the longest time that a step may take.
#[must_use]
pub fn worst_case(step: &Step) -> Duration {
    match &step.action {
        Action::Call(members) => {
            let last = members.len().saturating_sub(1);
            members
                .iter()
                .enumerate()
                .map(|(i, m)| of_member(m, i < last))
                .fold(Duration::ZERO, Duration::saturating_add)
        }
        Action::Wait(Wait::For(time) | Wait::Signal { limit: WaitLimit::For(time), .. }) => *time,
        Action::Wait(Wait::Until(_) | Wait::Signal { .. }) => Duration::ZERO,
    }
}

/// A member that a fallback follows may have to be undone first.
fn of_member(member: &Member, followed: bool) -> Duration {
    let confirm = member.confirm.as_ref().map_or(Duration::ZERO, of_call);
    let undo = member.compensate.as_ref().filter(|_| followed).map_or(Duration::ZERO, of_call);
    of_call(&member.call).saturating_add(confirm).saturating_add(undo)
}

/// Returns the longest time that a call may take with all its attempts.
#[must_use]
pub fn of_call(call: &Call) -> Duration {
    let attempts = call.timeout.saturating_mul(call.retry.attempts);
    let all = attempts.saturating_add(delays(&call.retry));
    match call.retry.within {
        // The last attempt may start at the very end of the time, or the first take longer than it.
        Some(within) => all.min(within.saturating_add(call.timeout)),
        None => all,
    }
}

/// Returns the sum of the longest delays between the attempts.
fn delays(retry: &Retry) -> Duration {
    let count = retry.attempts.saturating_sub(1);
    let counted = count.min(COUNTED);
    let mut sum = Duration::ZERO;
    let mut last = Duration::ZERO;
    for n in 1..=counted {
        last = delay(retry, n);
        sum = sum.saturating_add(last);
    }
    sum.saturating_add(last.saturating_mul(count - counted))
}

/// Returns the longest delay after the `failed`th attempt, counted from 1.
#[must_use]
pub fn delay(retry: &Retry, failed: u32) -> Duration {
    let grown = match retry.backoff {
        Backoff::Fixed => retry.delay,
        Backoff::Linear => retry.delay.saturating_mul(failed),
        Backoff::Exponential => {
            let exponent = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
            let seconds = retry.delay.as_secs_f64() * retry.factor.powi(exponent);
            Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
        }
    };
    grown.min(retry.max_delay)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{delay, delays};
    use crate::plan::{Backoff, Retry};

    #[test]
    fn delays_grow_up_to_the_longest() {
        let seconds = |backoff, n| {
            let retry = Retry {
                backoff,
                delay: Duration::from_secs(2),
                factor: 3.0,
                max_delay: Duration::from_secs(20),
                ..Retry::default()
            };
            delay(&retry, n).as_secs()
        };
        assert_eq!([1, 2, 3, 4].map(|n| seconds(Backoff::Fixed, n)), [2, 2, 2, 2]);
        assert_eq!([1, 2, 3, 40].map(|n| seconds(Backoff::Linear, n)), [2, 4, 6, 20]);
        assert_eq!([1, 2, 3, 4000].map(|n| seconds(Backoff::Exponential, n)), [2, 6, 18, 20]);
    }

    #[test]
    fn one_attempt_waits_for_nothing_and_a_million_end() {
        assert_eq!(delays(&Retry::default()), Duration::ZERO);
        let many = Retry { attempts: 1_000_000, backoff: Backoff::Fixed, ..Retry::default() };
        assert_eq!(delays(&many), Duration::from_secs(999_999));
    }
}
