//! Runs, lists of runs and handlers as text.

use serde_json::Value;

use super::describe::{coded, describe, moment};
use super::paint::{Tone, tone_of};
use super::screen::Screen;
use super::summary::summary;
use super::table::{Cell, Table};
use crate::engine::report::RunReport;
use crate::engine::view::RunSummary;
use crate::machine::event::{Compensation, Entry, Event};

/// Returns a run for people: the summary, its steps, its output.
pub(in crate::cli) fn run(report: &RunReport, screen: &Screen) -> String {
    let paint = screen.out;
    let mut out = summary(report, paint, screen).join("\n");
    out.push_str("\n\n");
    let mut table = Table::new(&["STEP", "STATUS", "ATTEMPTS", "DETAIL"]);
    for (name, step) in &report.steps {
        let via = step.via.as_deref().filter(|via| *via != crate::names::PRIMARY).map(|via| format!("via {via}"));
        let error = step.error.as_ref().map(|e| coded(&e.code, &e.message));
        let detail = [via, error].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let attempts = if step.attempts == 0 { String::new() } else { step.attempts.to_string() };
        table.row(vec![
            name.as_str().into(),
            Cell::new(tone_of(&step.status), step.status.replace('_', " ")),
            attempts.into(),
            detail.into(),
        ]);
    }
    out.push_str(&table.text(paint, screen.out_width()));
    if let Some(output) = &report.output {
        out.push('\n');
        out.push_str(&paint.text(Tone::Quiet, "OUTPUT"));
        out.push('\n');
        out.push_str(&pretty(output));
        out.push('\n');
    }
    out
}

/// Returns a list of runs for people.
pub(in crate::cli) fn list(runs: &[RunSummary], screen: &Screen) -> String {
    let mut table = Table::new(&["RUN", "WORKFLOW", "STATUS", "COMPENSATION", "STARTED", "FINISHED"]);
    for run in runs {
        let (compensation, tone) = match run.compensation {
            Compensation::NoneNeeded => ("", Tone::Quiet),
            Compensation::Complete => ("complete", Tone::Plain),
            Compensation::Incomplete => ("incomplete", Tone::Bad),
        };
        table.row(vec![
            run.run_id.as_str().into(),
            run.workflow.as_str().into(),
            Cell::new(tone_of(&run.status), run.status.clone()),
            Cell::new(tone, compensation),
            short_time(&run.started_at).into(),
            run.finished_at.as_deref().map(short_time).unwrap_or_default().into(),
        ]);
    }
    table.text(screen.out, screen.out_width())
}

/// Returns the events of a run for people.
pub(in crate::cli) fn history(entries: &[(u64, Entry)], screen: &Screen) -> String {
    let mut table = Table::new(&["", "AT", "WHERE", "WHAT"]);
    let mut day = String::new();
    for (seq, entry) in entries {
        let today = entry.at.to_string().get(..10).unwrap_or_default().to_owned();
        if today != day {
            table.row(vec!["".into(), Cell::new(Tone::Quiet, today.clone()), "".into(), "".into()]);
            day = today;
        }
        let at = moment(entry.at);
        let seq = format!("{seq:>3}");
        match describe(entry) {
            Some(told) => {
                table.row(vec![
                    Cell::new(Tone::Quiet, seq),
                    at.into(),
                    told.subject.into(),
                    Cell::new(told.tone, told.text),
                ]);
            }
            None => {
                let (subject, what) = match &entry.event {
                    Event::CallSucceeded { call, .. } => (call.place.to_string(), "the question is answered"),
                    Event::RunEnding(_) => ("run".to_owned(), "ending"),
                    other => ("run".to_owned(), crate::machine::history::type_of(other)),
                };
                table.row(vec![Cell::new(Tone::Quiet, seq), at.into(), subject.into(), Cell::new(Tone::Quiet, what)]);
            }
        }
    }
    table.text(screen.out, screen.out_width())
}

/// Returns JSON for people: indented.
pub(in crate::cli) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

/// Returns an RFC 3339 time to the second.
fn short_time(text: &str) -> String {
    text.get(..19).map_or_else(|| text.to_owned(), |s| s.replace('T', " "))
}
