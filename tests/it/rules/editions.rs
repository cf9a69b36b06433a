//! The workflow's file or the program has changed since a run was started (RELIABILITY E02, E03).

use std::sync::Arc;

use flowrun::handlers::{Registry, State, StepCtx, StepError};
use serde_json::{Value, json};

use super::S;
use crate::lab::{Act, Lab, Script, registry};

const BODY: &str = "
    steps:
      a: { uses: act.keyed, with: a, compensate: { uses: undo, with: { of: a } } }
      w: { needs: [a], wait: { for: 1m } }
      b: { needs: [w], uses: act.keyed, with: b, compensate: { uses: undo, with: { of: b } } }
      c: { needs: [b], uses: act.safe, with: '{{ steps.b.output }}' }
      bad: { needs: [c], uses: read }
    output: { c: '{{ steps.c.output }}' }
";

/// The edits, each a piece of the file and what it becomes.
const EDITS: [(&str, &[(&str, &str)]); 9] = [
    ("a step is added", &[("      c: {", "      n: { needs: [b], uses: act.once }\n      c: {")]),
    (
        "a step is removed",
        &[
            ("      c: { needs: [b], uses: act.safe, with: '{{ steps.b.output }}' }\n", ""),
            ("[c]", "[b]"),
            ("steps.c.", "steps.b."),
        ],
    ),
    (
        "a step that has begun is removed",
        &[
            ("      a: { uses: act.keyed, with: a, compensate: { uses: undo, with: { of: a } } }\n", ""),
            ("w: { needs: [a], ", "w: { "),
        ],
    ),
    ("a step is renamed", &[("      b: {", "      bb: {"), ("[b]", "[bb]"), ("steps.b.", "steps.bb.")]),
    (
        "steps are reordered",
        &[
            ("b: { needs: [w]", "b: { needs: [c]"),
            ("c: { needs: [b]", "c: { needs: [w]"),
            ("steps.b.", "steps.a."),
            ("[c], uses: read", "[b], uses: read"),
        ],
    ),
    ("a handler is changed", &[("b: { needs: [w], uses: act.keyed", "b: { needs: [w], uses: other.keyed")]),
    ("a compensation is changed", &[("uses: undo, with: { of: b }", "uses: undo.once, with: { of: nothing }")]),
    ("a compensation is taken away", &[(", compensate: { uses: undo, with: { of: a } }", "")]),
    ("the wait is prolonged", &[("for: 1m", "for: 1d")]),
];

fn lab(good: bool) -> Lab {
    let end = if good { Act::Return(json!(1)) } else { Act::Permanent("a.no") };
    Lab::new(BODY).script("read bad", [end])
}

/// What a run came to: its end, its steps, its output, what was called with which input.
fn came_to(lab: &Lab, report: &flowrun::engine::report::RunReport) -> Value {
    let steps: Vec<(String, String)> =
        report.steps.iter().map(|(name, step)| (name.clone(), step.status.clone())).collect();
    let calls: Vec<(String, String, Value)> = lab.calls().into_iter().map(|c| (c.what, c.key, c.input)).collect();
    json!([report.exit_code(), steps, report.output, report.undone, calls])
}

#[test]
fn e02_whatever_was_edited_a_resumed_run_goes_by_what_it_was_started_with() {
    for good in [true, false] {
        let calm = lab(good);
        let report = calm.run(json!({}));
        assert_eq!(report.exit_code(), if good { 0 } else { 4 });
        // Keys differ from store to store and from run to run.
        let shape = |came: &Value| (came[0].clone(), came[1].clone(), came[2].clone(), came[3].clone());
        let expected = shape(&came_to(&calm, &report));
        for (edit, pieces) in EDITS {
            let lab = lab(good);
            lab.run_and_kill_after(json!({}), 10 * S);
            let mut text = BODY.to_owned();
            for (old, new) in pieces {
                assert!(text.contains(old), "{edit}: {old}");
                text = text.replace(old, new);
            }
            let lab = lab.edited(&text);
            // The edited file is a good one: new runs would go by it.
            lab.workflow();
            let report = lab.resume();
            assert_eq!(shape(&came_to(&lab, &report)), expected, "{edit}");
            let called = |lab: &Lab| lab.calls().into_iter().map(|c| (c.what, c.attempt)).collect::<Vec<_>>();
            assert_eq!(called(&lab), called(&calm), "{edit}");
        }
    }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Words {
    words: Vec<String>,
}

async fn pickier(_: StepCtx, _: State<Arc<Script>>, input: Words) -> Result<Value, StepError> {
    Ok(json!(input.words))
}

/// A handler of the same name takes something else by now: the run is held back, and not failed and undone.
#[test]
fn e03_a_run_whose_handler_takes_something_else_by_now_is_parked_until_it_fits() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          w: { needs: [a], wait: { for: 1m } }
          b: { needs: [w], uses: picky, with: { n: 1 } }
        ",
    );
    lab.run_and_kill_after(json!({}), 10 * S);
    let script = Arc::new(Script::default());
    let changed = || {
        Registry::new()
            .state(Arc::clone(&script))
            .handler("picky", pickier)
            .handler("act.keyed", act)
            .effect("acted")
            .keyed()
            .handler("undo", act)
            .undoes("acted", "undone")
            .keyed()
    };
    for _ in 0..2 {
        let report = lab.with_handlers(changed(), || lab.resume());
        let parked = report.parked.expect("it is held back");
        assert_eq!(parked.code, "handler_changed");
        assert!(parked.message.contains("words") && parked.message.contains("picky"), "{}", parked.message);
        assert!(report.undone.is_empty() && report.status == "parked");
    }
    assert_eq!(lab.with_handlers(registry(&script), || lab.resume()).status, "completed");
    assert_eq!(lab.called(), ["act.keyed a"], "the rest was done by the handlers of another process");
}

async fn act(_: StepCtx, _: State<Arc<Script>>, input: Value) -> Result<Value, StepError> {
    Ok(input)
}
