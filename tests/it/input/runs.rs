//! Bad values inside of runs: what handlers return, what templates make, what signals bring.

use flowrun::engine::{EngineError, Patience, Submission};
use flowrun::machine::Refusal;
use flowrun::machine::event::Compensation;
use serde_json::{Value, json};

use super::nested;
use crate::lab::{Act, Lab};

/// Text that would be something else if it were ever read as a template.
const TRAP: &str = "{{ 7*7 }}{% set x = 1 %}{# no #}{{ secrets.HOME }}";

#[test]
fn f02_values_too_deep_to_be_read_back_are_never_recorded() {
    let body = "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo, with: x } }
          b: { uses: act.safe, with: '{{ steps.a.output }}' }
        output: { o: '{{ steps.b.output }}' }
    ";
    let lab = Lab::new(body).script("act.keyed a", [Act::Return(nested(99))]);
    let report = lab.run(json!({}));
    assert_eq!(report.error, None);
    assert_eq!(report.output, Some(json!({ "o": nested(99) })), "a hundred levels are read back");
    let lab = Lab::new(body).script("act.keyed a", [Act::Return(nested(150))]);
    let report = lab.run(json!({}));
    let error = &report.steps["a"].error;
    let error = serde_json::to_value(error).unwrap();
    assert_eq!(error["code"], "bad_output", "{error}");
    assert!(error["message"].as_str().unwrap().contains("more than 100 levels"), "{error}");
    assert_eq!(
        (report.status.as_str(), report.compensation),
        ("failed", Compensation::Complete),
        "what it did is undone"
    );
}

#[test]
fn f02_templates_make_nothing_too_deep_either() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed }
          b: { uses: act.safe, with: { l: { l: '{{ steps.a.output }}' } } }
    ",
    )
    .script("act.keyed a", [Act::Return(nested(99))]);
    let report = lab.run(json!({}));
    let error = serde_json::to_value(&report.steps["b"].error).unwrap();
    assert_eq!(error["code"], "limit", "{error}");
    assert_eq!(lab.called(), ["act.keyed a"], "the handler was not called");
    let lab = Lab::new(
        "
        steps: { a: { uses: act.keyed } }
        output: { l: { l: '{{ steps.a.output }}' } }
    ",
    )
    .script("act.keyed a", [Act::Return(nested(99))]);
    let report = lab.run(json!({}));
    assert_eq!(report.status, "failed");
    assert!(serde_json::to_string(&report.error).unwrap().contains("more than 100 levels"));
}

#[test]
fn f02_deep_input_and_deep_signals_are_refused_without_recursion() {
    let lab = Lab::new("steps: { a: { wait: { signal: go } }, b: { uses: read, needs: [a] } }");
    let workflow = lab.workflow();
    lab.life(|engine| async move {
        let submission = |input| Submission { workflow: workflow.clone(), input, id: Some("it".into()) };
        let refused = engine.submit(submission(nested(100_000))).await;
        assert!(matches!(refused, Err(EngineError::Input(errors)) if errors[0].message.contains("100 levels")));
        let run = engine.submit(submission(nested(100))).await.unwrap().run;
        engine.rest(run, Patience::Timers).await.unwrap();
        for deep in [nested(101), nested(100_000)] {
            let refused = engine.signal(run, None, "go".into(), deep).await;
            let Err(EngineError::Refused(Refusal::Invalid { message })) = refused else { panic!("{refused:?}") };
            assert!(message.contains("100 levels"), "{message}");
        }
        engine.signal(run, None, "go".into(), nested(100)).await.unwrap();
        assert_eq!(engine.rest(run, Patience::Timers).await.unwrap().status, "completed");
    });
}

#[test]
fn f03_an_output_that_is_too_large_is_unknown_and_undone() {
    let mut lab = Lab::new("steps: { a: { uses: act.keyed, compensate: { uses: undo, with: x } } }")
        .script("act.keyed a", [Act::Return(json!("x".repeat(199)))]);
    lab.limits.payload_bytes = 200;
    let report = lab.run(json!({}));
    let error = serde_json::to_value(&report.steps["a"].error).unwrap();
    assert_eq!((&error["code"], &error["kind"]), (&json!("bad_output"), &json!("unknown")));
    let message =
        "the output has 201 bytes, and the limit `payload_bytes` is 200; raise it with `--limit payload_bytes=N`";
    assert_eq!(error["message"], message);
    assert_eq!(lab.called(), ["act.keyed a", "undo a"]);
    assert_eq!((report.status.as_str(), report.compensation), ("failed", Compensation::Complete));
}

#[test]
fn f03_the_outputs_of_all_items_together_are_held_to_the_limit() {
    let run = |count: usize| {
        let mut lab = Lab::new(
            "steps: { a: { foreach: input.l, uses: act.keyed, with: '{{ item }}', compensate: { uses: undo, with: x } } }",
        );
        lab.limits.payload_bytes = 200;
        // Each item's output has 49 bytes; four of them with commas and brackets have 201.
        let report = lab.run(json!({ "l": vec!["x".repeat(47); count] }));
        (serde_json::to_value(&report.steps["a"].error).unwrap(), report.status, report.compensation, lab.called())
    };
    assert_eq!(run(3).1, "completed");
    let (error, status, compensation, called) = run(4);
    assert_eq!(error["code"], "limit", "{error}");
    assert!(error["message"].as_str().unwrap().contains("201 bytes, and the limit `payload_bytes` is 200"), "{error}");
    assert_eq!((status.as_str(), compensation), ("failed", Compensation::Complete));
    assert_eq!(called.iter().filter(|c| c.starts_with("undo")).count(), 4, "{called:?}");
}

#[test]
fn f03_what_a_handler_says_of_an_error_is_cut_to_what_may_be_recorded() {
    let lab =
        Lab::new("steps: { a: { uses: core.fail, with: { code: a.b, kind: permanent, message: '{{ input.m }}' } } }");
    let report = lab.run(json!({ "m": "ä".repeat(20_000) }));
    let error = serde_json::to_value(&report.steps["a"].error).unwrap();
    assert_eq!(error["code"], "a.b");
    let message = error["message"].as_str().unwrap();
    assert!(message.len() < 17_000 && message.ends_with('…'), "{} bytes", message.len());
}

/// Every place into which a template's value goes: input of a handler (whole and inside text), of an undo, of a fallback,
/// of `finally`; the items of `foreach`; the output of a run; a signal's data; a condition.
#[test]
fn g01_what_looks_like_a_template_in_the_data_stays_as_it_is() {
    let lab = Lab::new("
        steps:
          wait: { wait: { signal: go } }
          whole: { uses: act.keyed, with: '{{ input.t }}', compensate: { uses: undo, with: '{{ output }} {{ input.t }}' } }
          text: { uses: read, with: { t: 'x {{ input.t }}', s: '{{ steps.wait.output.t }}', j: '{{ [input.t] | join }}' } }
          items: { foreach: '[input.t]', uses: read, with: '{{ item }}' }
          if: { when: input.t == steps.wait.output.t, uses: read, with: '{{ steps.whole.output }}', needs: [wait] }
          fails:
            needs: [whole, text, items, if]
            uses: read
            fallback: [{ name: other, uses: act.safe, with: { t: '{{ input.t }}', e: '{{ error.message }}' } }]
        finally:
          end: { uses: read, with: { t: '{{ input.t }}' } }
        output: { t: '{{ input.t }}' }
    ")
    .script("read fails", [Act::Permanent("a.no")])
    .script("act.safe fails", [Act::Permanent("a.no")]);
    let workflow = lab.workflow();
    lab.life(|engine| async move {
        let input = json!({ "t": TRAP });
        let run = engine.submit(Submission { workflow, input, id: Some("it".into()) }).await.unwrap().run;
        engine.signal(run, None, "go".into(), json!({ "t": TRAP })).await.unwrap();
        assert_eq!(engine.rest(run, Patience::Timers).await.unwrap().status, "failed");
    });
    let calls = lab.calls();
    let input =
        |what: &str| calls.iter().find(|c| c.what == what).unwrap_or_else(|| panic!("{what}: {calls:?}")).input.clone();
    assert_eq!(input("act.keyed whole"), json!(TRAP));
    assert_eq!(input("read text"), json!({ "t": format!("x {TRAP}"), "s": TRAP, "j": TRAP }));
    assert_eq!(input("read items[0]"), json!(TRAP));
    assert_eq!(input("read if"), json!(TRAP));
    assert_eq!(input("act.safe fails")["t"], json!(TRAP));
    assert_eq!(input("undo whole"), json!(format!("{TRAP} {TRAP}")));
    assert_eq!(input("read end"), json!({ "t": TRAP }));
    let done = Lab::new("steps: { a: { uses: read, with: '{{ input.t }}' } }\noutput: { t: '{{ steps.a.output }}' }");
    assert_eq!(done.run(json!({ "t": TRAP })).output, Some(json!({ "t": TRAP })));
}

#[test]
fn g04_a_name_that_is_missing_fails_the_step_for_good_and_says_what_was_meant() {
    let lab =
        Lab::new("steps: { a: { uses: act.keyed, with: { x: '{{ input.order.Id }}' }, retry: { attempts: 5 } } }");
    let report = lab.run(json!({ "order": { "id": 1 } }));
    let error = serde_json::to_value(&report.steps["a"].error).unwrap();
    assert_eq!((&error["code"], &error["kind"]), (&json!("template"), &json!("permanent")), "{error}");
    assert!(error["message"].as_str().unwrap().contains("`input.order.Id` is missing"), "{error}");
    assert!(lab.called().is_empty(), "the handler is not called");
    for input in [json!({ "order": null }), json!({ "order": 1 }), json!({})] {
        let lab = Lab::new("steps: { a: { uses: act.keyed, with: { x: '{{ input.order.Id }}' } } }");
        assert_eq!(lab.run(input.clone()).status, "failed", "{input}");
    }
}

#[test]
fn g05_a_secret_is_in_no_output_no_error_and_no_record() {
    let secret = std::env::var("PATH").expect("the test machine has a PATH");
    let lab = Lab::new("
        secrets: [PATH]
        steps:
          out: { uses: read, with: { a: '{{ secrets.PATH }}', b: ['x {{ secrets.PATH }} y'] }, on_error: continue }
          bad: { uses: picky, with: { n: '{{ secrets.PATH }}' }, on_error: continue, needs: [out] }
          err: { uses: core.fail, with: { code: a.b, kind: permanent, message: 'no {{ secrets.PATH }}' }, on_error: continue, needs: [bad] }
        output: { o: '{{ steps.out.output }}', e: '{{ steps.err.error.message }}', b: '{{ steps.bad.error.message }}' }
    ");
    let report = lab.run(json!({}));
    assert_eq!(report.status, "completed");
    assert_eq!(lab.calls()[0].input["a"], json!(secret), "the handler has it");
    let output = report.output.clone().unwrap();
    assert_eq!(output["o"], json!({ "a": "***", "b": ["x *** y"] }));
    assert_eq!(output["e"], "no ***");
    let all = format!("{}{}", serde_json::to_string(&report).unwrap(), serde_json::to_string(&lab.events()).unwrap());
    assert!(!all.contains(&secret), "{all}");
}

#[test]
fn g07_a_run_cut_off_and_resumed_renders_the_same() {
    let body = "
        steps:
          a: { wait: { for: 1m } }
          b: { needs: [a], uses: read, with: { l: '{{ input | items | list }}', k: '{{ input.o | tojson }}', at: '{{ run.started_at }}' } }
        output: { o: '{{ steps.b.output }}' }
    ";
    let input = || json!({ "z": 1, "a": [2.5, true], "o": { "y": 1, "b": { "x": null } } });
    let whole = Lab::new(body);
    let expected = whole.run(input()).output.expect("it completes");
    let cut = Lab::new(body);
    cut.run_and_kill_after(input(), std::time::Duration::from_secs(10));
    cut.pass(std::time::Duration::from_secs(100_000));
    let report = cut.resume();
    assert_eq!(report.output, Some(expected.clone()));
    assert!(matches!(expected, Value::Object(_)));
}
