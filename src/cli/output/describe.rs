//! Events in words: what the step view and `history` print of each.

use crate::failure::Failure;
use std::time::Duration;

use super::paint::Tone;
use crate::machine::event::{Answer, CallKind, Cause, Compensation, Conclusion, Entry, Event, Outcome, SkipReason};
use crate::names::PRIMARY;
use crate::time::Timestamp;

/// An event in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Told {
    /// What it is about: a step, an item of one, or `run`.
    pub(in crate::cli) subject: String,
    /// What happened.
    pub(in crate::cli) text: String,
    /// How it went.
    pub(in crate::cli) tone: Tone,
    /// What it means for a view that shows what is under way.
    pub(in crate::cli) motion: Motion,
}

/// What an event means for a view that shows what is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Motion {
    /// Its subject is under way.
    Goes,
    /// Its subject is under way, and something is due then.
    Due(Timestamp),
    /// Its subject has ended.
    Ends,
    /// It is worth a line of its own.
    Note,
    /// It is only worth a line in a log.
    Log,
}

/// Returns an event in words; nothing for one that another one beside it says better.
pub(in crate::cli) fn describe(entry: &Entry) -> Option<Told> {
    let told = |subject: &dyn std::fmt::Display, tone: Tone, motion: Motion, text: String| {
        Some(Told { subject: subject.to_string(), text, tone, motion })
    };
    let run = &"run" as &dyn std::fmt::Display;
    match &entry.event {
        Event::RunStarted(started) => told(run, Tone::Quiet, Motion::Log, format!("started: {}", started.workflow)),
        Event::RunResumed { clean: true } => told(run, Tone::Quiet, Motion::Log, "resumed".into()),
        Event::RunResumed { clean: false } => told(run, Tone::Care, Motion::Note, "resumed after a crash".into()),
        Event::RunInterrupted => told(run, Tone::Care, Motion::Log, "put down; it can be resumed".into()),
        Event::RunParked { code, message } => {
            told(run, Tone::Care, Motion::Note, format!("parked ({code}): {message}"))
        }
        Event::SignalReceived { name, .. } => told(run, Tone::Plain, Motion::Note, format!("signal {name} received")),
        Event::StepSkipped { step, reason } => {
            let why = match reason {
                SkipReason::When => "skipped",
                SkipReason::Needs => "skipped, as all it needs",
            };
            told(step, Tone::Quiet, Motion::Ends, why.into())
        }
        Event::ItemsListed { step, items } => {
            let count = items.value().as_array().map_or(0, Vec::len);
            told(step, Tone::Plain, Motion::Goes, format!("{count} item{}", if count == 1 { "" } else { "s" }))
        }
        Event::WaitStarted { step, until, signal } => {
            let what = signal.as_ref().map_or_else(|| "waits".to_owned(), |s| format!("waits for signal {s}"));
            let text = until.map_or_else(|| what.clone(), |until| format!("{what} until {}", second(until)));
            told(step, Tone::Care, until.map_or(Motion::Goes, Motion::Due), text)
        }
        Event::CallStarted { call, via, attempt, .. } => {
            let what = match call.kind {
                CallKind::Forward | CallKind::Finally if *via == PRIMARY && *attempt == 1 => "started".to_owned(),
                CallKind::Forward | CallKind::Finally if *attempt == 1 => format!("started, fallback {via}"),
                CallKind::Forward | CallKind::Finally => format!("attempt {attempt}"),
                CallKind::Confirm => "asking whether it was done".to_owned(),
                CallKind::Undo if *attempt == 1 => "undoing".to_owned(),
                CallKind::Undo => format!("undoing, attempt {attempt}"),
            };
            told(&call.place, Tone::Quiet, Motion::Goes, what)
        }
        Event::CallSucceeded { call, attempt, .. } => {
            let motion = if call.place.item.is_some() { Motion::Log } else { Motion::Ends };
            let text = match call.kind {
                CallKind::Confirm => return None,
                CallKind::Undo => "undone".to_owned(),
                CallKind::Forward | CallKind::Finally if *attempt > 1 => format!("done, attempt {attempt}"),
                CallKind::Forward | CallKind::Finally => "done".to_owned(),
            };
            told(&call.place, Tone::Good, motion, text)
        }
        Event::CallFailed { call, attempt, error, retry_at } => {
            let what = match call.kind {
                CallKind::Forward | CallKind::Finally if *attempt == 0 => "refused".to_owned(),
                CallKind::Forward | CallKind::Finally => format!("attempt {attempt} failed"),
                CallKind::Confirm => "asking failed".to_owned(),
                CallKind::Undo => format!("undo failed, attempt {attempt}"),
            };
            let mut text = format!("{what}: {}", failure(error));
            if let Some(at) = retry_at {
                text.push_str("; next in ");
                text.push_str(&time(at.since(entry.at)));
                return told(&call.place, Tone::Care, Motion::Due(*at), text);
            }
            let motion = match call.kind {
                CallKind::Undo | CallKind::Finally if call.place.item.is_none() => Motion::Ends,
                _ => Motion::Note,
            };
            told(&call.place, Tone::Bad, motion, text)
        }
        Event::CallCutOff { call, attempt } => {
            told(&call.place, Tone::Care, Motion::Note, format!("attempt {attempt} was cut off; it is repeated"))
        }
        Event::Confirmed { call, answer, .. } => match answer {
            Answer::Done => told(&call.place, Tone::Good, Motion::Ends, "was done after all".into()),
            Answer::NotDone => told(&call.place, Tone::Care, Motion::Note, "was not done".into()),
            Answer::Unknown => told(&call.place, Tone::Bad, Motion::Note, "nobody can say whether it was done".into()),
        },
        Event::Settled { place, outcome } => {
            let motion = if place.item.is_some() { Motion::Log } else { Motion::Ends };
            match outcome {
                Outcome::Succeeded { .. } => told(place, Tone::Good, motion, "done".into()),
                // The attempt before has said the rest.
                Outcome::Failed { error } => told(place, Tone::Bad, motion, format!("failed: {}", error.code)),
                Outcome::Unknown { error } => told(place, Tone::Bad, motion, format!("unknown: {}", error.code)),
            }
        }
        Event::DrainStarted { cause } => {
            let text = match cause {
                Cause::Failed { place: Some(place), error } => format!("failing at {place}: {}", error.code),
                Cause::Failed { place: None, error } | Cause::Deadline { error } => {
                    format!("failing: {}", failure(error))
                }
                Cause::Cancelled { reason: Some(reason), .. } => format!("cancelled: {reason}"),
                Cause::Cancelled { reason: None, .. } => "cancelled".to_owned(),
            };
            told(run, Tone::Bad, Motion::Note, text)
        }
        Event::UndoStarted => told(run, Tone::Care, Motion::Log, "what was done is undone now".into()),
        Event::RunEnding(_) => None,
        Event::RunFinished(conclusion) => {
            let tone = super::paint::tone_of(crate::engine::report::word(conclusion.status));
            told(run, tone, Motion::Log, ended(conclusion))
        }
        Event::RetryRequested { from: Some(step) } => told(run, Tone::Plain, Motion::Note, format!("retry of {step}")),
        Event::RetryRequested { from: None } => told(run, Tone::Plain, Motion::Note, "retry".into()),
        Event::CompensateRequested => told(run, Tone::Plain, Motion::Note, "compensation is tried again".into()),
        Event::MarkedDone { place, reason } => {
            told(place, Tone::Good, Motion::Note, format!("undone by hand: {reason}"))
        }
        Event::LateResult { call, attempt, .. } => {
            told(&call.place, Tone::Quiet, Motion::Log, format!("attempt {attempt} answered too late"))
        }
    }
}

fn ended(conclusion: &Conclusion) -> String {
    let word = crate::engine::report::word(conclusion.status);
    match conclusion.compensation {
        Compensation::NoneNeeded => word.to_owned(),
        Compensation::Complete => format!("{word}, everything undone"),
        Compensation::Incomplete => format!("{word}, something is left to undo"),
    }
}

fn failure(error: &Failure) -> String {
    coded(error.code.as_str(), &error.message)
}

/// Returns an error as `code (message)`.
pub(in crate::cli) fn coded(code: &str, message: &str) -> String {
    if message.is_empty() || message == code { code.to_owned() } else { format!("{code} ({message})") }
}

/// Returns a time of day with milliseconds: `12:03:04.123`.
pub(in crate::cli) fn moment(at: Timestamp) -> String {
    at.to_string().get(11..23).map_or_else(|| at.to_string(), str::to_owned)
}

/// Returns a point in time to the second, in UTC.
pub(in crate::cli) fn second(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(..19).map_or_else(|| text.clone(), |s| format!("{}Z", s))
}

/// Returns a length of time as people say it: `400ms`, `1.2s`, `3m 05s`, `2h 10m`.
pub(in crate::cli) fn time(length: Duration) -> String {
    let ms = length.as_millis();
    let s = length.as_secs();
    match s {
        _ if ms < 1_000 => format!("{ms}ms"),
        0..60 => format!("{}.{}s", s, ms % 1_000 / 100),
        60..3_600 => format!("{}m {:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h {:02}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d {:02}h", s / 86_400, s % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::ErrorKind;
    use crate::machine::event::{CallId, Place};

    #[test]
    fn a_failed_attempt_says_what_and_when_next() {
        let call = CallId { place: Place { step: "charge".into(), item: None }, member: 0, kind: CallKind::Forward };
        let error = Failure::new("payment.unavailable", ErrorKind::Retryable, "gateway down");
        let event = Event::CallFailed { call, attempt: 2, error, retry_at: Some(Timestamp(1_400)) };
        let told = describe(&Entry { at: Timestamp(1_000), event }).expect("it is worth a line");
        assert_eq!(told.subject, "charge");
        assert_eq!(told.text, "attempt 2 failed: payment.unavailable (gateway down); next in 400ms");
        assert_eq!(told.motion, Motion::Due(Timestamp(1_400)));
    }

    #[test]
    fn times_are_short() {
        let of = |ms| time(Duration::from_millis(ms));
        assert_eq!(of(400), "400ms");
        assert_eq!(of(1_250), "1.2s");
        assert_eq!(of(185_000), "3m 05s");
        assert_eq!(of(7_800_000), "2h 10m");
        assert_eq!(of(90_000_000), "1d 01h");
        assert_eq!(moment(Timestamp(43_384_123)), "12:03:04.123");
        assert_eq!(second(Timestamp(43_384_123)), "1970-01-01T12:03:04Z");
    }
}
