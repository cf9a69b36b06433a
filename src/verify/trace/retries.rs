//! When a failed attempt is tried again (SPEC 6.3 to 6.5).

use std::time::Duration;

use crate::failure::{ErrorKind, Failure};
use crate::plan::{Backoff, Call, Jitter};
use crate::time::Timestamp;

use super::state::Tries;
use super::{Violation, demand, wrong};

/// Errors that the engine alone reports, with the kind that each has.
const OF_THE_ENGINE: [(&str, ErrorKind); 10] = [
    ("timeout", ErrorKind::Unknown),
    ("panic", ErrorKind::Unknown),
    ("crashed", ErrorKind::Unknown),
    ("bad_output", ErrorKind::Unknown),
    ("breaker_open", ErrorKind::Permanent),
    ("signal_timeout", ErrorKind::Permanent),
    ("deadline", ErrorKind::Permanent),
    ("cancelled", ErrorKind::Permanent),
    ("template", ErrorKind::Permanent),
    ("limit", ErrorKind::Permanent),
];

/// Demands that an error of the engine's has the kind that it must have.
pub(super) fn kind_fits(error: &Failure) -> Result<(), Violation> {
    let known = OF_THE_ENGINE.iter().find(|(code, _)| error.code == *code);
    demand(known.is_none_or(|(_, kind)| *kind == error.kind), "the error has the wrong kind")
}

/// Demands that a call which has just failed is tried again if and when its policy says so. `failed` counts this one.
pub(super) fn retry_fits(
    call: &Call,
    tries: &Tries,
    failure: &Failure,
    at: Timestamp,
    next: Option<Timestamp>,
) -> Result<(), Violation> {
    let retry = &call.retry;
    let (code, listed) = (&failure.code, |codes: &[crate::names::Code]| codes.contains(&failure.code));
    let repeated = match failure.kind {
        ErrorKind::Retryable => true,
        ErrorKind::Permanent => false,
        ErrorKind::Unknown => call.repeatable() && *code != "crashed",
    };
    let wanted = repeated && retry.errors.as_deref().is_none_or(listed) && !listed(&retry.except);
    if !wanted || tries.failed >= retry.attempts {
        return demand(next.is_none(), "an attempt is repeated that must not be");
    }
    let (least, most) = pause(call, tries.failed, failure);
    // A spread delay may be rounded either way.
    let (earliest, latest) = (at.0 + least - 1, at.0 + most + 1);
    let last = match (retry.within, tries.first_at) {
        (Some(within), Some(first)) => first.after(within).0,
        _ => i64::MAX,
    };
    match next {
        Some(next) if next.0 < earliest || next.0 > latest => {
            wrong(format!("the delay is {} ms, not between {least} and {most}", next.0 - at.0))
        }
        Some(next) => demand(next.0 <= last, "an attempt comes after the time in which all must be made"),
        None => demand(latest > last, "an attempt is missing"),
    }
}

/// Returns the shortest and the longest delay after so many failed attempts, in milliseconds.
fn pause(call: &Call, failed: u32, failure: &Failure) -> (i64, i64) {
    if let Some(wish) = failure.retry_after_ms {
        let wish = i64::try_from(wish).unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
        return (wish, wish);
    }
    let retry = &call.retry;
    let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
    let mut grown = retry.delay.as_secs_f64();
    match retry.backoff {
        Backoff::Fixed => {}
        Backoff::Linear => grown *= f64::from(failed),
        Backoff::Exponential => {
            for _ in 1..failed.min(5_000) {
                grown *= retry.factor;
            }
        }
    }
    let longest = Duration::try_from_secs_f64(grown).unwrap_or(Duration::MAX).min(retry.max_delay);
    (if retry.jitter == Jitter::Full { 0 } else { ms(longest) }, ms(longest))
}
