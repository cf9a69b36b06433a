//! The progress of many runs at once, and what is said when all have rested.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::describe::{coded, time};
use super::paint::{Tone, one_line, tone_of};
use super::screen::{Screen, tell};
use super::summary::waits;
use crate::cli::problem::Problem;
use crate::engine::report::RunReport;
use crate::time::{Clock as _, SystemClock, Timestamp};

/// How often a line says how far a batch is where no bar can be drawn.
pub(in crate::cli) const NOW_AND_THEN: Duration = Duration::from_secs(10);

/// So many of each kind that did not go well are shown where a bar is drawn; elsewhere all are.
const SHOWN: u64 = 10;

/// So many are named again at the end.
const NAMED: usize = 5;

/// With so many runs, those that did not go well have scrolled away by the end.
const A_PAGE: u64 = 20;

/// The word for lines of which no run was made.
const REFUSED: &str = "refused";

/// Counts runs and shows how far they are.
pub(in crate::cli) struct Batch {
    screen: Screen,
    bar: Option<ProgressBar>,
    begun: Option<Timestamp>,
    /// How many bytes the input has.
    bytes: Option<u64>,
    bytes_done: u64,
    done: Arc<AtomicU64>,
    counts: BTreeMap<String, u64>,
    incomplete: u64,
    /// The first that did not go well.
    first: Vec<String>,
}

impl Batch {
    /// Makes a batch of lines with so many bytes in all, if that is known. It begins now.
    pub(in crate::cli) fn of_lines(screen: &Screen, bytes: Option<u64>) -> Self {
        let done = Arc::new(AtomicU64::new(0));
        let bar = screen.live.then(|| bar(bytes, &done));
        Self { bar, begun: Some(SystemClock.now()), bytes, done, ..Self::of_runs(screen) }
    }

    /// Makes a batch of runs that rest already.
    pub(in crate::cli) fn of_runs(screen: &Screen) -> Self {
        Self {
            screen: screen.clone(),
            bar: None,
            begun: None,
            bytes: None,
            bytes_done: 0,
            done: Arc::default(),
            counts: BTreeMap::new(),
            incomplete: 0,
            first: Vec::new(),
        }
    }

    /// Notes that a line of so many bytes has been dealt with.
    pub(in crate::cli) fn passed(&mut self, bytes: u64) {
        self.bytes_done += bytes;
        if let Some(bar) = &self.bar {
            bar.set_position(self.bytes_done);
        }
    }

    /// Notes a run that rests, made of the line with this number.
    pub(in crate::cli) fn rested(&mut self, line: Option<u64>, report: &RunReport) {
        let incomplete = report.exit_code() == 5;
        self.incomplete += u64::from(incomplete);
        if report.status == "completed" && !incomplete {
            return self.count(&report.status, None);
        }
        let why = report.error.as_ref().map(|e| {
            let step = e.step.as_ref().map_or_else(String::new, |s| format!("{s}: "));
            format!("{step}{}", coded(&e.code, &e.message))
        });
        let why = why.or_else(|| report.parked.as_ref().map(|p| p.message.clone()));
        let why = why.or_else(|| report.waiting_for.first().map(waits)).unwrap_or_default();
        let left = if incomplete { "; something is left to undo" } else { "" };
        let line = line.map_or_else(String::new, |line| format!("line {line}: "));
        self.count(&report.status, Some((tone_of(&report.status), format!("{line}{}  {why}{left}", report.run_id))));
    }

    /// Notes a line that could not be run.
    pub(in crate::cli) fn refused(&mut self, line: u64, problem: &Problem) {
        let details = problem.details.join("; ");
        let details = if details.is_empty() { details } else { format!(": {details}") };
        self.count(REFUSED, Some((Tone::Bad, format!("line {line}: {}{details}", problem.message))));
    }

    fn count(&mut self, status: &str, what: Option<(Tone, String)>) {
        let count = self.counts.entry(status.to_owned()).or_default();
        *count += 1;
        self.done.fetch_add(1, Ordering::Relaxed);
        if let Some((tone, text)) = what {
            let line = format!("{}  {}", self.screen.err.text(tone, status), one_line(&text, 2_000));
            match &self.bar {
                _ if self.screen.is_quiet() => {}
                Some(bar) if *count <= SHOWN => bar.println(&line),
                Some(_) => {}
                None => tell(&line),
            }
            if self.first.len() < NAMED {
                self.first.push(line);
            }
        }
        if let Some(bar) = &self.bar {
            bar.set_message(self.words());
        }
    }

    fn words(&self) -> String {
        // A line that was refused is no run, and comes last.
        let of = |refused: bool| self.counts.iter().filter(move |(status, _)| (*status == REFUSED) == refused);
        let mut words: Vec<String> = of(false).map(|(status, n)| format!("{} {status}", thousands(*n))).collect();
        if self.incomplete > 0 {
            words.push(format!("{} incomplete", thousands(self.incomplete)));
        }
        words.extend(of(true).map(|(status, n)| format!("{} {status}", thousands(*n))));
        words.join(", ")
    }

    /// Says how far it is where no bar does.
    pub(in crate::cli) fn now_and_then(&self) {
        let Some(took) = self.took().filter(|_| self.bar.is_none()) else { return };
        let done = self.done.load(Ordering::Relaxed);
        let part = self.bytes.filter(|bytes| *bytes > 0).map(|bytes| (self.bytes_done as f64 / bytes as f64).min(1.0));
        let left = part.filter(|part| *part > 0.0).map_or_else(String::new, |part| {
            let left = time(took.mul_f64((1.0 - part) / part));
            format!("{:.0} %, about {left} left; ", part * 100.0)
        });
        let rate = per_second(done, took);
        self.screen.say(&format!("{} done, {rate}; {left}{}", thousands(done), self.words()));
    }

    fn took(&self) -> Option<Duration> {
        self.begun.map(|begun| SystemClock.now().since(begun))
    }

    /// Says how all of it went.
    pub(in crate::cli) fn end(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let total = self.counts.values().sum::<u64>();
        let words = self.words();
        let took = self
            .took()
            .filter(|_| total > 0)
            .map_or_else(String::new, |took| format!(" in {}, {}", time(took), per_second(total, took)));
        self.screen.say(&format!(
            "{} run{}: {}{took}",
            thousands(total),
            if total == 1 { "" } else { "s" },
            if words.is_empty() { "nothing to do" } else { &words }
        ));
        if total > A_PAGE {
            self.name_the_first();
        }
        if self.incomplete > 0 || self.counts.contains_key("parked") {
            self.screen.next("next", &self.screen.command("list --needs-attention"));
        }
    }

    /// Names the first that did not go well, and says where the others are.
    fn name_the_first(&self) {
        let troubled = |status: &&str| *status != "completed";
        let troubles: u64 =
            self.counts.iter().filter(|(status, _)| troubled(&status.as_str())).map(|(_, n)| n).sum::<u64>();
        // Under a bar, with the answers going elsewhere, all of them stand right above.
        if self.bar.is_some() && self.screen.out_width().is_none() && troubles <= SHOWN {
            return;
        }
        for line in &self.first {
            self.screen.say(&format!("  {line}"));
        }
        if troubles <= self.first.len() as u64 {
            return;
        }
        self.screen.say(&format!("  and {} more:", thousands(troubles.saturating_sub(self.first.len() as u64))));
        for (status, n) in self.counts.iter().filter(|(status, _)| troubled(&status.as_str())) {
            let how = match status.as_str() {
                REFUSED if self.bar.is_some() => "with `2> FILE`, FILE has every one of them".to_owned(),
                REFUSED => "each is named above".to_owned(),
                _ => self.screen.command(&format!("list --status {status} --limit {n}")),
            };
            self.screen.say(&format!("  {status:<10} {how}"));
        }
    }
}

fn bar(bytes: Option<u64>, done: &Arc<AtomicU64>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::stderr_with_hz(10));
    let template = match bytes {
        Some(_) => "{bar:20} {percent:>3}%  {done} done, {rate}, {eta} left  {wide_msg}",
        None => "{spinner} {done} done in {elapsed}, {rate}  {wide_msg}",
    };
    let (of_done, of_rate) = (Arc::clone(done), Arc::clone(done));
    // The bar's own position is in bytes. A String takes whatever is written.
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .progress_chars("━╸─")
        .with_key("done", move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{}", thousands(of_done.load(Ordering::Relaxed)));
        })
        .with_key("rate", move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{}", per_second(of_rate.load(Ordering::Relaxed), state.elapsed()));
        });
    bar.set_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Returns how many that are for each second.
fn per_second(count: u64, took: Duration) -> String {
    let rate = count as f64 / took.as_secs_f64().max(0.001);
    if rate < 10.0 { format!("{rate:.1}/s") } else { format!("{}/s", thousands(rate as u64)) }
}

/// Returns a number in groups of three.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_groups_of_three() {
        let shown = [0, 999, 1_000, 12_345, 100_000, 1_000_000].map(thousands);
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "100,000", "1,000,000"]);
    }

    #[test]
    fn rates_are_short() {
        assert_eq!(per_second(3, Duration::from_secs(2)), "1.5/s");
        assert_eq!(per_second(123_456, Duration::from_secs(60)), "2,057/s");
        assert_eq!(per_second(0, Duration::ZERO), "0.0/s");
    }
}
