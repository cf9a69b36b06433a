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
    /// What may have acted is not undone.
    ForgetUnknown = "forget_unknown", It("rules::forward::rule_05_what_may_have_acted_is_undone_when_continue_passes_over_it");
    /// A definite failure makes an earlier unclear attempt forgotten.
    UnclearForgotten = "unclear_forgotten", It("rules::forward::rule_05_d08_once_unclear_a_step_stays_unknown_whatever_later_attempts_report");
    /// Each attempt has a key of its own.
    NewKeyOnRetry = "new_key_on_retry", It("rules::forward::rule_07_keys_are_those_of_step_item_member_and_undo");
    /// The attempts before a crash are forgotten.
    CounterLostOnRestart = "counter_lost_on_restart", It("rules::forward::rule_06_the_attempts_before_a_crash_are_counted");
    /// An attempt that was cut off counts.
    CrashUsesUpAnAttempt = "crash_uses_up_an_attempt", It("rules::forward::rule_06_a_crash_uses_up_none_of_the_attempts");
    /// What may be done only once is repeated after an unclear answer.
    RetryOnceAfterUnclear = "retry_once_after_unclear", It("rules::forward::rule_05_an_unknown_outcome_is_repeated_only_where_that_does_no_harm");
    /// One undo that fails for good keeps the others from being made.
    FailedUndoStopsSiblings = "failed_undo_stops_siblings", It("rules::backward::rule_09_d12_a_failed_undo_does_not_stop_the_others");
    /// Attempts are retried while the run stops.
    DrainRetries = "drain_retries", It("rules::backward::rule_09_an_attempt_that_fails_while_the_run_stops_is_not_retried");
    /// A fallback runs although the member before it may have acted.
    FallbackWithoutUndo = "fallback_without_undo", It("rules::forward::rule_02_breaker_retry_confirm_then_fallback");
    /// A run is undone behind its point of no return.
    PivotIgnored = "pivot_ignored", It("rules::backward::rule_12_behind_the_pivot_a_failure_parks_and_nothing_is_undone");
    /// An unknown outcome is not asked about.
    ConfirmNotAsked = "confirm_not_asked", It("rules::forward::rule_05_confirm_settles_an_unknown_outcome");
    /// The deadline runs while a person is waited for.
    DeadlineWhileParked = "deadline_while_parked", It("rules::backward::rule_11_a_deadline_does_not_run_while_parked");
    /// A cancel changes a run that stops already.
    CancelAfterDrain = "cancel_after_drain_changes_status", It("rules::backward::rule_11_d05_once_a_drain_has_begun_cancel_and_deadline_change_nothing");
    /// A signal is given to every wait.
    SignalTakenTwice = "signal_taken_twice", It("rules::shared::rule_18_a_signal_is_recorded_on_arrival_and_each_wait_takes_the_oldest_unused");
    /// Items that are undone are undone again.
    ItemUndoneTwice = "item_undone_twice", It("rules::backward::rule_09_an_item_is_undone_once");
    /// A back-off begins anew after a restart.
    BackoffFromRestart = "backoff_from_restart", It("rules::forward::rule_03_a_back_off_goes_on_where_it_was_after_a_restart");
    /// Every death is the first.
    RecoveryCounterNotKept = "recovery_counter_not_kept", It("rules::shared::rule_17_a_third_death_parks_the_run_and_retry_tries_again");
    /// `finally` runs again after a later compensate.
    FinallyRunsAgain = "finally_runs_again", It("rules::backward::rule_10_compensate_tries_again_what_is_left");
    /// The answer of an attempt that was given up is taken for that of the next.
    LateResultTaken = "late_result_changes_the_outcome", It("rules::forward::rule_05_d07_d09_an_answer_after_the_timeout_changes_nothing");
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

/// The transitions that the tests of this process have reached so far.
#[cfg(feature = "teeth")]
static REACHED: std::sync::Mutex<std::collections::BTreeSet<String>> =
    std::sync::Mutex::new(std::collections::BTreeSet::new());

/// Notes a transition of the machine.
#[cfg(feature = "teeth")]
pub fn reach(transition: impl FnOnce() -> String) {
    REACHED.lock().expect("nothing panics while it holds the set").insert(transition());
}

/// Notes nothing, in a program that is not built for tests.
#[cfg(not(feature = "teeth"))]
pub fn reach(_: impl FnOnce() -> String) {}

/// Returns the transitions of the machine that were reached in this process.
#[cfg(feature = "teeth")]
#[must_use]
pub fn reached() -> std::collections::BTreeSet<String> {
    REACHED.lock().expect("nothing panics while it holds the set").clone()
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
