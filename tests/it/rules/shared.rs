//! Rules 14 to 18: breakers, pinned definitions, secrets, ids, the recovery counter, signals.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowrun::engine::report::RunReport;
use flowrun::engine::{EngineError, Known, Patience, Submission};
use flowrun::machine::Refusal;
use flowrun::names::RunKey;
use serde_json::json;

use super::S;
use crate::lab::{Act, Lab, time_passes};

const GUARDED: &str = "
    services: { gate: { breaker: { failures: 2, within: 60s, cooldown: 30s } } }
    steps:
      s:
        uses: act.keyed
        service: gate
        retry: { attempts: 2, delay: 1s, jitter: none }
        fallback: [{ name: other, errors: [breaker_open], uses: other.keyed }]
    ";

#[test]
fn rule_14_the_breaker_is_shared_by_all_runs_and_survives_restarts() {
    let lab = Lab::new(GUARDED).script("act.keyed s", [Act::Retryable("a.down")]);
    assert_eq!(lab.run(json!({})).status, "failed", "the first order finds out");
    let second = lab.run_as("second", json!({}));
    assert_eq!(second.steps["s"].via.as_deref(), Some("other"), "the second does not even knock");
    assert_eq!(second.steps["s"].attempts, 1, "being refused uses up no attempt");
    assert_eq!(lab.called().iter().filter(|c| c.starts_with("act.keyed")).count(), 2);
    assert!(lab.history_of("second").contains(&"attempt_refused s".to_owned()), "the answer is an event of the run");
}

#[test]
fn rule_14_after_the_cooldown_one_probe_is_let_through_and_closes_it() {
    let lab = Lab::new(GUARDED)
        .script("act.keyed s", [Act::Retryable("a.down"), Act::Retryable("a.down"), Act::Return(json!("up"))]);
    lab.run(json!({}));
    lab.pass(30 * S);
    assert_eq!(lab.run_as("probe", json!({})).steps["s"].via.as_deref(), Some("primary"));
    let started = lab.events_of("probe").into_iter().find(|e| e["type"] == "step_started").unwrap();
    assert_eq!(started["probe"], json!(true));
    assert_eq!(lab.run_as("after", json!({})).steps["s"].via.as_deref(), Some("primary"));
}

#[test]
fn rule_14_a_permanent_error_does_not_open_it() {
    let lab = Lab::new(GUARDED).script("act.keyed s", [Act::Permanent("a.no")]);
    for id in ["a", "b", "c", "d"] {
        assert_eq!(lab.run_as(id, json!({})).error.unwrap().code, "a.no");
    }
}

#[test]
fn rule_14_an_undo_waits_until_it_is_let_through() {
    let lab = Lab::new(
        "
        services: { gate: { breaker: { failures: 1, within: 60s, cooldown: 30s } } }
        steps:
          a: { uses: act.keyed, compensate: { uses: undo, service: gate } }
          bad: { needs: [a], uses: read, service: gate }
        ",
    )
    .script("read bad", [Act::Retryable("a.down")]);
    let report = lab.run(json!({}));
    assert_eq!(report.exit_code(), 4);
    assert_eq!(lab.calls().last().unwrap().at_ms, 30_000);
}

#[test]
fn rule_14_places_of_a_service_are_shared() {
    let lab = Lab::new(
        "
        services: { gate: { concurrency: 2 } }
        steps:
          each: { foreach: '[1, 2, 3, 4, 5]', uses: act.keyed, service: gate }
        ",
    )
    .script("act.keyed each[0]", [Act::Slow(10 * S)])
    .script("act.keyed each[1]", [Act::Slow(10 * S)])
    .script("act.keyed each[2]", [Act::Slow(10 * S)])
    .script("act.keyed each[3]", [Act::Slow(10 * S)]);
    assert_eq!(lab.run(json!({})).status, "completed");
    assert_eq!(lab.calls().iter().map(|c| c.at_ms).collect::<Vec<_>>(), [0, 0, 10_000, 10_000, 20_000]);
}

#[test]
fn rule_15_a_run_uses_only_the_definition_it_was_started_with() {
    let lab = Lab::new("steps: { a: { wait: { for: 1m } }, b: { needs: [a], uses: read, with: old } }");
    lab.run_and_kill_after(json!({}), 10 * S);
    let lab = lab.edited("steps: { a: { wait: { for: 1m } }, c: { needs: [a], uses: act.safe, with: new } }");
    let report = lab.resume();
    assert_eq!(report.steps.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(lab.calls()[0].input, json!("old"));
}

#[test]
fn rule_15_a_secret_is_filled_in_at_the_call_and_never_recorded() {
    let home = std::env::var("HOME").expect("the test machine has a HOME");
    let lab = Lab::new(
        "
        secrets: [HOME]
        steps:
          a: { uses: act.keyed, with: { plain: '{{ secrets.HOME }}', text: 'x {{ secrets.HOME }}' }, compensate: { uses: undo, with: '{{ secrets.HOME }}' } }
          bad: { needs: [a], uses: read }
        ",
    )
    .script("read bad", [Act::Permanent("a.no")]);
    lab.run(json!({}));
    let calls = lab.calls();
    assert_eq!(calls[0].input, json!({ "plain": home, "text": format!("x {home}") }), "the handler gets it");
    assert_eq!(calls[2].input, json!(home), "the undo too");
    let journal = serde_json::to_string(&lab.events()).unwrap();
    assert!(!journal.contains(&home), "{journal}");
    assert!(journal.contains("***"), "the output shows that something was taken out");
}

#[test]
fn rule_15_input_that_looks_like_a_placeholder_is_not_filled() {
    let lab = Lab::new(
        "secrets: [HOME]\nsteps: { a: { uses: act.keyed, with: { s: '{{ secrets.HOME }}', i: '{{ input.text }}' } } }",
    );
    let forged = "<secret HOME 0000000000000000>";
    lab.run(json!({ "text": forged }));
    assert_eq!(lab.calls()[0].input["i"], json!(forged));
}

#[test]
fn rule_15_a_missing_secret_is_refused_before_anything_is_written() {
    let lab = Lab::new(
        "secrets: [FLOWRUN_NO_SUCH_SECRET]\nsteps: { a: { uses: read, with: '{{ secrets.FLOWRUN_NO_SUCH_SECRET }}' } }",
    );
    let workflow = lab.workflow();
    let error = lab.life(|engine| async move {
        engine.submit(Submission { workflow, input: json!({}), id: Some("it".into()) }).await.unwrap_err()
    });
    assert!(matches!(&error, EngineError::Secrets(names) if names == &["FLOWRUN_NO_SUCH_SECRET"]), "{error}");
    assert!(lab.life(|engine| async move { engine.find("it").is_err() }));
}

#[test]
fn rule_16_the_same_id_is_the_same_run() {
    let lab = Lab::new("steps: { a: { uses: act.keyed, with: '{{ input }}' } }");
    let workflow = lab.workflow();
    let submit = |input| Submission { workflow: Arc::clone(&workflow), input, id: Some("it".into()) };
    let (first, second, other) = lab.life(|engine| async move {
        let first = engine.submit(submit(json!(1))).await.unwrap();
        engine.rest(first.run, Patience::Timers).await.unwrap();
        let second = engine.submit(submit(json!(1))).await.unwrap();
        (first, second, engine.submit(submit(json!(2))).await.unwrap_err())
    });
    assert_eq!((first.known, second.known, first.run == second.run), (Known::New, Known::Final, true));
    assert!(matches!(other, EngineError::Conflict { .. }), "{other}");
    assert_eq!(lab.calls().len(), 1);
}

#[test]
fn rule_16_an_unfinished_run_is_attached_to_and_a_changed_workflow_is_a_conflict() {
    let lab = Lab::new("steps: { a: { uses: act.keyed }, b: { needs: [a], wait: { signal: go } } }");
    lab.run(json!({}));
    let workflow = lab.workflow();
    let again = lab.life(|engine| async move {
        engine.submit(Submission { workflow, input: json!({}), id: Some("it".into()) }).await.unwrap()
    });
    assert_eq!(again.known, Known::Attached);
    let lab = lab.edited("steps: { a: { uses: act.safe } }");
    let workflow = lab.workflow();
    let error = lab.life(|engine| async move {
        engine.submit(Submission { workflow, input: json!({}), id: Some("it".into()) }).await.unwrap_err()
    });
    assert!(matches!(error, EngineError::Conflict { .. }), "{error}");
    assert_eq!(lab.calls().len(), 1);
}

#[test]
fn rule_16_ids_are_checked() {
    let lab = Lab::new("steps: { a: { uses: read } }");
    for (id, good) in [
        ("A-z.0_9", true),
        ("", false),
        ("a b", false),
        ("ä", false),
        (&"x".repeat(128), true),
        (&"x".repeat(129), false),
    ] {
        let workflow = lab.workflow();
        let id = id.to_owned();
        let result = lab
            .life(|engine| async move { engine.submit(Submission { workflow, input: json!({}), id: Some(id) }).await });
        assert_eq!(result.is_ok(), good);
    }
}

#[test]
fn rule_17_a_third_death_parks_the_run_and_retry_tries_again() {
    let lab = Lab::new("steps: { s: { uses: act.keyed } }").script("act.keyed s", [Act::Slow(10 * S)]);
    lab.run_and_kill_after(json!({}), S);
    for _ in 0..2 {
        lab.resume_and_kill_after(S);
    }
    let report = lab.resume();
    assert_eq!((report.status.as_str(), report.exit_code()), ("parked", 7));
    assert_eq!(report.parked.unwrap().code, "recovery");
    assert_eq!(lab.calls().len(), 3, "the third death was its last call");
    let report = lab.life(|engine| async move {
        let run = engine.find("it").unwrap();
        engine.retry(run, None).await.unwrap();
        engine.rest(run, Patience::Timers).await.unwrap()
    });
    assert_eq!(report.status, "completed");
}

#[test]
fn rule_17_an_outcome_resets_the_counter_and_an_orderly_stop_does_not_count() {
    let lab = Lab::new("steps: { s: { uses: act.keyed, retry: { attempts: 99, delay: 1s, jitter: none } } }").script(
        "act.keyed s",
        [
            Act::Slow(10 * S),
            Act::Slow(10 * S),
            Act::Retryable("a.down"),
            Act::Slow(10 * S),
            Act::Slow(10 * S),
            Act::Return(json!(1)),
        ],
    );
    lab.run_and_kill_after(json!({}), S);
    lab.resume_and_kill_after(S);
    lab.resume_and_kill_after(2 * S);
    lab.resume_and_kill_after(S);
    assert_eq!(lab.resume().status, "completed", "{:#?}", lab.history());

    let lab = Lab::new("steps: { s: { uses: act.keyed } }").script("act.keyed s", [Act::Slow(10 * S)]);
    lab.run_and_stop_after(json!({}), S);
    for _ in 0..4 {
        lab.life(|engine| async move {
            engine.resume_all().await.unwrap();
            engine.stop(S).await;
        });
    }
    assert_eq!(lab.resume().status, "completed");
}

#[test]
fn rule_17_a_run_that_only_waits_is_not_to_blame() {
    let lab = Lab::new("steps: { s: { wait: { for: 1h } } }");
    lab.run_and_kill_after(json!({}), S);
    for _ in 0..4 {
        lab.resume_and_kill_after(S);
    }
    assert_eq!(lab.resume().status, "completed");
}

#[test]
fn rule_18_a_signal_is_recorded_on_arrival_and_each_wait_takes_the_oldest_unused() {
    let lab = Lab::new(
        "
        steps:
          a: { wait: { for: 1m } }
          b: { needs: [a], wait: { signal: go } }
          c: { needs: [b], wait: { signal: go } }
        output: { b: '{{ steps.b.output }}', c: '{{ steps.c.output }}' }
        ",
    );
    lab.run_and_kill_after(json!({}), S);
    let report = lab.life(|engine| async move {
        let run = engine.find("it").unwrap();
        engine.signal(run, Some("m1".into()), "go".into(), json!(1)).await.unwrap();
        engine.signal(run, Some("m1".into()), "go".into(), json!(1)).await.unwrap();
        engine.signal(run, None, "go".into(), json!(2)).await.unwrap();
        engine.rest(run, Patience::Timers).await.unwrap()
    });
    assert_eq!(report.output, Some(json!({ "b": 1, "c": 2 })));
}

#[test]
fn rule_18_signals_that_do_not_fit_are_refused() {
    let lab = Lab::new("steps: { a: { wait: { signal: go, timeout: 1h, schema: { type: object, required: [id] } } } }");
    lab.run_and_kill_after(json!({}), S);
    let errors = lab.life(|engine| async move {
        let run = engine.find("it").unwrap();
        let bad = engine.signal(run, None, "go".into(), json!({})).await.unwrap_err();
        let unknown = engine.signal(run, None, "stop".into(), json!({})).await.unwrap_err();
        engine.signal(run, None, "go".into(), json!({ "id": 1 })).await.unwrap();
        engine.rest(run, Patience::Timers).await.unwrap();
        let last = engine.signal(run, None, "go".into(), json!({ "id": 1 })).await.unwrap_err();
        [bad, unknown, last]
    });
    assert!(matches!(&errors[0], EngineError::Refused(Refusal::Invalid { .. })), "{errors:?}");
    assert!(matches!(&errors[1], EngineError::Refused(Refusal::Unknown { .. })), "{errors:?}");
    assert!(matches!(&errors[2], EngineError::Refused(Refusal::Final { .. })), "{errors:?}");
}

#[test]
fn rule_18_a_signal_that_does_not_come_in_time_is_a_known_failure() {
    let lab = Lab::new("steps: { a: { wait: { signal: go, timeout: 10m } } }");
    lab.run_and_kill_after(json!({}), 60 * S);
    let report = lab.resume();
    assert_eq!(report.error.unwrap().code, "signal_timeout");
    let failed = lab.events().into_iter().find(|e| e["type"] == "step_failed").unwrap();
    assert_eq!(failed["at"], "2027-01-15T08:10:00.000Z", "the wait did not start over");
}

#[test]
fn rule_16_a_submission_that_came_second_holds_no_place_of_a_service() {
    let lab = Lab::new("services: { gate: { concurrency: 2 } }\nsteps: { s: { uses: act.keyed, service: gate } }")
        .script("act.keyed s", [Act::Slow(S)]);
    let workflow = lab.workflow();
    let submit = |id: &str| Submission { workflow: Arc::clone(&workflow), input: json!({}), id: Some(id.into()) };
    lab.life(|engine| async move {
        let (first, second) = tokio::join!(engine.submit(submit("it")), engine.submit(submit("it")));
        let run = first.unwrap().run;
        assert_eq!(run, second.unwrap().run, "both are the one run");
        engine.rest(run, Patience::Timers).await.unwrap();
        for id in ["a", "b"] {
            engine.submit(submit(id)).await.unwrap();
        }
        crate::lab::time_passes(10 * S).await;
    });
    assert_eq!(
        lab.calls().iter().map(|c| c.at_ms).collect::<Vec<_>>(),
        [0, 1_000, 1_000],
        "both places are free again"
    );
}

#[test]
fn rule_14_a_run_whose_call_waits_for_a_place_does_not_rest() {
    let lab = Lab::new(
        "
        services: { gate: { concurrency: 1 } }
        steps:
          s: { uses: act.keyed, service: gate }
          w: { wait: { signal: go } }
        ",
    )
    .script("act.keyed s", [Act::Slow(10 * S)]);
    let workflow = lab.workflow();
    let submit = |id: &str| Submission { workflow: Arc::clone(&workflow), input: json!({}), id: Some(id.into()) };
    let report = lab.life(|engine| async move {
        engine.submit(submit("first")).await.unwrap();
        let second = engine.submit(submit("second")).await.unwrap();
        engine.rest(second.run, Patience::None).await.unwrap()
    });
    assert_eq!((report.status.as_str(), report.steps["s"].status.as_str()), ("waiting", "succeeded"));
}

#[test]
fn rule_18_a_signal_that_came_while_the_run_was_parked_is_taken_when_it_goes_on() {
    let lab = Lab::new("steps: { a: { wait: { signal: go } }, b: { needs: [a], uses: act.keyed } }");
    lab.run(json!({}));
    lab.without_handlers(|| {
        lab.life(|engine| async move {
            let run = engine.find("it").unwrap();
            engine.signal(run, None, "go".into(), json!(1)).await.unwrap();
            assert_eq!(engine.rest(run, Patience::None).await.unwrap().status, "parked");
        })
    });
    assert_eq!(lab.resume().status, "completed");
}

#[test]
fn rule_17_nothing_starts_while_a_run_is_being_put_down() {
    let lab = Lab::new(
        "
        services: { gate: { concurrency: 1 } }
        steps: { a: { uses: act.keyed, service: gate }, b: { uses: act.once, service: gate } }
        ",
    )
    .script("act.keyed a", [Act::Slow(5 * S)]);
    let workflow = lab.workflow();
    lab.life(|engine| async move {
        engine.submit(Submission { workflow, input: json!({}), id: Some("it".into()) }).await.unwrap();
        crate::lab::time_passes(S).await;
        engine.stop(20 * S).await;
    });
    assert_eq!(lab.called(), ["act.keyed a"], "its place is free, but `b` is not begun");
    assert_eq!(lab.history().last().unwrap(), "run_interrupted");
    assert_eq!(lab.resume().status, "completed");
}

#[test]
fn rule_17_a_parked_run_is_not_to_blame_for_the_death_of_a_process() {
    let lab = Lab::new("steps: { s: { uses: act.keyed } }").script("act.keyed s", [Act::Slow(10 * S)]);
    lab.run_and_kill_after(json!({}), S);
    lab.without_handlers(|| {
        for _ in 0..4 {
            lab.resume_and_kill_after(S);
        }
    });
    assert_eq!(lab.resume().status, "completed");
}

#[test]
fn rule_18_a_signal_over_the_limit_of_a_payload_is_refused() {
    let mut lab = Lab::new("steps: { a: { wait: { signal: go } } }");
    lab.limits.payload_bytes = 10;
    lab.run(json!({}));
    let refused = lab.life(|engine| async move {
        let run = engine.find("it").unwrap();
        let refused = engine.signal(run, None, "go".into(), json!("123456789")).await.unwrap_err();
        engine.signal(run, None, "go".into(), json!("12345678")).await.unwrap();
        refused
    });
    assert!(matches!(refused, EngineError::Refused(Refusal::Invalid { .. })), "{refused}");
}

#[test]
fn rule_18_a_signal_after_the_time_of_the_wait_comes_too_late_even_if_nobody_was_up() {
    let lab = Lab::new("steps: { a: { wait: { signal: go, timeout: 10m } } }");
    lab.run_and_kill_after(json!({}), 60 * S);
    lab.pass(3600 * S);
    let report = lab.life(|engine| async move {
        let run = engine.find("it").unwrap();
        // Whether it is still taken note of is of no importance.
        let _ = engine.signal(run, None, "go".into(), json!(1)).await;
        engine.rest(run, Patience::Timers).await.unwrap()
    });
    assert_eq!(report.error.unwrap().code, "signal_timeout");
}

#[test]
fn d05_what_is_asked_of_a_run_in_the_moment_it_ends_is_not_lost() {
    let lab =
        Lab::new("steps: { a: { uses: act.keyed, compensate: { uses: undo } }, bad: { needs: [a], uses: read } }")
            .script("read bad", [Act::Permanent("a.no")])
            .script("undo a", [Act::Permanent("a.no")]);
    let workflow = lab.workflow();
    lab.life_in_threads(|engine| async move {
        for n in 0..300 {
            let workflow = Arc::clone(&workflow);
            let submission = Submission { workflow, input: json!({}), id: Some(n.to_string()) };
            let (one, two) = tokio::join!(engine.submit(submission.clone()), engine.submit(submission));
            let run = one.unwrap().run;
            assert_eq!(run, two.unwrap().run);
            engine.rest(run, Patience::Timers).await.unwrap();
            for _ in 0..3 {
                engine.compensate(run).await.unwrap();
                let report = engine.rest(run, Patience::Timers).await.unwrap();
                assert_eq!(report.exit_code(), 5);
            }
            let (mark, cancel) =
                tokio::join!(engine.mark_done(run, "a".into(), None, "by hand".into()), engine.cancel(run, None, true));
            assert_eq!(mark.unwrap().exit_code(), 4);
            assert!(matches!(cancel.unwrap_err(), EngineError::Refused(Refusal::Final { .. })));
        }
    });
}

#[test]
fn d05_a_cancel_in_the_moment_a_run_starts_or_a_step_ends_is_before_it_or_after_it() {
    const BODY: &str = "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          b: { needs: [a], uses: act.safe, compensate: { uses: undo } }
        ";
    let mut seen = BTreeSet::new();
    // In the very millisecond of the start, of the end of the first step, and of that of the last; before, amid and
    // after what happens then.
    for (seconds, turns) in [0, 1, 2].into_iter().flat_map(|seconds| (0..40).map(move |turns| (seconds, turns))) {
        let lab = Lab::new(BODY).script("act.keyed a", [Act::Slow(S)]).script("act.safe b", [Act::Slow(S)]);
        let workflow = lab.workflow();
        let (report, cancelled) = lab.life(|engine| async move {
            let submit = engine.submit(Submission { workflow, input: json!({}), id: Some("it".into()) });
            let cancel = async {
                time_passes(seconds * S).await;
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                while engine.find("it").is_err() {
                    tokio::task::yield_now().await;
                }
                engine.cancel(engine.find("it").unwrap(), None, true).await
            };
            let (run, cancelled) = tokio::join!(submit, cancel);
            (engine.rest(run.unwrap().run, Patience::Timers).await.unwrap(), cancelled)
        });
        let (history, case) = (lab.history(), format!("{seconds} s and {turns} turns"));
        let count = |event: &str| history.iter().filter(|e| *e == event).count();
        if let Err(error) = &cancelled {
            assert!(matches!(error, EngineError::Refused(Refusal::Final { .. })), "{case}: {error}");
        }
        assert_eq!(report.status, if cancelled.is_ok() { "cancelled" } else { "completed" }, "{case}: {history:#?}");
        assert_eq!(count("drain_started"), usize::from(cancelled.is_ok()), "{case}: {history:#?}");
        for step in ["a", "b"] {
            let (done, undone) =
                (count(&format!("step_succeeded {step}")), count(&format!("compensation_succeeded {step}")));
            assert_eq!(done, count(&format!("step_started {step}")), "{case}: nothing is cut off: {history:#?}");
            assert_eq!(undone, if cancelled.is_ok() { done } else { 0 }, "{case}: {history:#?}");
        }
        seen.insert((seconds, count("step_started b"), cancelled.is_ok()));
    }
    // Each moment was met from both sides.
    for met in [(1, 0, true), (1, 1, true), (2, 1, true), (2, 1, false)] {
        assert!(seen.contains(&met), "{met:?} is not among {seen:?}");
    }
}

#[test]
fn rule_14_a_probe_that_never_reached_its_service_does_not_close_the_breaker() {
    let lab = Lab::new(
        "
        services: { gate: { breaker: { failures: 1, within: 60s, cooldown: 30s } } }
        steps: { s: { uses: picky, service: gate, with: { n: '{{ input.n }}' } } }
        ",
    )
    .script("picky s", [Act::Retryable("a.down")]);
    assert_eq!(lab.run(json!({ "n": 1 })).error.unwrap().code, "a.down");
    lab.pass(30 * S);
    assert_eq!(lab.run_as("bad", json!({ "n": "one" })).error.unwrap().code, "bad_input");
    lab.run_as("probe", json!({ "n": 1 }));
    let started = lab.events_of("probe").into_iter().find(|e| e["type"] == "step_started").unwrap();
    assert_eq!(started["probe"], json!(true), "the next call is a probe again");
}

#[test]
fn b04_a_damaged_run_does_not_keep_others_from_being_resumed() {
    let lab = Lab::new("steps: { a: { uses: act.keyed }, w: { needs: [a], wait: { for: 1m } } }");
    let run = lab.run_and_kill_after(json!({}), S);
    let (mut records, _) = lab.recorded(run);
    records.remove(1);
    lab.cut_back(run, records);
    let workflow = lab.workflow();
    let other = lab.life(|engine| async move {
        let submission = Submission { workflow, input: json!({}), id: Some("other".into()) };
        engine.submit(submission).await.unwrap().run
    });
    let (status, damaged) = lab.life(|engine| async move {
        engine.resume_all().await.unwrap();
        (engine.rest(other, Patience::Timers).await.unwrap().status, engine.rest(run, Patience::Timers).await)
    });
    assert_eq!(status, "completed");
    assert!(damaged.is_err());
}

#[test]
fn rule_09_what_ends_while_a_run_is_put_down_can_stop_it_before_anything_follows() {
    let lab =
        Lab::new("steps: { a: { uses: act.keyed }, b: { needs: [a], uses: act.once }, c: { uses: other.keyed } }")
            .script("act.keyed a", [Act::Slow(2 * S)])
            .script("other.keyed c", [Act::SlowFailure(3 * S, "o.no")]);
    let workflow = lab.workflow();
    lab.life(|engine| async move {
        let submission = Submission { workflow, input: json!({}), id: Some("it".into()) };
        engine.submit(submission).await.unwrap();
        time_passes(S).await;
        engine.stop(20 * S).await;
    });
    let report = lab.resume();
    assert_eq!((report.steps["a"].status.as_str(), report.steps["b"].status.as_str()), ("succeeded", "pending"));
}

/// Lets a process begin a run and put it down a second later, while its first step is under way.
fn put_down(lab: &Lab) -> RunKey {
    let workflow = lab.workflow();
    lab.life(|engine| async move {
        let submission = Submission { workflow, input: json!({}), id: Some("it".into()) };
        let run = engine.submit(submission).await.unwrap().run;
        time_passes(S).await;
        engine.stop(20 * S).await;
        run
    })
}

#[test]
fn rule_11_a_run_that_is_cancelled_or_late_begins_nothing_when_it_is_taken_up() {
    let lab = || {
        Lab::new("deadline: 1h\nsteps: { a: { uses: act.keyed }, b: { needs: [a], uses: act.once } }")
            .script("act.keyed a", [Act::Slow(2 * S)])
    };
    let steps = |report: &RunReport| (report.steps["a"].status.clone(), report.steps["b"].status.clone());
    let undone = ("succeeded".to_owned(), "pending".to_owned());
    let cancelled = lab();
    let run = put_down(&cancelled);
    let report = cancelled.life(|engine| async move {
        engine.cancel(run, None, true).await.unwrap();
        engine.rest(run, Patience::None).await.unwrap()
    });
    assert_eq!((report.status.as_str(), steps(&report)), ("cancelled", undone.clone()));
    let late = lab();
    put_down(&late);
    late.pass(3600 * S);
    let report = late.resume();
    assert_eq!((report.error.as_ref().unwrap().code.as_str(), steps(&report)), ("deadline", undone));
    // Who comes in time finds what is next.
    let in_time = lab();
    put_down(&in_time);
    assert_eq!(in_time.resume().status, "completed");
}

#[test]
fn rule_09_a_wait_that_is_over_when_the_run_stops_is_followed_by_nothing() {
    let lab = Lab::new(
        "steps: { a: { wait: { for: 10m } }, b: { needs: [a], uses: act.once }, c: { wait: { signal: go, timeout: 20m } } }",
    );
    put_down(&lab);
    lab.pass(3600 * S);
    let report = lab.resume();
    let status = |step: &str| report.steps[step].status.as_str();
    assert_eq!((status("a"), status("b"), status("c")), ("succeeded", "pending", "failed"));
}

#[test]
fn rule_18_a_signal_goes_to_whoever_has_the_least_time_left() {
    let lab = Lab::new(
        "steps:
          a: { wait: { signal: go } }
          b: { wait: { signal: go, timeout: 20m } }
          c: { wait: { signal: go, timeout: 10m } }
          d: { wait: { signal: go, timeout: 10m } }",
    );
    let workflow = lab.workflow();
    let order = lab.life(|engine| async move {
        let submission = Submission { workflow, input: json!({}), id: Some("it".into()) };
        let run = engine.submit(submission).await.unwrap().run;
        let mut order = Vec::new();
        for n in 0..4 {
            let report = engine.signal(run, None, "go".into(), json!(n)).await.unwrap();
            let came = report.steps.iter().filter(|(_, step)| step.status == "succeeded").map(|(name, _)| name.clone());
            let new: Vec<String> = came.filter(|name| !order.contains(name)).collect();
            order.extend(new);
        }
        order
    });
    assert_eq!(order, ["c", "d", "b", "a"]);
}
