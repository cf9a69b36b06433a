//! What came of the tests of a workflow, told so that a person can act on it.

use std::fmt;

use serde_json::Value;

use super::Injection;
use crate::scenario::Mismatch;

/// What came of testing a workflow.
#[derive(Clone, Debug, Default)]
#[must_use = "a report that nobody looks at tests nothing"]
pub struct TestReport {
    /// The workflow's file.
    pub workflow: String,
    /// How many faults were injected, one run each; crashes not included.
    pub injections: usize,
    /// How many times the process was killed, one run each.
    pub crash_points: usize,
    /// What was not tried, and why: a handler that must not be called twice cannot be repeated.
    pub left_out: Vec<String>,
    /// Steps that the run without faults does not reach; nothing was injected there.
    pub unreached: Vec<String>,
    /// What is not as it must be.
    pub failures: Vec<TestFailure>,
}

/// A run that did not go as it must.
#[derive(Clone, Debug)]
pub struct TestFailure {
    /// What was done to it.
    pub injection: Injection,
    /// What was expected and what happened.
    pub wrong: Vec<Mismatch>,
    /// Its events in short.
    pub history: Vec<String>,
}

impl TestReport {
    /// Tells whether everything was as it must be.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// Returns the report if everything was as it must be.
    ///
    /// # Panics
    /// Otherwise, with the stories of the runs that went wrong: it is how a `#[test]` ends.
    #[track_caller]
    pub fn assert(self) -> Self {
        assert!(self.passed(), "{self}");
        self
    }
}

impl fmt::Display for TestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workflow, injections, crash_points, failures, .. } = self;
        writeln!(f, "{workflow}: {injections} injections, {crash_points} crash points, {} failures", failures.len())?;
        for text in &self.left_out {
            writeln!(f, "  left out: {text}")?;
        }
        if !self.unreached.is_empty() {
            writeln!(f, "  not reached without faults: {}", self.unreached.join(", "))?;
        }
        for failure in failures {
            write!(f, "\n{failure}")?;
        }
        Ok(())
    }
}

impl fmt::Display for TestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:", self.injection)?;
        for Mismatch { path, expected, got, message } in &self.wrong {
            match message {
                Some(message) => writeln!(f, "  {message}")?,
                None => writeln!(f, "  {path}: expected {}, got {}", Short(expected), Short(got))?,
            }
        }
        writeln!(f, "  what happened:")?;
        self.history.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// A value on one line of a terminal.
struct Short<'a>(&'a Value);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 300;
        let text = self.0.to_string();
        match text.char_indices().nth(MOST) {
            Some((end, _)) => write!(f, "{}...", &text[..end]),
            None => f.write_str(&text),
        }
    }
}
