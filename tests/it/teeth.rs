//! The deliberate bugs of `src/teeth.rs`: the tests of this program that are to catch them do.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use flowrun::teeth::{Bug, Catcher};

/// Runs one test of this program with a bug awake. Returns what is wrong if it passes.
fn missed(bug: Bug, test: &str) -> Option<String> {
    let program = std::env::current_exe().expect("the tests run from a file");
    let run = Command::new(program).args([test, "--exact"]).env("FLOWRUN_BUG", bug.name()).output();
    let said = String::from_utf8_lossy(&run.expect("the tests can be started").stdout).into_owned();
    (!said.contains("test result: FAILED. 0 passed; 1 failed"))
        .then(|| format!("{} is not caught by {test}:\n{said}", bug.name()))
}

#[test]
fn every_deliberate_bug_is_caught() {
    let bugs: Vec<(Bug, &str)> = Bug::ALL
        .iter()
        .filter_map(|bug| match bug.caught_by() {
            Catcher::It(test) => Some((*bug, test)),
            Catcher::Unit(_) => None,
        })
        .collect();
    let (next, missing) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((bug, test)) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    missing.lock().expect("no thread panics").extend(missed(*bug, test));
                }
            });
        }
    });
    let missing = missing.into_inner().expect("no thread panics");
    assert!(missing.is_empty(), "{} of {} bugs are not caught:\n{}", missing.len(), bugs.len(), missing.join("\n"));
}
