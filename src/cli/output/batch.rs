//! The progress of many runs at once.

use std::collections::BTreeMap;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::describe::coded;
use super::paint::{Tone, one_line, tone_of};
use super::screen::{Screen, tell};
use super::summary::waits;
use crate::cli::problem::Problem;
use crate::engine::report::RunReport;

/// Counts runs and shows how far they are.
pub(in crate::cli) struct Batch {
    screen: Screen,
    bar: Option<ProgressBar>,
    counts: BTreeMap<String, u64>,
    incomplete: u64,
    refused: u64,
}

impl Batch {
    pub(in crate::cli) fn new(screen: &Screen) -> Self {
        let bar = screen.live.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            let style = ProgressStyle::with_template("{spinner} {pos} done in {elapsed}, {rate}  {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner())
                .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                    // A String takes whatever is written.
                    let _ = write!(out, "{:.0}/s", state.per_sec());
                });
            bar.set_style(style);
            bar.enable_steady_tick(std::time::Duration::from_millis(100));
            bar
        });
        Self { screen: screen.clone(), bar, counts: BTreeMap::new(), incomplete: 0, refused: 0 }
    }

    /// Notes a run that rests.
    pub(in crate::cli) fn rested(&mut self, report: &RunReport) {
        *self.counts.entry(report.status.clone()).or_default() += 1;
        let incomplete = report.exit_code() == 5;
        self.incomplete += u64::from(incomplete);
        if report.status == "completed" && !incomplete {
            return self.tick(None);
        }
        let why = report.error.as_ref().map(|e| {
            let step = e.step.as_ref().map_or_else(String::new, |s| format!("{s}: "));
            format!("{step}{}", coded(&e.code, &e.message))
        });
        let why = why.or_else(|| report.parked.as_ref().map(|p| p.message.clone()));
        let why = why.or_else(|| report.waiting_for.first().map(waits)).unwrap_or_default();
        let left = if incomplete { "; something is left to undo" } else { "" };
        let paint = self.screen.err;
        let status = paint.text(tone_of(&report.status), &report.status);
        let text = one_line(&format!("{}  {why}{left}", report.run_id), 2_000);
        self.tick(Some(format!("{status}  {text}")));
    }

    /// Notes a line that could not be run.
    pub(in crate::cli) fn refused(&mut self, line: u64, problem: &Problem) {
        self.refused += 1;
        let word = self.screen.err.text(Tone::Bad, "refused");
        let details = problem.details.join("; ");
        let details = if details.is_empty() { details } else { format!(": {details}") };
        let text = one_line(&format!("line {line}: {}{details}", problem.message), 2_000);
        self.tick(Some(format!("{word}  {text}")));
    }

    fn tick(&mut self, line: Option<String>) {
        let line = line.filter(|_| !self.screen.is_quiet());
        match (&self.bar, line) {
            (Some(bar), Some(line)) => bar.println(line),
            (None, Some(line)) => tell(&line),
            (_, None) => {}
        }
        if let Some(bar) = &self.bar {
            bar.set_message(self.words());
            bar.inc(1);
        }
    }

    fn words(&self) -> String {
        let mut words: Vec<String> = self.counts.iter().map(|(status, n)| format!("{n} {status}")).collect();
        if self.incomplete > 0 {
            words.push(format!("{} incomplete", self.incomplete));
        }
        if self.refused > 0 {
            words.push(format!("{} refused", self.refused));
        }
        words.join(", ")
    }

    /// Says how all of it went.
    pub(in crate::cli) fn end(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let total: u64 = self.counts.values().sum::<u64>() + self.refused;
        let words = self.words();
        self.screen.say(&format!(
            "{total} run{}: {}",
            if total == 1 { "" } else { "s" },
            if words.is_empty() { "nothing to do" } else { &words }
        ));
        if self.incomplete > 0 || self.counts.contains_key("parked") {
            let next = self.screen.command("list --needs-attention");
            self.screen.say(&format!(
                "{}     {}",
                self.screen.err.text(Tone::Quiet, "next"),
                self.screen.err.text(Tone::Strong, &next)
            ));
        }
    }
}
