//! What is said when a verb leaves a run: how it stands, why, what is left, and the next command to type.

use super::describe::{coded, time};
use super::paint::{Paint, Tone, columns, one_line, tone_of};
use super::screen::{Screen, shell_word};
use crate::engine::report::{OwedReport, RunReport, StepReport, WaitReport};
use crate::machine::event::Compensation;
use crate::machine::table::OBSTACLES;
use crate::time::Timestamp;

/// Lines with a word in front of each.
struct Lines<'a> {
    paint: Paint,
    width: usize,
    out: &'a mut Vec<String>,
}

/// How wide the column of words in front is.
const WORD: usize = 9;

/// No more lines of one kind are shown.
const LINES_MAX: usize = 6;

impl Lines<'_> {
    fn line(&mut self, word: &str, tone: Tone, text: &str) {
        let gap = " ".repeat(WORD.saturating_sub(columns(word)));
        let text = one_line(text, self.width.saturating_sub(WORD + 1).max(20));
        let word = self.paint.text(Tone::Quiet, word);
        self.out.push(format!("{word}{gap}{}", self.paint.text(tone, &text)));
    }

    /// Writes a list in as many lines as it takes.
    fn list(&mut self, word: &str, tone: Tone, items: &[String]) {
        let last = items.len().saturating_sub(1);
        let item = |(n, item): (usize, &String)| if n < last { format!("{item}, ") } else { item.clone() };
        self.fill(word, tone, items.iter().enumerate().map(item));
    }

    /// Writes a text in as many lines as it takes, broken between words.
    fn text(&mut self, word: &str, tone: Tone, text: &str) {
        self.fill(word, tone, text.split_whitespace().map(|word| format!("{word} ")));
    }

    /// Fills lines with pieces that stay whole.
    fn fill(&mut self, word: &str, tone: Tone, pieces: impl Iterator<Item = String>) {
        let room = self.width.saturating_sub(WORD + 1).max(20);
        let mut lines = vec![String::new()];
        for item in pieces {
            let line = lines.last_mut().expect("there is one from the start");
            if !line.is_empty() && columns(line) + columns(item.trim_end()) > room {
                lines.push(item);
            } else {
                line.push_str(&item);
            }
        }
        let hidden = lines.len().saturating_sub(LINES_MAX);
        for (n, line) in lines.into_iter().take(LINES_MAX).enumerate() {
            self.line(if n == 0 { word } else { "" }, tone, line.trim_end());
        }
        if hidden > 0 {
            self.line("", Tone::Quiet, "...");
        }
    }
}

/// Returns the summary of a run: for one that went well a line, for any other one screen at most.
pub(in crate::cli) fn summary(report: &RunReport, paint: Paint, screen: &Screen) -> Vec<String> {
    let mut out = Vec::new();
    let mut lines = Lines { paint, width: screen.width(), out: &mut out };
    let length = length(report).map_or_else(String::new, |l| format!(" after {}", time(l)));
    let head = format!("run {} of {}{length}", report.run_id, report.workflow);
    lines.line(&report.status, Tone::Plain, &head);
    if paint.is_on()
        && let Some(first) = lines.out.last_mut()
    {
        *first = format!(
            "{}{}{head}",
            paint.text(tone_of(&report.status), &report.status),
            " ".repeat(WORD.saturating_sub(report.status.len()).max(1))
        );
    } else if report.status.len() >= WORD
        && let Some(first) = lines.out.last_mut()
    {
        *first = format!("{} {head}", report.status);
    }
    if let Some(error) = &report.error {
        let step = error.step.as_ref().map(|step| {
            let place = error.item.map_or_else(|| step.clone(), |item| format!("{step}[{item}]"));
            let attempts = report.steps.get(step).map_or(0, |s| s.attempts);
            match attempts {
                0 => format!("{place}: "),
                1 => format!("{place}, at its only attempt: "),
                n => format!("{place}, after {n} attempts: "),
            }
        });
        let text = format!("{}{}", step.unwrap_or_default(), error.code);
        lines.line("because", Tone::Bad, &text);
        if !error.message.is_empty() && error.message != error.code {
            lines.text("", Tone::Plain, &error.message);
        }
    }
    if let Some(parked) = &report.parked {
        lines.text("because", Tone::Care, &coded(&parked.code, &parked.message));
        // A failed step that the run passed over is not why it stands, unless nothing better is known.
        let is_named = |name: &str| parked.message.contains(&format!("`{name}`"));
        let any = report.steps.keys().any(|name| is_named(name));
        let to_blame = |name: &str, step: &StepReport| !any || is_named(name) || step.status == "running";
        let steps = report.steps.iter().filter(|(name, step)| to_blame(name, step));
        for text in steps.filter_map(|(name, step)| stands(name, step)).take(LINES_MAX) {
            lines.text("at", Tone::Bad, &text);
        }
    }
    for wait in report.waiting_for.iter().take(LINES_MAX) {
        lines.line("waits", Tone::Care, &waits(wait));
    }
    if let Some(next) = &report.next_timer_at {
        lines.line("timer", Tone::Plain, &format!("the next one is due at {next}"));
    }
    if !report.undone.is_empty() {
        lines.list("undone", Tone::Plain, &report.undone);
    }
    let ended_badly = matches!(report.status.as_str(), "failed" | "cancelled");
    if !report.owed.is_empty() {
        for owed in report.owed.iter().take(LINES_MAX) {
            lines.text("left", Tone::Bad, &owed_line(owed));
        }
        if report.owed.len() > LINES_MAX {
            lines.line("", Tone::Quiet, &format!("and {} more", report.owed.len() - LINES_MAX));
        }
    } else if ended_badly {
        let text = if report.undone.is_empty() { "nothing, and nothing had to be undone" } else { "nothing" };
        lines.line("left", Tone::Good, text);
    }
    for next in next_commands(report, screen) {
        lines.out.push(format!(
            "{}{}{}",
            paint.text(Tone::Quiet, "next"),
            " ".repeat(WORD - 4),
            paint.text(Tone::Strong, &next)
        ));
    }
    out
}

/// Says where a step of a parked run stands, if it is one that does not go on.
fn stands(name: &str, step: &StepReport) -> Option<String> {
    let attempts = step.attempts;
    let why = step.error.as_ref().map_or_else(String::new, |e| format!(": {}", coded(&e.code, &e.message)));
    match step.status.as_str() {
        "running" => Some(format!("{name}, whose attempt {attempts} was cut off")),
        "failed" | "unknown" if attempts == 1 => Some(format!("{name}, {} at its only attempt{why}", step.status)),
        "failed" | "unknown" => Some(format!("{name}, {} after {attempts} attempts{why}", step.status)),
        _ => None,
    }
}

/// Returns what is waited for: `settled for signal payment.settled until 2026-01-31T12:00:00Z`.
pub(super) fn waits(wait: &WaitReport) -> String {
    let signal = wait.signal.as_ref().map_or_else(String::new, |signal| format!(" for signal {signal}"));
    let until = wait.until.as_ref().map_or_else(String::new, |until| format!(" until {until}"));
    format!("{}{signal}{until}", wait.step)
}

fn owed_line(owed: &OwedReport) -> String {
    let place = owed.item.map_or_else(|| owed.step.clone(), |item| format!("{}[{item}]", owed.step));
    let why = match (&owed.code, &owed.message) {
        (Some(code), message) => format!(": {}", coded(code, message.as_deref().unwrap_or_default())),
        (None, _) => String::new(),
    };
    format!("{place} is not undone ({}){why}", owed.handler)
}

/// Returns the commands that make sense next, the likeliest first.
fn next_commands(report: &RunReport, screen: &Screen) -> Vec<String> {
    let run = shell_word(&report.run_id);
    let mut next = Vec::new();
    match (report.status.as_str(), report.compensation) {
        (_, Compensation::Incomplete) if !report.owed.is_empty() => {
            next.push(screen.command(&format!("compensate {run}")));
            let owed = &report.owed[0];
            let item = owed.item.map_or_else(String::new, |item| format!(" --item {item}"));
            next.push(screen.command(&format!("compensate {run} --mark-done {}{item} --reason TEXT", owed.step)));
        }
        ("failed" | "cancelled", _) => next.push(screen.command(&format!("history {run}"))),
        ("parked", _) => {
            let again = report.parked.as_ref().is_some_and(|p| OBSTACLES.contains(&p.code.as_str()));
            let verb = if again { "resume" } else { "retry" };
            next.push(screen.command(&format!("{verb} {run}")));
            next.push(screen.command(&format!("cancel {run}")));
        }
        ("waiting" | "running", _) => {
            if let Some(signal) = report.waiting_for.iter().find_map(|w| w.signal.as_ref()) {
                next.push(screen.command(&format!("signal {run} {} --input FILE", shell_word(signal))));
            }
            if report.next_timer_at.is_some() || report.waiting_for.is_empty() {
                next.push(screen.command(&format!("resume {run}")));
            }
        }
        _ => {}
    }
    next
}

fn length(report: &RunReport) -> Option<std::time::Duration> {
    let start = Timestamp::parse(&report.started_at).ok()?;
    let end = Timestamp::parse(report.finished_at.as_deref()?).ok()?;
    Some(end.since(start))
}
