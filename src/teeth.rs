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
    ForeignFileChanged = "foreign_file_changed", Unit("store::open_tests::b17_e05_a_store_of_a_newer_flowrun_is_refused_and_kept");
    /// A store of a newer format is opened.
    NewerStoreOpened = "newer_store_opened", Unit("store::open_tests::b17_e05_a_store_of_a_newer_flowrun_is_refused_and_kept");
    /// What the log has behind the tables is not applied when a store is opened.
    LogNotApplied = "log_not_applied", Unit("store::fault::sweeps::a01_a02_a03_no_crash_loses_or_tears_a_commit");
    /// Groups of an earlier round are taken for those of the present one.
    OldGroupApplied = "old_group_applied", Unit("store::fault::sweeps::a01_a02_a03_no_crash_loses_or_tears_a_commit");
    /// A group is applied whatever its checksum says.
    TornGroupApplied = "torn_group_applied", Unit("store::fault::sweeps::a01_a02_a03_no_crash_loses_or_tears_a_commit");
    /// The log begins at its front again although the tables are not durable.
    LogEmptiedTooEarly = "log_emptied_too_early", Unit("store::fault::sweeps::a01_a02_a03_no_crash_loses_or_tears_a_commit");
    /// A damaged group is taken for the end of the log, also if others follow.
    DamagedLogCutOff = "damaged_log_cut_off", Unit("store::log::tests::a_damaged_group_is_not_taken_for_the_end");
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
    /// What a template has rendered is rendered again.
    TemplateRenderedTwice = "template_rendered_twice", It("input::runs::g01_what_looks_like_a_template_in_the_data_stays_as_it_is");
    /// A name that does not exist is printed as nothing.
    UndefinedRendersEmpty = "undefined_renders_empty", Unit("template::tests::safety::g04_undefined_names_are_errors_never_null_or_empty");
    /// Whole numbers of an input take the way over a float.
    NumbersThroughF64 = "numbers_through_f64", Unit("dsl::json::tests::f06_documents_are_read_exactly");
    /// The last of two equal keys of an input wins.
    DuplicateKeysAccepted = "duplicate_keys_accepted", Unit("dsl::json::tests::f02_f04_f07_faults_have_a_place");
    /// One more than the limit is let through.
    LimitOffByOne = "limit_off_by_one", It("input::limits::f03_every_limit_holds_at_one_less_at_itself_and_at_one_more");
    /// An input is read however large it is.
    InputReadToItsEnd = "input_read_to_its_end", It("input::commands::f03_what_has_no_end_is_read_up_to_the_limit");
    /// An output is recorded however large it is.
    PayloadLimitNotChecked = "payload_limit_not_checked", It("input::runs::f03_an_output_that_is_too_large_is_unknown_and_undone");
    /// A handler's error is recorded with the secret in it.
    SecretsShown = "secrets_shown", It("input::runs::g05_a_secret_is_in_no_output_no_error_and_no_record");
    /// A `$ref` is followed out of the project.
    ForeignRefFollowed = "foreign_ref_followed", Unit("definition::tests::f12_references_stay_inside_the_project");
    /// A value that is too deep to be read back is recorded, and read back as null.
    DeepValueRecorded = "deep_value_recorded", It("input::runs::f02_values_too_deep_to_be_read_back_are_never_recorded");
    /// A process that was asked to end does not record that it put its runs down.
    SigtermCountsAsDeath = "sigterm_counts_as_death", It("kill::signals::a12_interrupted_it_saves_its_state");
    /// A process that was asked to end does not wait for what is under way.
    GraceNotWaited = "grace_not_waited", It("kill::signals::a12_what_ends_within_the_grace_period_is_recorded_and_nothing_new_begins");
    /// What goes wrong after an unclean death counts towards the next one for ever.
    RecoveryCounterNotReset = "recovery_counter_not_reset", It("rules::shared::rule_17_an_outcome_resets_the_counter_and_an_orderly_stop_does_not_count");
    /// A call that never reached its handler counts as a sign of life.
    RefusalResetsDeaths = "refusal_resets_deaths", It("rules::asked::a15_a_refusal_does_not_reset_the_counter_of_deaths");
    /// A run that brings the process down each time is given it for ever.
    NeverParked = "never_parked", It("rules::shared::rule_17_a_third_death_parks_the_run_and_retry_tries_again");
    /// A known id is attached to whatever its input was.
    AttachIgnoresInput = "attach_ignores_input", It("rules::shared::rule_16_the_same_id_is_the_same_run");
    /// A final run that is taken up again is not listed as unfinished.
    TakenUpStaysFinal = "taken_up_stays_final", Unit("store::conformance::redb::finished_and_changed_afterwards");
    /// The same signal is taken as often as it is sent.
    SignalTwice = "signal_twice", It("rules::asked::d10_a_signal_counts_before_its_wait_and_once_for_each_id");
    /// Signals are kept without end.
    SignalsWithoutEnd = "signals_without_end", It("rules::asked::d10_signals_that_nobody_takes_are_kept_up_to_the_limit");
    /// A timeout waits for the clock alone, which somebody may have set back.
    TimeoutByTheClock = "timeout_by_the_clock", It("rules::clock::c01_a_timeout_is_not_prolonged_by_a_clock_that_is_set_back");
    /// A back-off is not waited for.
    BackOffNotWaited = "back_off_not_waited", It("rules::clock::a09_a_back_off_ends_at_its_recorded_time_however_long_nobody_was_there");
    /// A handler that takes something else by now is called all the same.
    ChangedHandlerIsCalled = "changed_handler_is_called", It("rules::editions::e03_a_run_whose_handler_takes_something_else_by_now_is_parked_until_it_fits");
    /// A run at the limit of its events goes on.
    EventsWithoutEnd = "events_without_end", It("rules::ends::k03_the_limit_of_events_is_exact_and_leaves_room_for_the_undoing");
    /// A deadline is no timer that is stayed for.
    DeadlineIsNoTimer = "deadline_is_no_timer", It("rules::asked::rule_11_a_run_that_waits_under_a_deadline_does_not_rest_before_it");
    /// A resumed run goes by the file as it is now, and not by the definition that it was started with.
    ResumedFromDisk = "resumed_from_disk", It("kill::operators::e01_a_run_goes_by_the_file_as_it_was");
    /// A long sleep is not interrupted, so nobody notices that the machine was suspended.
    SleepInOnePiece = "sleep_in_one_piece", It("rules::clock::c03_after_a_suspension_timers_are_noticed_within_a_minute");
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
    /// The explorer lets a step run though all that it needs was skipped.
    ExploreSkipNotPassedOn = "explore_skip_not_passed_on", Unit("verify::explore::tests::forward::a_step_is_skipped_with_all_that_it_needs_before_it_is_asked");
    /// The explorer decides a free condition wherever it is asked.
    ExploreConditionForgotten = "explore_condition_forgotten", Unit("verify::explore::tests::forward::a_free_condition_is_the_same_wherever_it_stands");
    /// The explorer thinks that a deadline ends no wait.
    ExploreDeadlineEndsNoWait = "explore_deadline_ends_no_wait", Unit("verify::explore::tests::forward::a_wait_ends_well_by_itself_and_a_signal_may_not_come");
    /// What fails as soon as it begins stops the run before all that may begin has.
    StopsBeforeAllBegin = "stops_before_all_begin", It("rules::forward::rule_09_what_may_begin_begins_though_something_fails_at_once");
    /// A signal goes to the first step in the file that waits for it.
    SignalToTheFirst = "signal_to_the_first", It("rules::shared::rule_18_a_signal_goes_to_whoever_has_the_least_time_left");
    /// A run that is taken up begins what may begin before it looks at what has ended or come due meanwhile.
    BeginsBeforeItLooks = "begins_before_it_looks", It("rules::shared::rule_11_a_run_that_is_cancelled_or_late_begins_nothing_when_it_is_taken_up");
    /// The explorer lets a step begin some time after it may.
    ExploreBeginsLate = "explore_begins_late", Unit("verify::explore::tests::forward::what_may_begin_begins_before_the_run_can_stop");
    /// The explorer thinks that a wait is never over in the moment in which the run stops.
    ExploreNoWaitOverBefore = "explore_no_wait_over_before", Unit("verify::explore::tests::forward::a_wait_may_be_over_in_the_moment_in_which_the_run_stops");
    /// The explorer stops the run with a step that fails as soon as it begins, before others have begun.
    ExploreStopsBeforeAllBegin = "explore_stops_before_all_begin", Unit("verify::explore::tests::forward::others_begin_though_a_step_fails_as_soon_as_it_begins");
    /// The explorer thinks that a death always takes every attempt that is under way.
    ExploreDeathTakesAll = "explore_death_takes_all", Unit("verify::explore::tests::attempts::a_death_hits_one_attempt_or_several_at_once");
    /// The explorer begins further items after one has failed.
    ExploreItemsGoOn = "explore_items_go_on", Unit("verify::explore::tests::forward::an_item_that_failed_stops_the_list_unless_it_is_passed_over");
    /// The explorer counts each failed attempt as a fault.
    ExploreEachAttemptAFault = "explore_each_attempt_a_fault", Unit("verify::explore::tests::attempts::a_fault_is_counted_once_for_each_call_however_often_it_fails");
    /// The explorer lets a clear failure settle an earlier unclear one.
    ExploreUnclearForgotten = "explore_unclear_forgotten", Unit("verify::explore::tests::attempts::whatever_is_unclear_once_stays_unknown_until_it_succeeds");
    /// The explorer repeats in a drain what was cut off.
    ExploreCutOffRepeatedInDrain = "explore_cut_off_repeated_in_drain", Unit("verify::explore::tests::attempts::a_death_cuts_off_what_is_under_way_and_only_what_may_be_repeated_is");
    /// The explorer thinks that a request on its way never lands.
    ExploreNothingLands = "explore_nothing_lands", Unit("verify::explore::tests::attempts::a_copy_on_its_way_lands_at_any_time");
    /// The explorer lets a confirm say "not done" of what was done.
    ExploreConfirmGuesses = "explore_confirm_guesses", Unit("verify::explore::tests::attempts::a_confirm_says_what_the_world_is_or_nothing");
    /// The explorer thinks that after "not done" nothing is owed.
    ExploreNotDoneIsOver = "explore_not_done_is_over", Unit("verify::explore::tests::attempts::what_was_not_done_is_owed_unless_a_late_original_is_refused");
    /// The explorer calls a fallback before the undo of what may have acted.
    ExploreFallbackBeforeUndo = "explore_fallback_before_undo", Unit("verify::explore::tests::attempts::what_may_have_acted_is_undone_before_a_fallback_runs");
    /// The explorer calls a fallback after the undo before it has failed.
    ExploreFallbackAfterFailedUndo = "explore_fallback_after_failed_undo", Unit("verify::explore::tests::attempts::after_an_undo_that_failed_no_fallback_runs_and_the_step_is_unknown");
    /// The explorer passes over a failure and leaves what it may have done.
    ExplorePassedOverAsItIs = "explore_passed_over_as_it_is", Unit("verify::explore::tests::attempts::what_a_failure_leaves_is_undone_when_it_is_passed_over");
    /// The explorer undoes behind a pivot.
    ExplorePivotIgnored = "explore_pivot_ignored", Unit("verify::explore::tests::backward::a_failure_behind_a_pivot_parks_and_nothing_is_undone");
    /// The explorer undoes in any order.
    ExploreAnyOrder = "explore_any_order", Unit("verify::explore::tests::backward::steps_are_undone_after_those_that_depend_on_them");
    /// The explorer thinks that no undo minds if there is nothing to undo.
    ExploreAbsenceIsFine = "explore_absence_is_fine", Unit("verify::explore::tests::backward::an_undo_that_finds_nothing_fails_if_it_minds");
    /// The explorer thinks that every undo refuses late originals.
    ExploreUndoRefusesLate = "explore_undo_refuses_late", Unit("verify::explore::tests::backward::an_undo_that_finds_nothing_fails_if_it_minds");
    /// The explorer judges a run that is incomplete.
    ExploreIncompleteJudged = "explore_incomplete_judged", Unit("verify::explore::tests::backward::independent_undos_come_in_any_order_and_a_failed_one_stops_no_other");
    /// The explorer thinks that a safe call makes earlier copies into nothing.
    ExploreSafeRemembers = "explore_safe_remembers", Unit("verify::explore::tests::judge::a_safe_call_forgets_and_a_keyed_one_does_not");
    /// The explorer lets the success of one member speak for what another left.
    ExploreKeptByAnyMember = "explore_kept_by_any_member", Unit("verify::explore::tests::judge::a_completed_run_keeps_only_what_its_steps_succeeded_by");
    /// The explorer takes what was taken back in one place for gone though it stands in another.
    ExploreUndoneThoughItStands = "explore_undone_though_it_stands", Unit("verify::explore::tests::judge::an_undo_has_happened_if_nothing_of_its_effect_stands");
    /// The judge of a rehearsal does not see that a point of no return is undone when the run goes on without it.
    RehearsalPivotNotSeen = "rehearsal_pivot_not_seen", Unit("rehearsal::tests::a_pivot_that_is_undone_when_it_is_passed_over_is_seen");
    /// The deadline of a rehearsed run never passes.
    RehearsalDeadlineIgnored = "rehearsal_deadline_ignored", Unit("rehearsal::tests::a_deadline_passes_in_virtual_time");
    /// The services of a rehearsal take what comes late though they were told to refuse it.
    RehearsalLateNotRefused = "rehearsal_late_not_refused", Unit("rehearsal::world::tests::a_late_request_stands_after_an_undo_unless_it_is_refused_or_known");
    /// The services of a rehearsal forget which keys they know.
    RehearsalKeysForgotten = "rehearsal_keys_forgotten", Unit("rehearsal::world::tests::a_second_request_does_what_the_service_says");
    /// The services of a rehearsal undo what is not there, though they mind.
    RehearsalAbsenceIsFine = "rehearsal_absence_is_fine", Unit("rehearsal::world::tests::what_is_absent_cannot_be_taken_back_where_the_service_says_so");
    /// A rehearsal gives the engine no item that a course leaves out.
    RehearsalLeftItemNotGiven = "rehearsal_left_item_not_given", Unit("rehearsal::tests::an_item_that_is_left_is_there_and_does_not_begin");
    /// A rehearsal does not mind that an item begins which the course leaves out.
    RehearsalLeftItemBegins = "rehearsal_left_item_begins", Unit("rehearsal::tests::an_item_that_is_left_and_begins_all_the_same_is_told");
    /// A rehearsal never puts its process down.
    RehearsalNeverPutDown = "rehearsal_never_put_down", Unit("rehearsal::tests::a_wait_is_over_in_the_moment_in_which_the_run_stops");
    /// In a rehearsal a death always takes every attempt that is under way.
    RehearsalDeathTakesAll = "rehearsal_death_takes_all", Unit("rehearsal::tests::an_attempt_can_be_lost_while_others_go_on");
    /// A saved story leaves out that an item is left.
    StoryLeftItemLost = "story_left_item_lost", Unit("cli::verify::tests::a_saved_story_fails_until_the_workflow_is_mended");
    /// A call that a saved story does not tell of comes to nothing.
    StoryUntoldFails = "story_untold_fails", Unit("cli::verify::tests::what_a_story_does_not_tell_goes_well");
    /// A saved story leaves out how the conditions come out.
    StoryConditionsLost = "story_conditions_lost", Unit("rehearsal::tests::what_the_sweep_finds_can_be_kept_and_shows_when_it_is_played_from_its_file");
    /// The sweep lets a clear failure settle an earlier unclear one.
    SweepUnclearForgotten = "sweep_unclear_forgotten", Unit("verify::explore::tests::attempts::a_stop_between_two_attempts_forgets_no_unclear_one");
    /// The sweep makes one attempt less than there are.
    SweepAttemptLost = "sweep_attempt_lost", Unit("verify::explore::tests::attempts::a_failed_attempt_is_repeated_as_often_as_there_are_attempts");
    /// The sweep repeats in a drain what was cut off.
    SweepCutOffRepeatedInDrain = "sweep_cut_off_repeated_in_drain", Unit("verify::explore::tests::attempts::a_death_cuts_off_what_is_under_way_and_only_what_may_be_repeated_is");
    /// The sweep thinks that an attempt that was cut off did not happen.
    SweepCutOffIsClear = "sweep_cut_off_is_clear", Unit("verify::explore::tests::attempts::a_copy_on_its_way_lands_at_any_time");
    /// The sweep counts each failed attempt as a fault.
    SweepEachAttemptAFault = "sweep_each_attempt_a_fault", Unit("verify::explore::tests::attempts::a_stop_between_two_attempts_forgets_no_unclear_one");
    /// The sweep lets a confirm say "not done" of what was done.
    SweepConfirmGuesses = "sweep_confirm_guesses", Unit("verify::explore::tests::attempts::a_confirm_says_what_the_world_is_or_nothing");
    /// The sweep thinks that every confirm refuses late originals.
    SweepConfirmRefusesLate = "sweep_confirm_refuses_late", Unit("verify::explore::tests::attempts::a_copy_on_its_way_lands_at_any_time");
    /// The sweep thinks that after "not done" nothing is owed.
    SweepNotDoneIsOver = "sweep_not_done_is_over", Unit("verify::explore::tests::attempts::a_copy_on_its_way_lands_at_any_time");
    /// The sweep calls a fallback before the undo of what may have acted.
    SweepFallbackBeforeUndo = "sweep_fallback_before_undo", Unit("verify::explore::tests::attempts::a_step_is_unknown_if_a_member_is_that_was_not_undone");
    /// The sweep asks the fallbacks after one whose condition cannot be read.
    SweepFallbackAfterFailedWhen = "sweep_fallback_after_failed_when", Unit("verify::explore::tests::attempts::a_fallback_whose_condition_cannot_be_read_ends_the_step");
    /// The sweep passes over a failure and leaves what it may have done.
    SweepPassedOverAsItIs = "sweep_passed_over_as_it_is", Unit("verify::explore::tests::attempts::what_a_failure_leaves_is_undone_when_it_is_passed_over");
    /// The sweep does not mind the undo of a pivot that is passed over.
    SweepPivotPassedOver = "sweep_pivot_passed_over", Unit("verify::explore::tests::backward::a_pivot_that_is_undone_when_it_is_passed_over_is_a_problem");
    /// The sweep thinks that nothing lands between a confirm and the undo.
    SweepNothingLandsAfterAsking = "sweep_nothing_lands_after_asking", Unit("verify::explore::tests::attempts::what_was_not_done_is_owed_unless_a_late_original_is_refused");
    /// The sweep thinks that no undo minds if there is nothing to undo.
    SweepAbsenceIsFine = "sweep_absence_is_fine", Unit("verify::explore::tests::attempts::an_undo_that_failed_is_a_fault_unless_it_could_not_be_called_and_makes_the_step_unknown");
    /// The sweep thinks that a safe call makes earlier copies into nothing.
    SweepSafeRemembers = "sweep_safe_remembers", Unit("verify::explore::tests::judge::a_safe_call_forgets_and_a_keyed_one_does_not");
    /// The sweep thinks that a request on its way never lands.
    SweepCopiesNeverLand = "sweep_copies_never_land", Unit("verify::explore::tests::backward::an_undo_that_finds_nothing_fails_if_it_minds");
    /// The sweep thinks that every undo refuses late originals.
    SweepUndoRefusesLate = "sweep_undo_refuses_late", Unit("verify::explore::tests::backward::an_undo_that_finds_nothing_fails_if_it_minds");
    /// The sweep stops a list with items left while a place is empty.
    SweepPlaceLeftEmpty = "sweep_place_left_empty", Unit("verify::explore::tests::lists::a_list_is_stopped_before_its_first_item_only_if_that_has_to_be_let_in");
    /// The sweep thinks that the items of a list have all begun when the run is stopped.
    SweepNoItemLeft = "sweep_no_item_left", Unit("verify::explore::tests::forward::a_list_that_is_cut_short_by_a_stop_has_failed");
    /// The sweep does not tell that an item of a list is left.
    SweepLeftItemNotTold = "sweep_left_item_not_told", Unit("verify::explore::tests::lists::a_course_says_that_an_item_is_left");
    /// The sweep lets a step begin some time after it may.
    SweepBeginsLate = "sweep_begins_late", Unit("verify::explore::tests::forward::what_may_begin_begins_before_the_run_can_stop");
    /// The sweep thinks that a wait is never over in the moment in which the run stops.
    SweepNoWaitOverBefore = "sweep_no_wait_over_before", Unit("verify::explore::tests::forward::a_wait_may_be_over_in_the_moment_in_which_the_run_stops");
    /// The sweep lets what begins with a step that fails at once end before the run stops.
    SweepBeginsInTime = "sweep_begins_in_time", Unit("verify::explore::tests::forward::others_begin_though_a_step_fails_as_soon_as_it_begins");
    /// The sweep stops any list before its first item.
    SweepStoppedBeforeItems = "sweep_stopped_before_items", Unit("verify::explore::tests::lists::a_list_is_stopped_before_its_first_item_only_if_that_has_to_be_let_in");
    /// The sweep does not see that an item of a pivot is past.
    SweepPivotItemIgnored = "sweep_pivot_item_ignored", Unit("verify::explore::tests::lists::a_pivot_of_which_all_items_failed_is_undone_though_some_are_left");
    /// The sweep undoes behind a pivot.
    SweepPivotIgnored = "sweep_pivot_ignored", Unit("verify::explore::tests::backward::a_cancel_stops_a_run_at_any_moment_but_not_behind_a_pivot");
    /// The sweep lets a run be cancelled behind a pivot.
    SweepCancelAfterPivot = "sweep_cancel_after_pivot", Unit("verify::explore::tests::backward::a_deadline_parks_a_run_behind_a_pivot");
    /// The sweep lets the deadline of a run go on that rests parked.
    SweepDeadlineWhileParked = "sweep_deadline_while_parked", Unit("verify::sweep::state::tests::a_run_that_rests_parked_is_stopped_by_a_cancel_and_not_by_a_deadline");
    /// The sweep judges a run that is incomplete.
    SweepIncompleteJudged = "sweep_incomplete_judged", Unit("verify::explore::tests::attempts::after_an_undo_that_failed_no_fallback_runs_and_the_step_is_unknown");
    /// The sweep forgets how a condition was decided.
    SweepConditionForgotten = "sweep_condition_forgotten", Unit("verify::explore::tests::forward::a_free_condition_is_the_same_wherever_it_stands");
    /// The sweep lets a step run though all that it needs was skipped.
    SweepSkipNotPassedOn = "sweep_skip_not_passed_on", Unit("verify::explore::tests::forward::a_step_is_skipped_with_all_that_it_needs_before_it_is_asked");
    /// The sweep thinks that a deadline ends no wait.
    SweepDeadlineEndsNoWait = "sweep_deadline_ends_no_wait", Unit("verify::explore::tests::forward::a_wait_ends_well_by_itself_and_a_signal_may_not_come");
    /// The sweep lets the success of one member speak for what another left.
    SweepKeptByAnyMember = "sweep_kept_by_any_member", Unit("verify::explore::tests::judge::a_completed_run_keeps_only_what_its_steps_succeeded_by");
    /// The sweep takes what was taken back in one place for gone though it stands in another.
    SweepUndoneThoughItStands = "sweep_undone_though_it_stands", Unit("verify::explore::tests::judge::an_undo_has_happened_if_nothing_of_its_effect_stands");
    /// The sweep counts what only a stop leads to as reached though nothing stops the run there.
    SweepDrainedPartsCount = "sweep_drained_parts_count", Unit("verify::explore::tests::lists::a_confirm_behind_a_pivot_is_not_asked_if_nothing_stops_the_run_there");
    /// The outline of a workflow leaves out that a service has to let items in.
    OutlineNobodyLetsIn = "outline_nobody_lets_in", Unit("verify::outline::tests::what_a_service_has_to_let_in_is_told");
    /// The outline takes every undo for one that refuses late originals.
    OutlineUndoRefusesLate = "outline_undo_refuses_late", Unit("cli::verify::tests::each_flawed_workflow_has_its_story");
    /// The outline leaves out what an undo reads.
    OutlineUndoReadsNothing = "outline_undo_reads_nothing", Unit("cli::verify::tests::each_flawed_workflow_has_its_story");
    /// The outline takes the same condition in two places for two.
    OutlineConditionsApart = "outline_conditions_apart", Unit("verify::outline::tests::conditions_that_are_opposite_are_so_in_the_sketch");
    /// The outline takes an unclear failure for a clear one.
    OutlineUnclearIsClear = "outline_unclear_is_clear", Unit("verify::outline::tests::endings_are_grouped_by_what_follows");
    /// The outline lets every fallback take every error.
    OutlineAnyFallbackTakes = "outline_any_fallback_takes", Unit("verify::outline::tests::endings_are_grouped_by_what_follows");
    /// No random workflow waits without an end.
    RandomWaitsAllEnd = "random_waits_all_end", Unit("verify::random::tests::everything_that_can_be_found_is_found_in_a_few");
    /// Random workflows repeat what may not be repeated.
    RandomRetriesAnything = "random_retries_anything", Unit("verify::random::tests::what_is_made_holds_together");
    /// A random workflow that fails is made smaller until nothing is left of the failure.
    ShrunkToAnything = "shrunk_to_anything", Unit("verify::random::tests::what_fails_is_made_smaller_and_still_fails");
    /// The second reading of the rules forgets that an earlier member may have acted.
    ModelForgetsUnclear = "model_forgets_unclear", It("rules::forward::rule_05_the_model_demands_unknown_where_something_may_be_left_and_failed_where_nothing_is");
    /// The explorer lets a deadline come to a run that rests parked.
    ExploreDeadlineWhileParked = "explore_deadline_while_parked", Unit("verify::explore::tests::lists::a_deadline_does_not_come_to_a_run_that_rests_parked");
    /// The sweep counts two items side by side, however many there are.
    SweepTwoPlacesCounted = "sweep_two_places_counted", Unit("verify::explore::tests::lists::each_of_three_items_under_way_is_a_fault_of_its_own");
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

#[cfg(feature = "teeth")]
thread_local! {
    /// The transitions that machines on this thread have made; a test has a thread of its own.
    static REACHED: std::cell::RefCell<std::collections::BTreeSet<String>> = std::cell::RefCell::default();
}

/// Notes a transition of the machine.
#[cfg(feature = "teeth")]
pub fn reach(transition: impl FnOnce() -> String) {
    REACHED.with_borrow_mut(|reached| reached.insert(transition()));
}

/// Notes nothing, in a program that is not built for tests.
#[cfg(not(feature = "teeth"))]
pub fn reach(_: impl FnOnce() -> String) {}

/// Returns the transitions of the machine that were made on this thread, and forgets them.
#[cfg(feature = "teeth")]
#[must_use]
pub fn take_reached() -> std::collections::BTreeSet<String> {
    REACHED.take()
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
