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
    /// Each table of a backup is read as it is when its turn comes.
    BackupOfSeveralMoments = "backup_of_several_moments", Unit("store::db_tests::b19_a_backup_is_the_store_as_it_was_at_one_moment");
    /// What redb writes while it opens a file is not held back until it is known to be a store.
    ForeignFileChanged = "foreign_file_changed", Unit("store::open_tests::another_programs_database_is_refused_and_kept_even_if_it_needs_a_repair");
    /// A store of a newer format is opened.
    NewerStoreOpened = "newer_store_opened", Unit("store::open_tests::b17_e05_a_store_of_a_newer_flowrun_is_refused_and_kept");
    /// The file at the store's path is taken for the one that was opened.
    ReplacedStoreWritten = "replaced_store_written", Unit("store::open_tests::b13_a_store_that_is_deleted_or_replaced_takes_nothing_any_more");
    /// Nobody looks whether an older copy lies where the store was.
    OldCopyNotNoticed = "old_copy_not_noticed", Unit("store::db_tests::b12_an_older_copy_in_the_place_of_the_store_is_noticed");
    /// Whoever answers at the socket that a file beside the store names is taken for the holder of this store.
    HolderOfAnotherStore = "holder_of_another_store", It("cli::db::b14_the_holder_of_another_store_is_not_asked");
    /// Placeholders of secrets are exported as they are stored.
    ExportedPlaceholders = "exported_placeholders", It("cli::db::an_export_has_every_event_and_no_secret");
    /// An export begins each page with the run that the last one ended with, from its start.
    ExportRepeats = "export_repeats", It("cli::db::an_export_has_every_event_and_no_secret");
    /// A commit is not brought to the disk.
    SkipSync = "skip_sync", Unit("engine::faulty_disk::crash::p1_what_was_acknowledged_and_what_was_acted_upon_is_on_the_disk");
    /// A commit is acknowledged when it is handed to the writer.
    AcknowledgeBeforeCommit = "acknowledge_before_commit", Unit("engine::faulty_disk::crash::p1_what_was_acknowledged_and_what_was_acted_upon_is_on_the_disk");
    /// A handler is called before the start of its attempt is on the disk.
    StartNotDurableBeforeCall = "start_not_durable_before_call", Unit("engine::faulty_disk::crash::p1_what_was_acknowledged_and_what_was_acted_upon_is_on_the_disk");
    /// That a run is final is written in another transaction than the events that say so.
    SplitTransaction = "split_transaction", Unit("engine::faulty_disk::crash::a02_the_end_of_a_run_is_recorded_in_one_piece");
    /// A commit that failed is tried again in the same process.
    RetryAfterFailedCommit = "retry_after_failed_commit", Unit("engine::faulty_disk::errors::b03_the_first_error_is_the_one_that_is_told");
    /// The checksum of a record is not looked at.
    ChecksumNotChecked = "checksum_not_checked", Unit("store::format::tests::every_flipped_bit_is_noticed");
    /// The seal between a run and its records is not looked at.
    SealNotChecked = "seal_not_checked", Unit("engine::faulty_disk::damage::b20_a_run_with_an_edited_event_is_not_resumed_and_the_event_is_named");
    /// Steps are undone in the order in which they were done.
    UndoInStartOrder = "undo_in_start_order", It("rules::backward::rule_09_what_was_done_is_undone_in_reverse_order_of_dependency");
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
