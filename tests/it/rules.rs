//! The rules of SPEC section 6, each with tests that carry its number.

use std::time::Duration;

use serde_json::json;

use super::lab::{Act, Lab};

const S: Duration = Duration::from_secs(1);

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
