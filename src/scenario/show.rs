//! What came of scenarios, as text and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Failure, FileResult, Mismatch, ScenarioResult, Summary};
use crate::diag::{self, Style};

/// How many events of a run are shown after a failure.
const EVENTS_SHOWN: usize = 60;

/// How many runs are shown after a failure.
const RUNS_SHOWN: usize = 3;

impl Summary {
    /// Returns what came of everything, as text that ends with `N passed, N failed`.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut out = String::new();
        for file in &self.files {
            for (source, findings) in &file.findings {
                for finding in findings {
                    out.push_str(&diag::text(finding, source, style));
                    out.push('\n');
                }
            }
            out.push_str(&file.text(style.colour));
        }
        out.push_str(&self.closing());
        out
    }

    /// Returns the last line: `N passed, N failed`.
    #[must_use]
    pub fn closing(&self) -> String {
        let mut out = String::new();
        let (passed, failed) = self.counts();
        let points: usize = self.files.iter().flat_map(|f| &f.scenarios).map(|s| s.crash_points).sum();
        let invalid = self.files.iter().filter(|f| !f.findings.is_empty()).count();
        let _ = write!(out, "{passed} passed, {failed} failed");
        if points > 0 {
            let _ = write!(out, ", {points} crash points");
        }
        if invalid > 0 {
            let _ = write!(out, ", {invalid} {} not valid", if invalid == 1 { "file" } else { "files" });
        }
        out.push('\n');
        out
    }

    /// Returns the same as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (passed, failed) = self.counts();
        json!({
            "v": 1,
            "passed": passed,
            "failed": failed,
            "files": self.files.iter().map(FileResult::to_json).collect::<Vec<_>>(),
        })
    }
}

impl FileResult {
    /// Returns what came of the scenarios as text, without findings.
    #[must_use]
    pub fn text(&self, colour: bool) -> String {
        let mut out = format!("{}\n", self.path.display());
        let width = self.scenarios.iter().map(|s| s.name.len()).max().unwrap_or(0);
        for scenario in &self.scenarios {
            let word = match (scenario.passed(), colour) {
                (true, false) => "ok    ",
                (true, true) => "\u{1b}[32mok\u{1b}[0m    ",
                (false, false) => "FAILED",
                (false, true) => "\u{1b}[31mFAILED\u{1b}[0m",
            };
            let _ = write!(out, "  {word}  {:width$}  {:>9}", scenario.name, span(scenario.took));
            if scenario.crash_points > 0 {
                let _ = write!(out, "  {} crash points", scenario.crash_points);
            }
            out.push('\n');
        }
        for scenario in self.scenarios.iter().filter(|s| !s.passed()) {
            out.push_str(&scenario.failed_text());
        }
        out
    }

    /// Returns the same as JSON, with the findings.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let findings = self.findings.iter().flat_map(|(source, findings)| {
            findings.iter().map(|finding| {
                let mut value = diag::json(finding, source);
                value["path"] = json!(source.path);
                value
            })
        });
        json!({
            "path": self.path.display().to_string(),
            "valid": self.findings.is_empty(),
            "findings": findings.collect::<Vec<_>>(),
            "scenarios": self.scenarios.iter().map(ScenarioResult::to_json).collect::<Vec<_>>(),
        })
    }
}

impl ScenarioResult {
    fn failed_text(&self) -> String {
        let mut out = format!("\n  {}", self.name);
        if let Some(description) = &self.description {
            let _ = write!(out, ": {description}");
        }
        out.push('\n');
        for failure in &self.failures {
            failure.write(&mut out);
        }
        out.push('\n');
        out
    }

    fn to_json(&self) -> Value {
        let failure = |f: &Failure| json!({ "crash": f.crash, "mismatches": f.mismatches, "histories": f.histories });
        json!({
            "name": self.name,
            "description": self.description,
            "passed": self.passed(),
            "virtual_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "crash_points": self.crash_points,
            "failures": self.failures.iter().map(failure).collect::<Vec<_>>(),
        })
    }
}

impl Failure {
    fn write(&self, out: &mut String) {
        if let Some(crash) = &self.crash {
            let _ = writeln!(out, "    {crash}:");
        }
        for Mismatch { path, expected, got, message } in &self.mismatches {
            let _ = match message {
                Some(message) => writeln!(out, "    {path}: {message}"),
                None => writeln!(out, "    {path}: expected {expected}, got {got}"),
            };
        }
        let several = self.histories.len() > 1;
        for (run, history) in self.histories.iter().enumerate().take(RUNS_SHOWN) {
            if several {
                let _ = writeln!(out, "      run {run}");
            }
            let hidden = history.len().saturating_sub(EVENTS_SHOWN);
            if hidden > 0 {
                let _ = writeln!(out, "      ({hidden} earlier events)");
            }
            for line in &history[hidden..] {
                let _ = writeln!(out, "      {line}");
            }
        }
        if self.histories.len() > RUNS_SHOWN {
            let _ = writeln!(out, "      ({} more runs)", self.histories.len() - RUNS_SHOWN);
        }
    }
}

/// Writes a time with the unit that suits it: `380ms`, `5m 2s`.
fn span(time: Duration) -> String {
    let (seconds, millis) = (time.as_secs(), time.subsec_millis());
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}.{:01}s", millis / 100),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
    }
}
