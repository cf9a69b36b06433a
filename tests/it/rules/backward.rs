//! Rules 9 to 13: failure, compensation, cancel, deadline, pivot, park.

use flowrun::engine::{Engine, EngineError, Patience, Submission};
use flowrun::machine::Refusal;
use flowrun::names::RunKey;
use serde_json::json;

use super::S;
use crate::lab::{Act, Lab};

#[test]
fn rule_09_what_was_done_is_undone_in_reverse_order_of_dependency() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          b: { needs: [a], uses: read }
          c: { needs: [b], uses: act.keyed, compensate: { uses: undo } }
          d: { needs: [a], uses: act.keyed, compensate: { uses: undo } }
          e: { needs: [c, d], uses: act.once }
        ",
    )
    .script("act.once e", [Act::Permanent("a.no")]);
    let report = lab.run(json!({}));
    assert_eq!((report.status.as_str(), report.exit_code()), ("failed", 4));
    assert_eq!(report.undone.last().map(String::as_str), Some("a"), "{:?}", report.undone);
    assert_eq!(report.undone.len(), 3);
    let error = report.error.unwrap();
    assert_eq!((error.code.as_str(), error.step.as_deref()), ("a.no", Some("e")));
}

/// The run of the laboratory, in a new life.
fn found(engine: &Engine) -> RunKey {
    engine.find("it").unwrap()
}

#[test]
fn rule_09_nothing_starts_or_is_retried_in_a_drain_and_running_attempts_end_by_themselves() {
    let lab = Lab::new(
        "
        steps:
          bad: { uses: read, with: 1 }
          slow: { uses: act.keyed, compensate: { uses: undo } }
          after_slow: { needs: [slow], uses: act.safe }
          retried: { uses: act.safe, retry: { attempts: 9, delay: 30s, jitter: none } }
          waiting: { wait: { for: 1h } }
        ",
    )
    .script("read bad", [Act::SlowFailure(5 * S, "a.no")])
    .script("act.keyed slow", [Act::Slow(20 * S)])
    .script("act.safe retried", [Act::Retryable("a.down")]);
    let report = lab.run(json!({}));
    let status = |step: &str| report.steps[step].status.clone();
    assert_eq!(status("slow"), "compensated", "it ended by itself and was undone");
    assert_eq!(status("after_slow"), "pending");
    assert_eq!((status("retried").as_str(), report.steps["retried"].attempts), ("failed", 1));
    assert_eq!(report.steps["waiting"].error.as_ref().unwrap().code, "cancelled");
    assert_eq!((report.error.as_ref().unwrap().code.as_str(), report.exit_code()), ("a.no", 4));
    assert_eq!(lab.calls().last().unwrap().at_ms, 20_000);
}

#[test]
fn rule_09_running_attempts_get_a_cancellation_token() {
    let lab = Lab::new("steps: { bad: { uses: read }, long: { uses: act.keyed, timeout: 1h } }")
        .script("read bad", [Act::Permanent("a.no")])
        .script("act.keyed long", [Act::UntilCancelled]);
    let report = lab.run(json!({}));
    assert_eq!(report.steps["long"].status, "succeeded");
    let end = lab.events().pop().unwrap();
    assert_eq!(end["at"], "2027-01-15T08:00:00.000Z", "it did not take its hour");
}

#[test]
fn rule_09_d11_two_branches_fail_in_the_same_instant_and_the_first_cause_is_kept() {
    let lab = Lab::new("steps: { a: { uses: read }, b: { uses: act.safe }, join: { needs: [a, b], uses: read } }")
        .script("read a", [Act::SlowFailure(S, "a.no")])
        .script("act.safe b", [Act::SlowFailure(S, "a.down")]);
    let report = lab.run(json!({}));
    let history = lab.history();
    let first = history.iter().find(|e| e.starts_with("step_failed")).unwrap();
    let error = report.error.unwrap();
    assert_eq!(*first, format!("step_failed {}", error.step.unwrap()));
    assert_eq!(history.iter().filter(|e| e.starts_with("step_failed")).count(), 2, "all causes are recorded");
    assert_eq!(history.iter().filter(|e| e.starts_with("drain_started")).count(), 1);
}

#[test]
fn rule_09_order_is_kept_through_steps_that_have_nothing_to_undo_and_independent_ones_go_together() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          b: { needs: [a], uses: read }
          c: { needs: [b], uses: act.keyed, compensate: { uses: undo } }
          x: { needs: [b], uses: act.keyed, compensate: { uses: undo } }
          bad: { needs: [c, x], uses: act.once }
        ",
    )
    .script("act.once bad", [Act::Permanent("a.no")])
    .script("undo c", [Act::Slow(10 * S)])
    .script("undo x", [Act::Slow(10 * S)]);
    lab.run(json!({}));
    let undos: Vec<(String, i64)> =
        lab.calls().into_iter().filter(|c| c.what.starts_with("undo")).map(|c| (c.what, c.at_ms)).collect();
    assert_eq!(undos.iter().map(|u| u.1).collect::<Vec<_>>(), [0, 0, 10_000]);
    assert_eq!(undos[2].0, "undo a");
}

#[test]
fn rule_09_d12_a_failed_undo_does_not_stop_the_others() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          b: { needs: [a], uses: act.keyed, compensate: { uses: undo, retry: { attempts: 2, delay: 1s } } }
          bad: { needs: [b], uses: read }
        ",
    )
    .script("read bad", [Act::Permanent("a.no")])
    .script("undo b", [Act::Retryable("a.down")]);
    let report = lab.run(json!({}));
    assert_eq!(lab.called()[3..], ["undo b", "undo b", "undo a"]);
    assert_eq!(
        (report.steps["b"].status.as_str(), report.steps["a"].status.as_str()),
        ("compensation_failed", "compensated")
    );
    assert_eq!((report.exit_code(), report.owed.len()), (5, 1));
}

#[test]
fn rule_09_an_undo_sees_the_recorded_input_and_output() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, with: { n: 1 }, compensate: { uses: undo, with: { out: '{{ output.id }}', key: '{{ key }}', order: '{{ input.order }}' } } }
          bad: { needs: [a], uses: read }
        ",
    )
    .script("act.keyed a", [Act::Return(json!({ "id": 9 }))])
    .script("read bad", [Act::Permanent("a.no")]);
    lab.run(json!({ "order": "O-1" }));
    let calls = lab.calls();
    assert_eq!(calls[2].input, json!({ "out": 9, "key": calls[0].key, "order": "O-1" }));
}

#[test]
fn rule_10_compensate_tries_again_what_is_left() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          b: { needs: [a], uses: act.keyed, compensate: { uses: undo } }
          bad: { needs: [b], uses: read }
        finally: { audit: { uses: act.safe } }
        ",
    )
    .script("read bad", [Act::Permanent("a.no")])
    .script("undo b", [Act::Permanent("a.no"), Act::Return(json!(null))]);
    assert_eq!(lab.run(json!({})).exit_code(), 5);
    let report = lab.life(|engine| async move {
        engine.compensate(found(&engine)).await.unwrap();
        engine.rest(found(&engine), Patience::Timers).await.unwrap()
    });
    assert_eq!(report.exit_code(), 4);
    assert_eq!(lab.called().iter().filter(|c| *c == "undo a").count(), 1, "what was undone is not undone again");
    assert_eq!(lab.called().iter().filter(|c| *c == "act.safe audit").count(), 1, "finally never runs again");
}

#[test]
fn rule_10_a_repair_by_hand_is_recorded() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          bad: { needs: [a], uses: read }
        ",
    )
    .script("read bad", [Act::Permanent("a.no")])
    .script("undo a", [Act::Permanent("a.no")]);
    assert_eq!(lab.run(json!({})).exit_code(), 5);
    let report = lab.life(|engine| async move {
        engine.mark_done(found(&engine), "a".into(), None, "called the bank".into()).await.unwrap()
    });
    assert_eq!((report.exit_code(), report.owed.len()), (4, 0));
    let last = lab.events().pop().unwrap();
    assert_eq!((last["type"].as_str(), last["reason"].as_str()), (Some("marked_done"), Some("called the bank")));
    let again = lab.life(|engine| async move { engine.compensate(found(&engine)).await.unwrap_err() });
    assert!(matches!(again, EngineError::Refused(Refusal::Conflict { .. })), "{again}");
}

#[test]
fn rule_11_cancel_drains_and_undoes() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          b: { needs: [a], wait: { signal: go } }
        ",
    );
    lab.run(json!({}));
    let report = lab.life(|engine| async move {
        engine.cancel(found(&engine), Some("customer called".into()), true).await.unwrap();
        engine.rest(found(&engine), Patience::Timers).await.unwrap()
    });
    assert_eq!((report.status.as_str(), report.exit_code()), ("cancelled", 6));
    assert_eq!(report.undone, ["a"]);
    let again = lab.life(|engine| async move { engine.cancel(found(&engine), None, true).await.unwrap_err() });
    assert!(matches!(again, EngineError::Refused(Refusal::Final { .. })), "{again}");
}

#[test]
fn rule_11_cancel_without_compensation_leaves_what_is_owed_and_says_so() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          b: { needs: [a], wait: { signal: go } }
        ",
    );
    lab.run(json!({}));
    let report = lab.life(|engine| async move {
        engine.cancel(found(&engine), None, false).await.unwrap();
        engine.rest(found(&engine), Patience::Timers).await.unwrap()
    });
    assert_eq!((report.status.as_str(), report.exit_code()), ("cancelled", 5));
    assert_eq!(report.owed[0].step, "a");
}

#[test]
fn rule_11_a_deadline_runs_while_waiting_and_while_down() {
    let lab = Lab::new(
        "
        deadline: 10m
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          b: { needs: [a], wait: { for: 1h } }
        ",
    );
    lab.run_and_kill_after(json!({}), 60 * S);
    let report = lab.resume();
    let error = report.error.as_ref().unwrap();
    assert_eq!((report.status.as_str(), error.code.as_str(), report.exit_code()), ("failed", "deadline", 4));
    let drained = lab.events().into_iter().find(|e| e["type"] == "drain_started").unwrap();
    assert_eq!(drained["at"], "2027-01-15T08:10:00.000Z");
}

#[test]
fn rule_11_a_deadline_does_not_run_while_parked() {
    let lab = Lab::new(
        "
        deadline: 10m
        steps:
          a: { uses: act.keyed, on_error: park }
          b: { needs: [a], wait: { for: 8m } }
        ",
    )
    .script("act.keyed a", [Act::Permanent("a.no"), Act::Return(json!(1))]);
    assert_eq!(lab.run(json!({})).status, "parked");
    lab.pass(3600 * S);
    let report = lab.life(|engine| async move {
        engine.retry(found(&engine), None).await.unwrap();
        engine.rest(found(&engine), Patience::Timers).await.unwrap()
    });
    assert_eq!(report.status, "completed", "{:?}", report.error);
}

#[test]
fn rule_11_d05_once_a_drain_has_begun_cancel_and_deadline_change_nothing() {
    let lab = Lab::new(
        "
        deadline: 20s
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          bad: { needs: [a], uses: read }
        ",
    )
    .script("read bad", [Act::Permanent("a.no")])
    .script("undo a", [Act::Slow(60 * S)]);
    lab.run_and_kill_after(json!({}), 5 * S);
    let report = lab.life(|engine| async move {
        engine.resume_all().await.unwrap();
        engine.cancel(found(&engine), None, true).await.unwrap();
        engine.rest(found(&engine), Patience::Timers).await.unwrap()
    });
    assert_eq!((report.status.as_str(), report.exit_code()), ("failed", 4));
    assert_eq!(report.error.unwrap().code, "a.no");
}

const PIVOT: &str = "
    steps:
      a: { uses: act.keyed, compensate: { uses: undo } }
      p: { needs: [a], uses: act.keyed, pivot: true }
      b: { needs: [p], uses: read }
    ";

#[test]
fn rule_05_an_item_that_the_drain_left_unknown_is_owed_when_the_run_completes() {
    let lab = Lab::new(
        "
        deadline: 4s
        steps:
          p: { on_error: continue, pivot: true, foreach: '[0, 1]', concurrency: 1, uses: act.once, timeout: 10s, compensate: { uses: undo } }
          after: { needs: [p], uses: read }
        ",
    )
    .script("act.once p[0]", [Act::Return(json!(1))])
    .script("act.once p[1]", [Act::Hang]);
    assert_eq!(lab.run(json!({})).parked.unwrap().code, "pivot", "one item is past the point of no return");
    let report = lab.life(|engine| async move {
        let run = engine.find("it").unwrap();
        engine.retry(run, None).await.unwrap();
        engine.rest(run, Patience::Timers).await.unwrap()
    });
    assert_eq!((report.status.as_str(), report.exit_code()), ("completed", 5), "nobody knows what the other item did");
}

#[test]
fn rule_12_behind_the_pivot_a_failure_parks_and_nothing_is_undone() {
    let lab = Lab::new(PIVOT).script("read b", [Act::Permanent("a.no"), Act::Return(json!(1))]);
    let report = lab.run(json!({}));
    assert_eq!((report.status.as_str(), report.exit_code()), ("parked", 7));
    assert_eq!(report.parked.unwrap().code, "pivot");
    assert!(report.undone.is_empty());
    let refused = lab.life(|engine| async move { engine.cancel(found(&engine), None, true).await.unwrap_err() });
    assert!(matches!(refused, EngineError::Refused(Refusal::Pivot { .. })), "{refused}");
    let report = lab.life(|engine| async move {
        engine.retry(found(&engine), None).await.unwrap();
        engine.rest(found(&engine), Patience::Timers).await.unwrap()
    });
    assert_eq!(report.status, "completed", "a retry goes on from there");
    assert!(report.error.is_none());
}

#[test]
fn rule_12_a_parked_run_behind_its_pivot_can_be_given_up() {
    let lab = Lab::new(PIVOT).script("read b", [Act::Permanent("a.no")]);
    lab.run(json!({}));
    let report = lab.life(|engine| async move {
        engine.cancel(found(&engine), None, false).await.unwrap();
        engine.rest(found(&engine), Patience::Timers).await.unwrap()
    });
    assert_eq!((report.status.as_str(), report.exit_code()), ("cancelled", 5));
    assert!(report.undone.is_empty());
}

#[test]
fn rule_12_a_pivot_that_shows_in_a_drain_counts_too() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          p: { needs: [a], uses: act.keyed, pivot: true }
          bad: { needs: [a], uses: read }
        ",
    )
    .script("act.keyed p", [Act::Slow(10 * S)])
    .script("read bad", [Act::Permanent("a.no")]);
    assert_eq!(lab.run(json!({})).parked.unwrap().code, "pivot");

    let unknown = Lab::new(PIVOT).script("act.keyed p", [Act::Unknown("a.lost")]);
    assert_eq!(unknown.run(json!({})).parked.unwrap().code, "pivot", "so does one that stays unknown");

    let failed = Lab::new(PIVOT).script("act.keyed p", [Act::Permanent("a.no")]);
    assert_eq!(failed.run(json!({})).exit_code(), 4, "one that failed does not");
}

#[test]
fn rule_12_an_unknown_later_step_is_undone_before_its_own_fallback() {
    let lab = Lab::new(
        "
        steps:
          p: { uses: act.keyed, pivot: true }
          b: { needs: [p], uses: act.keyed, compensate: { uses: undo }, fallback: [{ name: other, uses: other.keyed }] }
        ",
    )
    .script("act.keyed b", [Act::Unknown("a.lost")]);
    let report = lab.run(json!({}));
    assert_eq!(report.status, "completed");
    assert_eq!(lab.called(), ["act.keyed p", "act.keyed b", "undo b", "other.keyed b"]);
}

#[test]
fn rule_13_other_branches_go_on_and_then_the_run_is_parked() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, on_error: park }
          b: { needs: [a], uses: read }
          c: { uses: act.safe }
          d: { needs: [c], uses: act.safe }
        ",
    )
    .script("act.keyed a", [Act::Permanent("a.no"), Act::Return(json!(1))])
    .script("act.safe c", [Act::Slow(10 * S)]);
    let report = lab.run(json!({}));
    let statuses: Vec<&str> = report.steps.values().map(|s| s.status.as_str()).collect();
    assert_eq!((report.status.as_str(), statuses), ("parked", vec!["failed", "pending", "succeeded", "succeeded"]));
    let report = lab.life(|engine| async move {
        engine.retry(found(&engine), Some("a".into())).await.unwrap();
        engine.rest(found(&engine), Patience::Timers).await.unwrap()
    });
    assert_eq!(report.status, "completed");
    assert_eq!(
        lab.called().iter().filter(|c| c.starts_with("act.safe")).count(),
        2,
        "succeeded steps are not repeated"
    );
}

#[test]
fn rule_13_retry_is_refused_on_what_is_not_parked_and_from_names_one_step() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, on_error: park }
          b: { uses: act.safe, on_error: park }
        ",
    )
    .script("act.keyed a", [Act::Permanent("a.no"), Act::Return(json!(1))])
    .script("act.safe b", [Act::Permanent("a.no"), Act::Return(json!(1))]);
    lab.run(json!({}));
    let (unknown, report) = lab.life(|engine| async move {
        let run = found(&engine);
        let unknown = engine.retry(run, Some("nope".into())).await.unwrap_err();
        engine.retry(run, Some("a".into())).await.unwrap();
        (unknown, engine.rest(run, Patience::Timers).await.unwrap())
    });
    assert!(matches!(unknown, EngineError::Refused(Refusal::Unknown { .. })), "{unknown}");
    assert_eq!((report.status.as_str(), lab.calls().len()), ("parked", 3), "only `a` was tried again");
    let (report, refused) = lab.life(|engine| async move {
        let run = found(&engine);
        engine.retry(run, None).await.unwrap();
        let report = engine.rest(run, Patience::Timers).await.unwrap();
        (report, engine.retry(run, None).await.unwrap_err())
    });
    assert_eq!(report.status, "completed");
    assert!(matches!(refused, EngineError::Refused(Refusal::Final { .. })), "{refused}");
}

#[test]
fn rule_13_a_retry_goes_on_with_the_member_that_may_have_acted_and_with_no_other() {
    let lab = Lab::new(
        "
        services: { gate: { concurrency: 5 } }
        steps:
          s:
            uses: act.keyed
            service: gate
            on_error: park
            fallback: [{ name: other, uses: other.keyed, service: gate, with: '{{ error.code }}' }]
        ",
    )
    .script("act.keyed s", [Act::Permanent("a.no")])
    .script("other.keyed s", [Act::Unknown("a.lost"), Act::Return(json!(1))]);
    assert_eq!(lab.run(json!({})).status, "parked");
    let report = retried(&lab);
    assert_eq!(lab.called(), ["act.keyed s", "other.keyed s", "other.keyed s"]);
    let calls = lab.calls();
    assert_eq!((&calls[1].key, &calls[1].input), (&calls[2].key, &calls[2].input), "the same call once more");
    assert_eq!(report.status, "completed");
}

fn retried(lab: &Lab) -> flowrun::engine::report::RunReport {
    lab.life(|engine| async move {
        engine.retry(found(&engine), None).await.unwrap();
        engine.rest(found(&engine), Patience::Timers).await.unwrap()
    })
}

#[test]
fn rule_10_compensate_of_a_completed_run_leaves_what_its_steps_did() {
    let lab = Lab::new(
        "steps: { each: { foreach: '[0, 1, 2]', uses: act.keyed, compensate: { uses: undo }, on_error: continue } }",
    )
    .script("act.keyed each[1]", [Act::Unknown("a.lost")])
    .script("undo each[1]", [Act::Permanent("a.no"), Act::Return(json!(null))]);
    let report = lab.run(json!({}));
    assert_eq!((report.status.as_str(), report.exit_code()), ("completed", 5));
    let report = lab.life(|engine| async move {
        engine.compensate(found(&engine)).await.unwrap();
        engine.rest(found(&engine), Patience::Timers).await.unwrap()
    });
    assert_eq!(lab.called()[3..], ["undo each[1]", "undo each[1]"]);
    assert_eq!((report.status.as_str(), report.exit_code()), ("completed", 0));
}

#[test]
fn rule_13_what_only_the_drain_ended_starts_afresh_even_if_it_says_continue() {
    let lab = Lab::new(
        "
        steps:
          p: { uses: act.keyed, pivot: true }
          w: { needs: [p], wait: { signal: go }, on_error: continue }
          each: { needs: [p], foreach: '[0, 1]', concurrency: 1, uses: act.safe, on_error: continue }
          lost: { needs: [p], uses: other.keyed, timeout: 5s, compensate: { uses: undo }, on_error: continue }
          bad: { needs: [p], uses: read }
        output: { w: \"{{ steps.w.output | default('none') }}\" }
        ",
    )
    .script("read bad", [Act::SlowFailure(S, "a.no"), Act::Return(json!(1))])
    .script("other.keyed lost", [Act::Hang, Act::Return(json!(1))])
    .script("act.safe each[0]", [Act::Slow(5 * S)]);
    assert_eq!(lab.run(json!({})).parked.unwrap().code, "pivot");
    let report = lab.life(|engine| async move {
        let run = found(&engine);
        engine.retry(run, None).await.unwrap();
        engine.signal(run, None, "go".into(), json!("went")).await.unwrap();
        engine.rest(run, Patience::Timers).await.unwrap()
    });
    assert_eq!(report.output, Some(json!({ "w": "went" })), "the wait begins again");
    assert!(lab.called().contains(&"act.safe each[1]".to_owned()), "the item that is left is done");
    assert_eq!(report.steps["lost"].status, "succeeded", "nobody passed over it");
}

#[test]
fn rule_12_compensate_does_not_roll_a_pivot_back() {
    let lab = Lab::new(PIVOT).script("read b", [Act::Permanent("a.no")]);
    lab.run(json!({}));
    let refused = lab.life(|engine| async move {
        engine.cancel(found(&engine), None, false).await.unwrap();
        engine.rest(found(&engine), Patience::Timers).await.unwrap();
        engine.compensate(found(&engine)).await.unwrap_err()
    });
    assert!(matches!(refused, EngineError::Refused(Refusal::Pivot { .. })), "{refused}");
    assert!(!lab.called().contains(&"undo a".to_owned()));
}

#[test]
fn rule_11_a_deadline_has_no_say_in_a_later_compensate() {
    let lab = Lab::new(
        "
        deadline: 1m
        steps: { s: { uses: act.keyed, compensate: { uses: undo }, on_error: continue } }
        ",
    )
    .script("act.keyed s", [Act::Unknown("a.lost")])
    .script("undo s", [Act::Permanent("a.no"), Act::Slow(10 * S)]);
    assert_eq!(lab.run(json!({})).exit_code(), 5);
    lab.life(|engine| async move {
        engine.compensate(found(&engine)).await.unwrap();
        crate::lab::time_passes(S).await;
    });
    lab.pass(120 * S);
    for _ in 0..3 {
        lab.life(|engine| async move {
            engine.resume(found(&engine)).await.unwrap();
            crate::lab::time_passes(S).await;
        });
    }
    assert_eq!(retried(&lab).exit_code(), 0);
}

#[test]
fn rule_12_a_wait_can_be_the_pivot() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          p: { needs: [a], wait: { for: 1m }, pivot: true }
          b: { needs: [p], uses: read }
        ",
    )
    .script("read b", [Act::Permanent("a.no")]);
    assert_eq!(lab.run(json!({})).parked.unwrap().code, "pivot");
}

#[test]
fn rule_11_cancel_changes_nothing_in_a_drain_that_is_parked_for_another_reason() {
    let lab = Lab::new("steps: { slow: { uses: act.keyed, compensate: { uses: undo } }, bad: { uses: read } }")
        .script("act.keyed slow", [Act::Slow(100 * S)])
        .script("read bad", [Act::Permanent("a.no")]);
    lab.run_and_kill_after(json!({}), 5 * S);
    lab.without_handlers(|| {
        lab.life(|engine| async move {
            engine.resume_all().await.unwrap();
            engine.cancel(found(&engine), None, true).await.unwrap();
            assert_eq!(engine.rest(found(&engine), Patience::None).await.unwrap().status, "parked");
        });
    });
    let report = lab.resume();
    assert_eq!((report.status.as_str(), report.exit_code()), ("failed", 4));
}

#[test]
fn rule_10_a_compensate_that_was_cut_off_goes_on_when_it_is_asked_for_again() {
    let lab =
        Lab::new("steps: { a: { uses: act.keyed, compensate: { uses: undo } }, bad: { needs: [a], uses: read } }")
            .script("read bad", [Act::Permanent("a.no")])
            .script("undo a", [Act::Permanent("a.no"), Act::Slow(10 * S), Act::Return(json!(null))]);
    assert_eq!(lab.run(json!({})).exit_code(), 5);
    lab.life(|engine| async move {
        engine.compensate(found(&engine)).await.unwrap();
        crate::lab::time_passes(S).await;
    });
    let report = lab.life(|engine| async move {
        engine.compensate(found(&engine)).await.unwrap();
        engine.rest(found(&engine), Patience::Timers).await.unwrap()
    });
    assert_eq!(report.exit_code(), 4);
}

#[test]
fn rule_01_an_undo_before_a_fallback_counts_even_after_a_retry() {
    let lab = Lab::new(
        "
        steps:
          s:
            uses: act.keyed
            compensate: { uses: undo }
            on_error: park
            fallback: [{ name: other, uses: other.keyed }]
        ",
    )
    .script("act.keyed s", [Act::Unknown("a.lost"), Act::Return(json!(1))])
    .script("other.keyed s", [Act::Permanent("a.no")]);
    assert_eq!(lab.run(json!({})).status, "parked");
    let report = retried(&lab);
    assert_eq!(report.status, "completed");
    assert_eq!(report.compensation, flowrun::machine::event::Compensation::Complete);
}

#[test]
fn rule_20_a_run_that_is_parked_for_want_of_a_handler_is_not_retried_without_it() {
    let lab = Lab::new("steps: { a: { wait: { for: 1m } }, b: { needs: [a], uses: act.keyed } }");
    lab.run_and_kill_after(json!({}), 10 * S);
    let refused = lab
        .without_handlers(|| lab.life(|engine| async move { engine.retry(found(&engine), None).await.unwrap_err() }));
    assert!(refused.to_string().contains("act.keyed"), "{refused}");
    assert_eq!(lab.resume().status, "completed");
}

#[test]
fn rule_11_a_deadline_goes_on_after_a_retry_behind_the_pivot() {
    let lab = Lab::new(
        "
        deadline: 10m
        steps:
          p: { uses: act.keyed, pivot: true }
          b: { needs: [p], uses: read }
          c: { needs: [b], wait: { for: 1h } }
        ",
    )
    .script("read b", [Act::Permanent("a.no"), Act::Return(json!(1))]);
    lab.run(json!({}));
    lab.pass(3600 * S);
    assert_eq!(retried(&lab).parked.unwrap().code, "pivot");
    let last = lab.events().into_iter().rfind(|e| e["type"] == "drain_started").unwrap();
    assert_eq!(last["at"], "2027-01-15T09:10:00.000Z", "the hour in which it was parked does not count");
    assert_eq!(retried(&lab).status, "completed", "a deadline that has passed once has no more to say");
}

#[test]
fn rule_09_an_undo_that_waits_for_a_place_when_a_drain_begins_has_its_turn_later() {
    let lab = Lab::new(
        "
        services: { gate: { concurrency: 1, breaker: { failures: 1, within: 60s, cooldown: 30s } } }
        steps:
          busy: { uses: act.safe, service: gate, timeout: 10s }
          s: { uses: act.keyed, compensate: { uses: undo, service: gate }, on_error: continue }
          bad: { uses: read }
        ",
    )
    .script("act.safe busy", [Act::Hang])
    .script("act.keyed s", [Act::Unknown("a.lost")])
    .script("read bad", [Act::SlowFailure(5 * S, "a.no")]);
    let workflow = lab.workflow();
    let status = lab.life(|engine| async move {
        let submission = Submission { workflow, input: json!({}), id: Some("it".into()) };
        let run = engine.submit(submission).await.unwrap().run;
        let rest = tokio::time::timeout(3600 * S, engine.rest(run, Patience::Timers));
        rest.await.expect("it does not hang").unwrap().status
    });
    assert_eq!(status, "failed");
    assert_eq!(lab.history().iter().filter(|e| *e == "compensation_succeeded s").count(), 1);
}

#[test]
fn rule_09_an_attempt_that_fails_while_the_run_stops_is_not_retried() {
    let lab = Lab::new(
        "
        steps:
          bad: { uses: read }
          slow: { uses: act.safe, retry: { attempts: 3, delay: 1s } }
        ",
    )
    .script("read bad", [Act::SlowFailure(S, "a.no")])
    .script("act.safe slow", [Act::Hang]);
    let workflow = lab.workflow();
    let status = lab.life(|engine| async move {
        let submission = Submission { workflow, input: json!({}), id: Some("it".into()) };
        let run = engine.submit(submission).await.unwrap().run;
        let rest = tokio::time::timeout(3600 * S, engine.rest(run, Patience::Timers));
        rest.await.expect("it does not hang").unwrap().status
    });
    assert_eq!(status, "failed");
    assert_eq!(lab.called(), ["read bad", "act.safe slow"]);
}

#[test]
fn rule_09_an_item_is_undone_once() {
    let lab = Lab::new(
        "
        steps:
          each: { foreach: '[0, 1]', uses: act.keyed, compensate: { uses: undo } }
          bad: { needs: [each], uses: read }
        ",
    )
    .script("read bad", [Act::Permanent("a.no")])
    .script("undo each[1]", [Act::Slow(5 * S)]);
    lab.run(json!({}));
    let undos = lab.called().iter().filter(|what| what.starts_with("undo")).count();
    assert_eq!(undos, 2);
}

#[test]
fn rule_12_a_pivot_that_a_retry_shows_to_have_failed_is_none() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          p: { needs: [a], pivot: true, uses: act.keyed, confirm: { uses: lookup } }
        ",
    )
    .script("act.keyed p", [Act::Unknown("a.lost")])
    .script("lookup p", [Act::CannotSay, Act::NotDone]);
    assert_eq!(lab.run(json!({})).parked.unwrap().code, "pivot");
    let report = retried(&lab);
    assert_eq!((report.status.as_str(), report.undone.as_slice()), ("failed", ["a".to_owned()].as_slice()));
}

#[test]
fn rule_17_a_run_that_was_cancelled_after_three_deaths_is_not_parked_by_an_orderly_stop() {
    let lab = Lab::new("steps: { s: { uses: act.keyed, compensate: { uses: undo } } }")
        .script("act.keyed s", [Act::Slow(100 * S)])
        .script("undo s", [Act::Slow(10 * S)]);
    lab.run_and_kill_after(json!({}), S);
    for _ in 0..2 {
        lab.resume_and_kill_after(S);
    }
    assert_eq!(lab.resume().status, "parked");
    lab.life(|engine| async move {
        engine.cancel(found(&engine), None, true).await.unwrap();
        engine.stop(S).await;
    });
    let report = lab.resume();
    assert_eq!((report.status.as_str(), report.exit_code()), ("cancelled", 6));
}

#[test]
fn d12_an_undo_that_hangs_panics_or_fails_is_given_up_and_the_others_are_made() {
    for act in [Act::Hang, Act::Panic, Act::Permanent("a.no"), Act::Retryable("a.down"), Act::Unknown("a.lost")] {
        let lab = Lab::new(
            "
            steps:
              a: { uses: act.keyed, compensate: { uses: undo } }
              b: { needs: [a], uses: act.keyed, compensate: { uses: undo, timeout: 5s, retry: { attempts: 2, delay: 1s } } }
              bad: { needs: [b], uses: read }
            ",
        )
        .script("read bad", [Act::Permanent("a.no")])
        .script("undo b", [act.clone()]);
        let report = lab.run(json!({}));
        let tries = lab.called().iter().filter(|what| *what == "undo b").count();
        assert_eq!(tries, if matches!(act, Act::Permanent(_)) { 1 } else { 2 }, "{act:?}");
        assert_eq!((report.exit_code(), report.undone.as_slice()), (5, ["a".to_owned()].as_slice()), "{act:?}");
    }
}

#[test]
fn rule_09_an_undo_of_what_a_confirm_found_done_sees_its_output_and_no_error() {
    let lab = Lab::new(
        "
        steps:
          a:
            uses: act.keyed
            confirm: { uses: lookup }
            compensate: { uses: undo, with: \"{{ output.id }} {{ error.code | default('none') }}\" }
          bad: { needs: [a], uses: read }
        ",
    )
    .script("act.keyed a", [Act::Unknown("a.lost")])
    .script("lookup a", [Act::Done(json!({ "id": 5 }))])
    .script("read bad", [Act::Permanent("a.no")]);
    lab.run(json!({}));
    assert_eq!(lab.calls().last().unwrap().input, json!("5 none"));
}
