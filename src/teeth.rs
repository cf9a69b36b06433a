//! Deliberate bugs: what the tests of reliability must notice, or they would notice nothing.
//!
//! Each bug is one wrong line, asleep unless the environment of a test names it in `FLOWRUN_BUG`; without the feature
//! `teeth` the question is a constant and the line is not even compiled. The table says which test catches a bug; the
//! tests in this file and in `tests/it/teeth.rs` run that test with the bug awake and expect it to fail.

/// Which of the two test programs holds a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Catcher {
    /// A unit test of the library, by its path.
    Unit(&'static str),
    /// A test of `tests/it`, by its path.
    It(&'static str),
}

macro_rules! bugs {
    ($($(#[doc = $doc:literal])+ $bug:ident = $name:literal, $catcher:ident($test:literal);)*) => {
        /// A deliberate bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $doc])+ $bug,)*
        }

        impl Bug {
            /// Every bug there is.
            pub const ALL: &[Self] = &[$(Self::$bug,)*];

            /// Returns the name that wakes it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)*
                }
            }

            /// Returns the test that catches it.
            #[must_use]
            pub fn caught_by(self) -> Catcher {
                match self {
                    $(Self::$bug => Catcher::$catcher($test),)*
                }
            }
        }
    };
}

bugs! {
    /// Steps are undone in the order in which they were done.
    UndoInStartOrder = "undo_in_start_order", It("rules::backward::rule_09_what_was_done_is_undone_in_reverse_order_of_dependency");
    /// A test of a workflow does not mind that its fault never happened.
    UnfiredInjection = "unfired_injection", It("kit::an_injection_that_never_fires_is_an_error");
    /// A further attempt of a call gets another key.
    AnotherKey = "another_key", It("kit::a_crash_at_each_commit_of_a_workflow_with_items_changes_nothing");
    /// A run that is taken up does not look again at what was under way.
    PrefixSkipsAStep = "prefix_resume_skips_a_step", It("scenarios::every_prefix_of_a_journal_is_taken_up");
    /// A test of a workflow does not hold a run's output against that without a fault.
    UncomparedOutput = "uncompared_output", It("kit::d15_a_handler_that_answers_differently_the_second_time_is_found");
    /// Scenarios do not look into the ledger.
    UncheckedLedger = "unchecked_ledger", It("scenarios::wrong_expectations_fail");
}

/// Tells whether a bug is awake.
#[cfg(feature = "teeth")]
#[must_use]
pub fn awake(bug: Bug) -> bool {
    static AWAKE: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();
    let awake = AWAKE.get_or_init(|| {
        let name = std::env::var("FLOWRUN_BUG").ok()?;
        Some(*Bug::ALL.iter().find(|bug| bug.name() == name).expect("FLOWRUN_BUG names a bug of src/teeth.rs"))
    });
    *awake == Some(bug)
}

/// Tells whether a bug is awake: never, in a program that is not built for tests.
#[cfg(not(feature = "teeth"))]
#[must_use]
pub const fn awake(_: Bug) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn every_bug_that_a_unit_test_catches_is_caught() {
        let missed: Vec<String> = Bug::ALL
            .iter()
            .filter_map(|bug| match bug.caught_by() {
                Catcher::Unit(test) => Some((bug, test)),
                Catcher::It(_) => None,
            })
            .filter_map(|(bug, test)| {
                let program = std::env::current_exe().expect("the tests run from a file");
                let run = Command::new(program).args([test, "--exact"]).env("FLOWRUN_BUG", bug.name()).output();
                let run = run.expect("the tests can be started");
                let said = String::from_utf8_lossy(&run.stdout).into_owned();
                (!said.contains("test result: FAILED. 0 passed; 1 failed"))
                    .then(|| format!("{} is not caught by {test}:\n{said}", bug.name()))
            })
            .collect();
        assert!(missed.is_empty(), "{}", missed.join("\n"));
    }
}
