//! Rules 1 to 8: states, members, attempts, errors, unknown outcomes, crashes, keys, skipping.

use flowrun::engine::{Patience, Submission};
use flowrun::machine::event::{Event, Outcome};
use serde_json::json;

use super::S;
use crate::lab::{Act, Lab};

#[test]
fn rule_01_a_run_of_three_steps_completes() {
    let lab = Lab::new(
        "
        steps:
          first: { uses: act.keyed, with: { n: '{{ input.n }}' }, compensate: { uses: undo } }
          second: { uses: read, with: '{{ steps.first.output.n }}' }
          third: { needs: [second], uses: core.pass, with: { got: '{{ steps.second.output }}' } }
        output: { result: '{{ steps.third.output.got }}' }
        ",
    );
    let report = lab.run(json!({ "n": 42 }));
    assert_eq!(report.status, "completed");
    assert_eq!(report.output, Some(json!({ "result": 42 })));
    assert_eq!(report.exit_code(), 0);
    assert_eq!(lab.called(), ["act.keyed first", "read second"]);
    assert_eq!(
        lab.history(),
        [
            "run_started",
            "step_started first",
            "step_succeeded first",
            "step_started second",
            "step_succeeded second",
            "step_started third",
            "step_succeeded third",
            "run_finished",
        ]
    );
}

#[test]
fn rule_02_breaker_retry_confirm_then_fallback() {
    let lab = Lab::new(
        "
        steps:
          charge:
            uses: act.keyed
            retry: { attempts: 3, delay: 1s, jitter: none }
            confirm: { uses: lookup, with: '{{ key }}' }
            compensate: { uses: undo, with: '{{ key }}' }
            fallback:
              - { name: never, errors: [a.no], uses: read }
              - { name: other, errors: [a.lost], uses: other.keyed }
        ",
    )
    .script("act.keyed charge", [Act::Unknown("a.lost")])
    .script("lookup charge", [Act::CannotSay]);
    let report = lab.run(json!({}));
    assert_eq!(report.status, "completed");
    assert_eq!(report.steps["charge"].via.as_deref(), Some("other"));
    assert_eq!(
        lab.called(),
        [
            "act.keyed charge",
            "act.keyed charge",
            "act.keyed charge",
            "lookup charge",
            "undo charge",
            "other.keyed charge"
        ]
    );
}

#[test]
fn rule_06_a_cut_off_attempt_is_repeated_with_the_same_key_and_the_next_number() {
    let lab = Lab::new(
        "
        steps:
          slow: { uses: act.keyed, retry: { attempts: 1 } }
        ",
    )
    .script("act.keyed slow", [Act::Slow(10 * S), Act::Return(json!(1))]);
    lab.run_and_kill_after(json!({}), 5 * S);
    let report = lab.resume();
    assert_eq!(report.status, "completed");
    let calls = lab.calls();
    assert_eq!(calls.iter().map(|c| c.attempt).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(calls[0].key, calls[1].key);
    assert_eq!(calls[0].key.len(), 64);
}

#[test]
fn rule_01_statuses_of_run_and_steps_while_it_waits() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed }
          b: { needs: [a], wait: { signal: go } }
          c: { needs: [b], uses: read }
          d: { when: 'false', uses: read }
        ",
    );
    let report = lab.run(json!({}));
    assert_eq!((report.status.as_str(), report.exit_code()), ("waiting", 7));
    let statuses: Vec<&str> = report.steps.values().map(|s| s.status.as_str()).collect();
    assert_eq!(statuses, ["succeeded", "waiting", "pending", "skipped"]);
    assert_eq!(report.waiting_for[0].signal.as_deref(), Some("go"));
}

#[test]
fn rule_02_d14_a_fallback_is_chosen_by_the_code_that_ended_the_member_tried_last() {
    let lab = Lab::new(
        "
        steps:
          s:
            uses: act.keyed
            fallback:
              - { name: one, errors: [a.down], uses: other.keyed, with: '{{ error.code }}' }
              - { name: two, errors: [a.down], uses: read }
              - { name: three, errors: [a.no], when: 'false', uses: read }
              - { name: four, errors: [a.no], uses: act.safe, with: '{{ error.code }}' }
        ",
    )
    .script("act.keyed s", [Act::Retryable("a.down")])
    .script("other.keyed s", [Act::Permanent("a.no")]);
    let report = lab.run(json!({}));
    assert_eq!(report.steps["s"].via.as_deref(), Some("four"));
    assert_eq!(report.steps["s"].attempts, 3);
    let inputs: Vec<_> = lab.calls().into_iter().skip(1).map(|c| c.input).collect();
    assert_eq!(inputs, [json!("a.down"), json!("a.no")]);
}

#[test]
fn rule_03_attempts_count_the_first_and_delays_grow() {
    let lab = Lab::new(
        "
        steps:
          s: { uses: act.keyed, retry: { attempts: 4, delay: 1s, factor: 3, max_delay: 5s, jitter: none } }
        ",
    )
    .script("act.keyed s", [Act::Retryable("a.down")]);
    let report = lab.run(json!({}));
    assert_eq!((report.status.as_str(), report.exit_code()), ("failed", 1));
    let times: Vec<i64> = lab.calls().iter().map(|c| c.at_ms).collect();
    assert_eq!(times, [0, 1_000, 4_000, 9_000]);
}

#[test]
fn rule_03_without_retry_there_is_one_attempt_and_without_timeout_it_ends_after_five_minutes() {
    let lab = Lab::new("steps: { s: { uses: act.keyed } }").script("act.keyed s", [Act::Hang]);
    let report = lab.run(json!({}));
    assert_eq!(report.steps["s"].attempts, 1);
    assert_eq!(report.steps["s"].error.as_ref().unwrap().code, "timeout");
    let ended = lab.events().into_iter().find(|e| e["type"] == "attempt_unknown").unwrap();
    assert_eq!(ended["at"], "2027-01-15T08:05:00.000Z");
}

#[test]
fn rule_03_within_bounds_all_attempts() {
    let lab = Lab::new(
        "steps: { s: { uses: act.keyed, retry: { attempts: 10, delay: 4s, backoff: fixed, jitter: none, within: 9s } } }",
    )
    .script("act.keyed s", [Act::Retryable("a.down")]);
    lab.run(json!({}));
    assert_eq!(lab.calls().iter().map(|c| c.at_ms).collect::<Vec<_>>(), [0, 4_000, 8_000]);
}

#[test]
fn rule_03_a_back_off_goes_on_where_it_was_after_a_restart() {
    let lab =
        Lab::new("steps: { s: { uses: act.keyed, retry: { attempts: 3, delay: 60s, backoff: fixed, jitter: none } } }")
            .script("act.keyed s", [Act::Retryable("a.down"), Act::Retryable("a.down"), Act::Return(json!(1))]);
    lab.run_and_kill_after(json!({}), 40 * S);
    let report = lab.resume();
    assert_eq!(report.status, "completed");
    assert_eq!(lab.calls().iter().map(|c| c.at_ms).collect::<Vec<_>>(), [0, 60_000, 120_000]);
    assert_eq!(lab.calls().iter().map(|c| c.attempt).collect::<Vec<_>>(), [1, 2, 3], "the counter survives");
}

#[test]
fn rule_04_a_panic_and_a_bad_output_are_unknown_and_a_bad_template_is_known() {
    for (act, code, status) in [
        (Act::Panic, "panic", "unknown"),
        (Act::Return(json!("x".repeat(2_000))), "bad_output", "unknown"),
        (Act::Permanent("a.no"), "a.no", "failed"),
        (Act::Unknown("a.lost"), "a.lost", "unknown"),
    ] {
        let mut lab = Lab::new("steps: { s: { uses: act.keyed } }").script("act.keyed s", [act]);
        lab.limits.payload_bytes = 1_000;
        let report = lab.run(json!({}));
        let step = &report.steps["s"];
        assert_eq!((step.error.as_ref().unwrap().code.as_str(), step.status.as_str()), (code, status));
    }
    let lab = Lab::new("steps: { s: { uses: act.keyed, with: '{{ input.missing }}' } }");
    let report = lab.run(json!({}));
    assert_eq!(report.steps["s"].status, "failed");
    assert_eq!(report.error.unwrap().code, "template");
    assert!(lab.calls().is_empty(), "the handler was not called");
}

#[test]
fn rule_04_an_input_over_the_limit_is_refused_before_the_handler_is_called() {
    let mut lab = Lab::new("steps: { s: { uses: act.keyed, with: '{{ input }}' } }");
    lab.limits.payload_bytes = 10;
    assert_eq!(lab.run(json!("0123456789")).error.unwrap().code, "limit");
    assert!(lab.calls().is_empty());
    let mut lab = Lab::new("steps: { s: { uses: act.keyed, with: '{{ input }}' } }");
    lab.limits.payload_bytes = 10;
    assert_eq!(lab.run(json!("01234567")).status, "completed", "ten bytes with its quotes");
}

#[test]
fn rule_05_an_unknown_outcome_is_repeated_only_where_that_does_no_harm() {
    for (handler, calls) in [("act.once", 1), ("act.safe", 3), ("act.keyed", 3), ("read", 3)] {
        let body = format!("steps: {{ s: {{ uses: {handler}, retry: {{ attempts: 3, delay: 1s }} }} }}");
        let lab = Lab::new(&body).script(&format!("{handler} s"), [Act::Unknown("a.lost")]);
        lab.run(json!({}));
        assert_eq!(lab.calls().len(), calls, "{handler}");
    }
}

#[test]
fn rule_05_d08_once_unclear_a_step_stays_unknown_whatever_later_attempts_report() {
    let lab =
        Lab::new("steps: { s: { uses: act.keyed, retry: { attempts: 2, delay: 1s }, compensate: { uses: undo } } }")
            .script("act.keyed s", [Act::Unknown("a.lost"), Act::Permanent("a.no")]);
    let report = lab.run(json!({}));
    assert!(lab.history().contains(&"step_unknown s".to_owned()));
    assert_eq!(report.error.unwrap().code, "a.no", "the code is the last attempt's");
    assert_eq!(report.undone, ["s"], "what may have acted is undone");
}

#[test]
fn rule_05_confirm_settles_an_unknown_outcome() {
    let workflow = "
        steps:
          s: { uses: act.keyed, confirm: { uses: HANDLER, with: { k: '{{ key }}' } }, compensate: { uses: undo } }
        output: '{{ steps.s.output }}'
        ";
    let body = workflow
        .replace("HANDLER", "lookup")
        .replace("output: '{{ steps.s.output }}'", "output: { it: '{{ steps.s.output }}' }");
    let done = Lab::new(&body).script("act.keyed s", [Act::Hang]).script("lookup s", [Act::Done(json!({ "id": 5 }))]);
    let report = done.run(json!({}));
    assert_eq!((report.status.as_str(), report.output), ("completed", Some(json!({ "it": { "id": 5 } }))));
    let calls = done.calls();
    assert_eq!(calls[1].input["k"], json!(calls[0].key), "it is asked about the forward key");

    let not_done = Lab::new(&body).script("act.keyed s", [Act::Hang]).script("lookup s", [Act::NotDone]);
    let report = not_done.run(json!({}));
    assert_eq!(report.steps["s"].status, "failed");
    assert_eq!(report.exit_code(), 1, "it did not act and cannot act later: nothing to undo");

    let body = body.replace("uses: lookup", "uses: lookup.weak");
    let weak = Lab::new(&body).script("act.keyed s", [Act::Hang]).script("lookup.weak s", [Act::NotDone]);
    let report = weak.run(json!({}));
    assert_eq!((report.undone.len(), report.exit_code()), (1, 4), "a late original may still land");
    assert!(weak.history().contains(&"step_failed s".to_owned()), "it is a failure all the same");
}

#[test]
fn rule_05_a_confirm_that_fails_is_unknown_and_is_asked_once() {
    let lab = Lab::new(
        "
        steps:
          s:
            uses: act.keyed
            confirm: { uses: lookup, retry: { attempts: 2, delay: 1s } }
            compensate: { uses: undo }
        ",
    )
    .script("act.keyed s", [Act::Unknown("a.lost")])
    .script("lookup s", [Act::Retryable("a.down")]);
    let report = lab.run(json!({}));
    assert_eq!(lab.called(), ["act.keyed s", "lookup s", "lookup s", "undo s"]);
    assert_eq!(report.exit_code(), 4);
}

#[test]
fn rule_05_d14_if_the_undo_before_a_fallback_fails_no_fallback_runs() {
    let lab = Lab::new(
        "
        steps:
          s: { uses: act.keyed, compensate: { uses: undo }, fallback: [{ name: other, uses: other.keyed }] }
        ",
    )
    .script("act.keyed s", [Act::Unknown("a.lost")])
    .script("undo s", [Act::Permanent("a.no")]);
    let report = lab.run(json!({}));
    assert_eq!(lab.called(), ["act.keyed s", "undo s"]);
    assert!(lab.history().contains(&"step_unknown s".to_owned()));
    assert_eq!((report.status.as_str(), report.exit_code()), ("failed", 5));
    assert_eq!(report.owed[0].step, "s");
}

#[test]
fn rule_05_what_may_have_acted_is_undone_when_continue_passes_over_it() {
    let lab = Lab::new(
        "
        steps:
          s: { uses: act.keyed, compensate: { uses: undo }, on_error: continue }
          t: { needs: [s], uses: read, with: \"{{ steps.s.error.code | default('none') }}\" }
        ",
    )
    .script("act.keyed s", [Act::Unknown("a.lost")]);
    let report = lab.run(json!({}));
    assert_eq!(report.status, "completed");
    assert_eq!(lab.called(), ["act.keyed s", "undo s", "read t"]);
    assert_eq!(lab.calls()[2].input, json!("a.lost"));
}

#[test]
fn rule_06_a_cut_off_once_attempt_is_unknown() {
    let lab = Lab::new("steps: { s: { uses: act.once, retry: { attempts: 3 }, compensate: { uses: undo } } }")
        .script("act.once s", [Act::Slow(10 * S)]);
    lab.run_and_kill_after(json!({}), 5 * S);
    let report = lab.resume();
    assert_eq!(lab.called(), ["act.once s", "undo s"]);
    assert_eq!(report.error.unwrap().code, "crashed");
}

#[test]
fn rule_06_a_crash_uses_up_none_of_the_attempts() {
    let lab = Lab::new("steps: { s: { uses: act.keyed, retry: { attempts: 2, delay: 1s, jitter: none } } }")
        .script("act.keyed s", [Act::Slow(10 * S), Act::Retryable("a.down"), Act::Return(json!(1))]);
    lab.run_and_kill_after(json!({}), 5 * S);
    assert_eq!(lab.resume().status, "completed", "two attempts are left after the crash");
    assert_eq!(lab.calls().len(), 3);
}

#[test]
fn rule_06_an_attempt_cut_off_in_a_drain_is_unknown_even_if_it_could_be_repeated() {
    let lab = Lab::new(
        "
        steps:
          slow: { uses: act.keyed, compensate: { uses: undo } }
          bad: { uses: read }
        ",
    )
    .script("act.keyed slow", [Act::Slow(100 * S)])
    .script("read bad", [Act::Permanent("a.no")]);
    lab.run_and_kill_after(json!({}), 5 * S);
    let report = lab.resume();
    assert_eq!(lab.called(), ["act.keyed slow", "read bad", "undo slow"]);
    assert_eq!(report.exit_code(), 4);
}

#[test]
fn rule_06_a_cut_off_undo_is_repeated_and_a_once_undo_has_failed() {
    for (undo, exit, calls) in [("undo", 4, 2), ("undo.once", 5, 1)] {
        let body = format!(
            "
            steps:
              a: {{ uses: act.keyed, compensate: {{ uses: {undo} }} }}
              b: {{ needs: [a], uses: read }}
            "
        );
        let lab = Lab::new(&body)
            .script("read b", [Act::Permanent("a.no")])
            .script(&format!("{undo} a"), [Act::Slow(10 * S), Act::Return(json!(null))]);
        lab.run_and_kill_after(json!({}), 5 * S);
        assert_eq!(lab.resume().exit_code(), exit, "{undo}");
        assert_eq!(lab.called().iter().filter(|c| c.starts_with(undo)).count(), calls, "{undo}");
    }
}

#[test]
fn rule_07_keys_are_those_of_step_item_member_and_undo() {
    let lab = Lab::new(
        "
        steps:
          s: { uses: act.keyed, retry: { attempts: 2, delay: 1s }, fallback: [{ name: other, uses: other.keyed, compensate: { uses: undo } }] }
          each: { foreach: '[1, 2]', uses: act.safe }
          bad: { needs: [s, each], uses: read }
        ",
    )
    .script("act.keyed s", [Act::Retryable("a.down")])
    .script("read bad", [Act::Permanent("a.no")]);
    lab.run(json!({}));
    let calls = lab.calls();
    let keys = |what: &str| calls.iter().filter(|c| c.what == what).map(|c| c.key.clone()).collect::<Vec<_>>();
    let primary = keys("act.keyed s");
    assert_eq!(primary[0], primary[1], "equal on all attempts");
    let other = &keys("other.keyed s")[0];
    assert_ne!(primary[0], *other, "each member has its own");
    assert_ne!(keys("act.safe each[0]"), keys("act.safe each[1]"));
    assert_eq!(keys("undo s")[0], format!("{other}/undo"));
}

#[test]
fn rule_07_a_new_generation_only_after_a_definite_failure() {
    for (act, same) in [(Act::Unknown("a.lost"), true), (Act::Permanent("a.no"), false)] {
        let lab = Lab::new("steps: { s: { uses: act.keyed, on_error: park } }")
            .script("act.keyed s", [act, Act::Return(json!(1))]);
        assert_eq!(lab.run(json!({})).status, "parked");
        let report = lab.life(|engine| async move {
            let run = engine.find("it").unwrap();
            engine.retry(run, None).await.unwrap();
            engine.rest(run, flowrun::engine::Patience::Timers).await.unwrap()
        });
        assert_eq!(report.status, "completed");
        let calls = lab.calls();
        assert_eq!(calls[0].key == calls[1].key, same);
    }
}

#[test]
fn rule_08_skipped_and_passed_over_steps_satisfy_needs() {
    let lab = Lab::new(
        "
        steps:
          skipped: { when: 'false', uses: read }
          failed: { uses: read, on_error: continue }
          follows: { needs: [skipped], on_skip: skip, uses: read }
          runs: { needs: [skipped], on_skip: run, uses: read }
          joins: { needs: [skipped, failed], uses: read, with: \"{{ steps.failed.error.code | default('none') }}\" }
        ",
    )
    .script("read failed", [Act::Permanent("a.no")]);
    let report = lab.run(json!({}));
    let statuses: Vec<&str> = report.steps.values().map(|s| s.status.as_str()).collect();
    assert_eq!(statuses, ["skipped", "failed", "skipped", "succeeded", "succeeded"]);
    assert_eq!(lab.calls().last().unwrap().input, json!("a.no"));
}

#[test]
fn rule_05_what_may_have_acted_is_undone_by_continue_even_if_the_choice_of_a_fallback_fails() {
    let lab = Lab::new(
        "
        steps:
          s:
            uses: act.keyed
            compensate: { uses: undo }
            on_error: continue
            fallback: [{ name: other, when: input.missing, uses: other.keyed }]
        ",
    )
    .script("act.keyed s", [Act::Unknown("a.lost")]);
    assert_eq!(lab.run(json!({})).status, "completed");
    assert_eq!(lab.called(), ["act.keyed s", "undo s"]);
}

#[test]
fn rule_03_d07_a_late_answer_is_not_taken_for_that_of_a_try_after_an_operators_retry() {
    let lab = Lab::new("steps: { s: { uses: act.keyed, timeout: 2s, on_error: park } }")
        .script("act.keyed s", [Act::Slow(3 * S), Act::Hang]);
    let workflow = lab.workflow();
    let report = lab.life(|engine| async move {
        let submitted = engine.submit(Submission { workflow, input: json!({}), id: Some("it".into()) }).await.unwrap();
        engine.rest(submitted.run, Patience::Timers).await.unwrap();
        engine.retry(submitted.run, None).await.unwrap();
        engine.rest(submitted.run, Patience::Timers).await.unwrap()
    });
    assert_eq!(report.status, "parked", "nobody answered the second try");
    assert!(lab.history().contains(&"late_result s".to_owned()));
}

#[test]
fn rule_03_the_time_of_a_run_never_goes_backwards() {
    let lab = Lab::new("steps: { a: { wait: { for: 1h } } }");
    lab.run_and_kill_after(json!({}), 60 * S);
    lab.resume_and_kill_after(60 * S);
    lab.set_back(600 * S);
    assert_eq!(lab.resume().status, "completed");
    let times: Vec<_> = lab.events().iter().map(|e| e["at"].as_str().unwrap().to_owned()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn c01_a_clock_that_was_ahead_for_a_moment_does_not_hold_a_run_up() {
    let year = 365 * 24 * 3600 * S;
    let lab = Lab::new("steps: { a: { uses: act.keyed }, b: { needs: [a], uses: act.safe, timeout: 10s } }")
        .script("act.keyed a", [Act::Slow(10 * S), Act::Return(json!(1))])
        .script("act.safe b", [Act::Hang]);
    lab.pass(year);
    lab.run_and_kill_after(json!({}), S);
    lab.set_back(year);
    lab.resume_and_kill_after(20 * S);
    assert_eq!(lab.history().last().unwrap(), "run_finished", "{:#?}", lab.history());
}

#[test]
fn rule_06_the_attempts_before_a_crash_are_counted() {
    let lab = Lab::new("steps: { s: { uses: act.keyed, retry: { attempts: 2, delay: 1s, jitter: none } } }")
        .script("act.keyed s", [Act::Retryable("a.down"), Act::Slow(9 * S), Act::Retryable("a.down")]);
    lab.run_and_kill_after(json!({}), 5 * S);
    assert_eq!(lab.resume().status, "failed");
    assert_eq!(lab.calls().len(), 3, "two count, and the one that was cut off does not");
}

#[test]
fn rule_05_d07_d09_an_answer_after_the_timeout_changes_nothing() {
    let lab = Lab::new(
        "steps: { s: { uses: act.keyed, timeout: 2s, retry: { attempts: 2, delay: 500ms, jitter: none }, compensate: { uses: undo } } }",
    )
    .script("act.keyed s", [Act::Slow(3 * S), Act::Hang]);
    let report = lab.run(json!({}));
    assert_eq!((report.steps["s"].error.as_ref().unwrap().code.as_str(), report.exit_code()), ("timeout", 4));
    assert!(lab.history().contains(&"late_result s".to_owned()), "it is recorded all the same");
}

#[test]
fn rule_05_a_fallback_that_fails_does_not_settle_a_member_that_may_have_acted() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          p: { needs: [a], pivot: true, uses: act.keyed, fallback: [{ name: other, uses: other.keyed }] }
        ",
    )
    .script("act.keyed p", [Act::Unknown("a.lost")])
    .script("other.keyed p", [Act::Permanent("a.no")]);
    let report = lab.run(json!({}));
    assert_eq!(report.steps["p"].status, "unknown");
    assert_eq!(report.parked.unwrap().code, "pivot", "nobody knows that the point of no return was not passed");
}

#[test]
fn rule_19_the_item_that_failed_first_is_named_whatever_its_number() {
    let lab = Lab::new("steps: { each: { foreach: '[0, 1, 2]', uses: act.keyed } }")
        .script("act.keyed each[0]", [Act::SlowFailure(9 * S, "a.down")])
        .script("act.keyed each[2]", [Act::SlowFailure(3 * S, "a.no")]);
    let error = lab.run(json!({})).error.unwrap();
    assert_eq!((error.code.as_str(), error.message.starts_with("item 2:")), ("a.no", true), "{}", error.message);
}

#[test]
fn rule_19_an_item_that_waits_for_a_place_does_not_begin_after_a_failure() {
    let lab = Lab::new(
        "
        services: { gate: { concurrency: 1 } }
        steps: { each: { foreach: '[0, 1, 2]', uses: act.keyed, service: gate } }
        ",
    )
    .script("act.keyed each[0]", [Act::SlowFailure(S, "a.no")]);
    assert_eq!(lab.run(json!({})).status, "failed");
    assert_eq!(lab.called(), ["act.keyed each[0]"]);
}

#[test]
fn c05_a_timeout_and_an_answer_in_the_same_moment_are_one_outcome() {
    for act in [Act::Slow(2 * S), Act::SlowFailure(2 * S, "a.no")] {
        let lab = Lab::new("steps: { s: { uses: act.keyed, timeout: 2s } }").script("act.keyed s", [act]);
        lab.run(json!({}));
        let ends = ["step_succeeded s", "attempt_failed s", "attempt_unknown s"];
        let found: Vec<String> = lab.history().into_iter().filter(|e| ends.contains(&e.as_str())).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(lab.calls().len(), 1);
    }
}

#[test]
fn c07_spread_delays_are_the_same_after_a_restart() {
    let times = |deaths: bool| {
        let mut lab = Lab::new("steps: { s: { uses: act.keyed, retry: { attempts: 6, delay: 20s, max_delay: 40s } } }")
            .script("act.keyed s", [Act::Retryable("a.down")]);
        lab.seed = Some(7);
        if deaths {
            lab.run_and_kill_after(json!({}), S);
            lab.resume_and_kill_after(10 * S);
            lab.resume();
        } else {
            lab.run(json!({}));
        }
        lab.calls().iter().map(|c| c.at_ms).collect::<Vec<_>>()
    };
    assert_eq!(times(false).len(), 6);
    assert_eq!(times(false), times(true));
}

#[test]
fn rule_19_a_list_becomes_known_with_its_first_items_whatever_fails_in_the_same_turn() {
    let lab = Lab::new(
        "
        steps:
          each: { foreach: '[1, 2, 3]', concurrency: 2, uses: act.keyed, compensate: { uses: undo } }
          bad: { when: 'input.list | length > 0', uses: read }
        ",
    );
    assert_eq!(lab.run(json!({ "list": 1 })).status, "failed");
    assert_eq!(lab.called(), ["act.keyed each[0]", "act.keyed each[1]", "undo each[0]", "undo each[1]"]);
}

#[test]
fn rule_05_the_model_demands_unknown_where_something_may_be_left_and_failed_where_nothing_is() {
    let undone = "compensate: { uses: undo },";
    // How the step's own call ends, what undoes it, how its undo ends, and how the step ends after its fallback failed.
    let cases = [
        (Act::Permanent("a.no"), undone, None, "failed"),
        (Act::Unknown("a.lost"), "", None, "unknown"),
        (Act::Unknown("a.lost"), undone, None, "failed"),
        (Act::Unknown("a.lost"), undone, Some(Act::Permanent("a.no")), "unknown"),
    ];
    for (own, undo, of_undo, expected) in cases {
        let body =
            format!("steps: {{ s: {{ uses: act.keyed, {undo} fallback: [{{ name: f, uses: other.keyed }}] }} }}");
        let lab = Lab::new(&body)
            .script("act.keyed s", [own])
            .script("undo s", of_undo.into_iter().chain([Act::Return(json!(1))]))
            .script("other.keyed s", [Act::Permanent("a.no")]);
        lab.run(json!({}));
        assert!(lab.history().contains(&format!("step_{expected} s")), "{:?}", lab.history());
        let run = lab.life(|engine| async move { engine.find("it").unwrap() });
        assert!(lab.modelled(run).is_ok());
        let refused = lab.modelled_with(run, |event| {
            let Event::Settled { outcome, .. } = event else { return };
            *outcome = match outcome.clone() {
                Outcome::Failed { error } => Outcome::Unknown { error },
                Outcome::Unknown { error } => Outcome::Failed { error },
                Outcome::Succeeded { output } => Outcome::Succeeded { output },
            };
        });
        let why = refused.expect_err("the other verdict is refused");
        assert!(why.contains("the item does not end like that now"), "{why}");
    }
}

#[test]
fn rule_09_what_may_begin_begins_though_something_fails_at_once() {
    let lab = Lab::new(
        "
        steps:
          list: { foreach: input.no_list, uses: read }
          late: { wait: { until: input.no_time } }
          call: { uses: read, with: \"{{ input.missing.field }}\" }
          skipped: { when: 'false', uses: read }
          after: { needs: [skipped], on_skip: run, uses: act.keyed }
          beside: { uses: other.keyed }
        ",
    );
    let report = lab.run(json!({ "no_list": 1, "no_time": "soon" }));
    let statuses: Vec<&str> = report.steps.values().map(|s| s.status.as_str()).collect();
    assert_eq!(statuses, ["failed", "failed", "failed", "skipped", "succeeded", "succeeded"]);
    assert_eq!((report.status.as_str(), lab.called().len()), ("failed", 2));
    let history = lab.history();
    let at = |what: &str| history.iter().position(|event| event == what).unwrap();
    assert!(at("step_started after") < at("drain_started list") && at("step_failed call") < at("drain_started list"));
}
