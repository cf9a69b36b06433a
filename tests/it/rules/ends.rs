//! Rules 19 and 20: foreach, and how runs end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flowrun::engine::Patience;
use serde_json::json;

use super::S;
use crate::lab::{Act, Lab};

#[test]
fn rule_19_items_run_with_bounded_concurrency_and_keep_their_order() {
    let lab = Lab::new(
        "
        steps:
          each: { foreach: input.list, as: line, concurrency: 2, uses: act.keyed, with: { v: '{{ line.v }}', i: '{{ index }}' } }
        output: { all: '{{ steps.each.output }}' }
        ",
    )
    .script("act.keyed each[0]", [Act::Slow(10 * S)]);
    let report = lab.run(json!({ "list": [{ "v": "a" }, { "v": "b" }, { "v": "c" }] }));
    let all = json!([{ "v": "a", "i": 0 }, { "v": "b", "i": 1 }, { "v": "c", "i": 2 }]);
    assert_eq!(report.output, Some(json!({ "all": all })));
    assert_eq!(lab.calls().iter().map(|c| c.at_ms).collect::<Vec<_>>(), [0, 0, 0]);
    assert_eq!(report.steps["each"].attempts, 3);
}

#[test]
fn rule_19_an_empty_list_succeeds_and_what_is_no_list_fails() {
    let lab =
        Lab::new("steps: { each: { foreach: input, uses: act.keyed } }\noutput: { all: '{{ steps.each.output }}' }");
    assert_eq!(lab.run(json!([])).output, Some(json!({ "all": [] })));
    assert_eq!(lab.run_as("other", json!("text")).error.unwrap().code, "template");
}

#[test]
fn rule_19_the_first_item_that_fails_for_good_stops_new_items_and_all_are_undone() {
    let lab = Lab::new(
        "
        steps:
          each: { foreach: '[0, 1, 2, 3, 4]', concurrency: 2, uses: act.keyed, compensate: { uses: undo, with: '{{ item }}' } }
        ",
    )
    .script("act.keyed each[0]", [Act::Slow(10 * S)])
    .script("act.keyed each[1]", [Act::SlowFailure(S, "a.no")]);
    let report = lab.run(json!({}));
    let error = report.error.unwrap();
    assert_eq!((error.item, error.code.as_str()), (Some(1), "a.no"));
    assert!(error.message.contains("item 1"), "{}", error.message);
    assert_eq!(lab.called(), ["act.keyed each[0]", "act.keyed each[1]", "undo each[0]"]);
    assert_eq!(report.undone, ["each[0]"]);
}

#[test]
fn rule_19_with_continue_all_items_run_and_a_failed_one_is_null() {
    let lab = Lab::new(
        "
        steps:
          each: { foreach: '[0, 1, 2]', uses: act.keyed, with: {}, on_error: continue }
        output: { all: '{{ steps.each.output }}' }
        ",
    )
    .script("act.keyed each[1]", [Act::Permanent("a.no")]);
    assert_eq!(lab.run(json!({})).output, Some(json!({ "all": [{}, null, {}] })));
}

#[test]
fn rule_19_when_is_decided_once_before_the_items() {
    let lab = Lab::new("steps: { each: { when: input.go, foreach: 'input.list', uses: act.keyed } }");
    assert_eq!(lab.run(json!({ "go": false })).steps["each"].status, "skipped");
    assert!(lab.calls().is_empty());
}

#[test]
fn rule_19_items_that_are_left_are_done_after_a_crash() {
    let lab =
        Lab::new("steps: { each: { foreach: '[0, 1, 2, 3]', concurrency: 1, uses: act.keyed, with: '{{ item }}' } }")
            .script("act.keyed each[2]", [Act::Slow(10 * S)]);
    lab.run_and_kill_after(json!({}), 5 * S);
    assert_eq!(lab.resume().status, "completed");
    assert_eq!(lab.called().iter().map(|c| c.chars().rev().nth(1).unwrap()).collect::<String>(), "01223");
}

#[test]
fn rule_19_items_are_retried_one_by_one_after_a_park() {
    let lab = Lab::new("steps: { each: { foreach: '[0, 1, 2]', uses: act.keyed, on_error: park } }")
        .script("act.keyed each[1]", [Act::Permanent("a.no"), Act::Return(json!("again"))]);
    assert_eq!(lab.run(json!({})).status, "parked");
    let report = lab.life(|engine| async move {
        let run = engine.find("it").unwrap();
        engine.retry(run, None).await.unwrap();
        engine.rest(run, Patience::Timers).await.unwrap()
    });
    assert_eq!(report.status, "completed");
    assert_eq!(lab.calls().len(), 4);
}

#[test]
fn rule_19_too_many_items_are_refused_at_the_limit() {
    for (items, good) in [(3, true), (4, false)] {
        let mut lab = Lab::new("steps: { each: { foreach: input, uses: act.keyed } }");
        lab.limits.items = 3;
        let report = lab.run(json!(vec![0; items]));
        assert_eq!(report.status == "completed", good);
        if !good {
            assert_eq!(report.error.unwrap().code, "limit");
        }
    }
}

#[test]
fn rule_20_a_failing_output_is_a_failure_of_the_run() {
    let lab = Lab::new(
        "
        steps: { a: { uses: act.keyed, compensate: { uses: undo } } }
        output: { x: '{{ input.missing }}' }
        ",
    );
    let report = lab.run(json!({}));
    assert_eq!((report.status.as_str(), report.exit_code()), ("failed", 4));
    assert_eq!(report.error.unwrap().code, "template");
}

#[test]
fn rule_20_there_may_be_more_finally_steps_than_steps() {
    let lab = Lab::new("steps: { a: { uses: read } }\nfinally: { x: { uses: act.safe }, y: { uses: act.safe } }");
    assert_eq!(lab.run(json!({})).status, "completed");
    assert_eq!(lab.called(), ["read a", "act.safe x", "act.safe y"]);
}

#[test]
fn rule_20_finally_runs_in_file_order_sees_the_end_and_changes_nothing() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          bad: { needs: [a], uses: read }
        finally:
          first: { uses: act.safe, with: { s: '{{ run.status }}', c: '{{ run.compensation }}', e: '{{ run.error.code }}' }, retry: { attempts: 2, delay: 1s } }
          second: { uses: act.safe, with: '{{ run.error | default(none) }}' }
        ",
    )
    .script("read bad", [Act::Permanent("a.no")])
    .script("act.safe first", [Act::Retryable("a.down")]);
    let report = lab.run(json!({}));
    assert_eq!(lab.called()[3..], ["act.safe first", "act.safe first", "act.safe second"]);
    assert_eq!(lab.calls()[3].input, json!({ "s": "failed", "c": "complete", "e": "a.no" }));
    assert_eq!(report.exit_code(), 4);
    assert!(lab.history().contains(&"finally_failed first".to_owned()), "its failure is recorded");
}

#[test]
fn rule_20_finally_runs_after_a_crash_and_under_neither_cancel_nor_deadline() {
    let lab = Lab::new(
        "
        deadline: 1m
        steps: { a: { uses: act.keyed } }
        finally: { audit: { uses: act.safe, with: \"{{ run.error | default('none') }}\" } }
        ",
    )
    .script("act.safe audit", [Act::Slow(120 * S)]);
    lab.run_and_kill_after(json!({}), 10 * S);
    let report = lab.life(|engine| async move {
        engine.resume_all().await.unwrap();
        let run = engine.find("it").unwrap();
        engine.cancel(run, None, true).await.unwrap();
        engine.rest(run, Patience::Timers).await.unwrap()
    });
    assert_eq!(report.status, "completed");
    assert_eq!(lab.called(), ["act.keyed a", "act.safe audit", "act.safe audit"]);
    assert_eq!(lab.calls()[1].input, json!("none"));
}

#[test]
fn rule_20_a_missing_handler_parks_the_run_until_it_is_back() {
    let lab = Lab::new("steps: { a: { wait: { for: 1m } }, b: { needs: [a], uses: act.keyed } }");
    lab.run_and_kill_after(json!({}), 10 * S);
    let report = lab.without_handlers(|| lab.resume());
    let parked = report.parked.unwrap();
    assert_eq!(parked.code, "handler_missing");
    assert!(parked.message.contains("act.keyed"), "{}", parked.message);
    assert_eq!(lab.resume().status, "completed");
}

/// FLOWRUN_FANOUT says how many items there are.
#[test]
fn k02_a_wide_fan_out_runs_so_many_at_once_and_no_more() {
    let items: usize = std::env::var("FLOWRUN_FANOUT").map_or(10_000, |text| text.parse().expect("a number"));
    let at_once = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let mut lab = Lab::new(
        "
        steps: { each: { foreach: input, uses: act.keyed, with: '{{ item }}' } }
        output: { last: '{{ steps.each.output | last }}' }
        ",
    );
    for item in 0..items {
        lab = lab.script(&format!("act.keyed each[{item}]"), [Act::Counted(Arc::clone(&at_once), S)]);
    }
    let report = lab.run(json!((0..items).collect::<Vec<_>>()));
    assert_eq!(report.output, Some(json!({ "last": items - 1 })), "{:?}", report.error);
    assert_eq!(at_once.1.load(Ordering::SeqCst), 16, "the default of `concurrency`");
    assert_eq!(lab.calls().len(), items);
    let begun =
        |e: &serde_json::Value| e["item"].is_u64() && e["type"].as_str().is_some_and(|t| t.ends_with("_started"));
    assert_eq!(lab.events().into_iter().filter(begun).count(), items);
}

/// At limit + 1 and limit the run is done before it counts; at limit - 1 it fails, and is undone all the same.
#[test]
fn k03_the_limit_of_events_is_exact_and_leaves_room_for_the_undoing() {
    let lab = || {
        Lab::new(
            "
            steps:
              a: { uses: act.keyed, compensate: { uses: undo } }
              b: { needs: [a], uses: act.keyed, compensate: { uses: undo } }
              c: { needs: [b], uses: act.keyed, compensate: { uses: undo } }
            ",
        )
    };
    let free = lab();
    assert_eq!(free.run(json!({})).status, "completed");
    let events = free.events().len() as u64;
    for limit in [events + 1, events, events - 1] {
        let mut lab = lab();
        lab.limits.events = limit;
        let report = lab.run(json!({}));
        if limit >= events {
            assert_eq!(report.status, "completed", "{limit} of {events}");
        } else {
            assert_eq!(report.error.unwrap().code, "limit");
            assert_eq!(
                (report.undone, lab.events().len() as u64 > limit),
                (vec!["c".into(), "b".into(), "a".into()], true)
            );
        }
    }
}

#[test]
fn k03_a_run_that_reaches_the_limit_of_events_fails_and_is_undone() {
    let mut lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          each: { needs: [a], foreach: 'range(100) | list', concurrency: 1, uses: act.safe }
        ",
    );
    lab.limits.events = 50;
    let report = lab.run(json!({}));
    assert_eq!((report.error.unwrap().code.as_str(), report.undone.as_slice()), ("limit", ["a".to_owned()].as_slice()));
    assert!(lab.events().len() < 60);
}
