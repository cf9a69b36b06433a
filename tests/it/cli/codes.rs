//! One test for each exit code.

use super::harness::Test;

pub(super) const PASS: &str =
    "steps:\n  only: { uses: core.pass, with: { a: 1 } }\noutput: { a: \"{{ steps.only.output.a }}\" }\n";
pub(super) const FAIL: &str =
    "steps:\n  only: { uses: core.fail, with: { code: my.code, kind: permanent, message: no luck } }\n";
/// A step that is undone, and one that fails behind it. `core.fail` undoes nothing, which is allowed.
const UNDONE: &str = "steps:
  first: { uses: core.pass, with: {}, compensate: { uses: core.pass, with: {} } }
  second: { needs: [first], uses: core.fail, with: { code: my.code, kind: permanent, message: no luck } }
";
const OWED: &str = "steps:
  first:
    uses: core.pass
    with: {}
    compensate: { uses: core.fail, with: { code: undo.broken, kind: permanent, message: closed } }
  second: { needs: [first], uses: core.fail, with: { code: my.code, kind: permanent, message: no luck } }
";
pub(super) const WAITS: &str =
    "steps:\n  ask: { wait: { signal: answer } }\noutput: { said: \"{{ steps.ask.output }}\" }\n";

#[test]
fn a_completed_run_is_0() {
    let done = Test::new().workflow("w", PASS).args("exec").run();
    assert_eq!(done.json(), serde_json::json!({ "a": 1 }));
    done.stderr_has("completed run ").stderr_has("only          done");
}

#[test]
fn a_failed_run_is_1() {
    let done = Test::new().workflow("w", FAIL).args("exec --id r").code(1).run();
    assert_eq!(done.stdout, "");
    done.stderr_has("because  only, at its only attempt: my.code")
        .stderr_has("         no luck")
        .stderr_has("left     nothing, and nothing had to be undone")
        .stderr_has("next     flowrun history r");
}

#[test]
fn a_mistyped_command_is_2() {
    Test::new().args("exce").code(2).run().stderr_has("'exec'");
    Test::new().args("list --limit x=1").code(2).run().stderr_has("there is no limit called `x`");
    Test::new().workflow("a", PASS).workflow("b", PASS).args("exec").code(2).run().stderr_has("a, b");
    Test::new().args("exec").code(2).run().stderr_has("which workflow?");
}

#[test]
fn what_is_not_valid_is_3() {
    let bad = "steps:\n  only: { uses: core.passs }\n";
    Test::new().workflow("w", bad).args("exec").code(3).run().stderr_has("core.pass").stderr_has("nothing was started");
    let input = "input: { type: object, required: [n], properties: { n: { type: integer } } }\n";
    let workflow = format!("{input}{PASS}");
    Test::new().workflow("w", &workflow).args("exec").code(3).run().stderr_has("--input FILE");
    let test = Test::new().workflow("w", &workflow).file("in.json", "{\"n\":1,\n\"n\":2}");
    test.args("exec --input in.json").code(3).run().stderr_has("in.json: line 2");
}

#[test]
fn a_failed_run_that_was_undone_is_4() {
    let done = Test::new().workflow("w", UNDONE).args("exec --id r").code(4).run();
    done.stderr_has("undone   first").stderr_has("left     nothing");
}

#[test]
fn a_run_that_owes_something_is_5() {
    let done = Test::new().workflow("w", OWED).args("exec --id r").code(5).run();
    let done = done
        .stderr_has("left     first is not undone (core.fail): undo.broken (closed)")
        .stderr_has("next     flowrun compensate r")
        .stderr_has("next     flowrun compensate r --mark-done first --reason TEXT");
    let listed = Test::after(done).args("list --needs-attention -o json").run();
    assert_eq!(listed.json()["runs"][0]["run_id"], "r");
    let again = Test::after(listed).args("compensate r").code(5).run();
    let repaired = Test::after(again).args("compensate r --mark-done first --reason").arg("by hand").code(4).run();
    let listed = Test::after(repaired).args("list --needs-attention -o json").run();
    assert_eq!(listed.json()["runs"], serde_json::json!([]));
}

#[test]
fn a_cancelled_run_is_6() {
    let done = Test::new().workflow("w", WAITS).args("exec --id r").code(7).run();
    Test::after(done).args("cancel r --reason enough").code(6).run().stderr_has("cancelled");
}

#[test]
fn a_waiting_run_is_7() {
    let done = Test::new().workflow("w", WAITS).args("exec --id r").code(7).run();
    let done =
        done.stderr_has("waits    ask for signal answer").stderr_has("next     flowrun signal r answer --input FILE");
    let sent = Test::after(done).args("signal r answer --input -").stdin("{\"yes\":true}").run();
    let sent = sent.stderr_has("next     flowrun resume r");
    let done = Test::after(sent).args("resume").run();
    assert_eq!(done.json(), serde_json::json!({ "said": { "yes": true } }));
}

#[test]
fn what_is_not_there_is_8() {
    let test = Test::new().workflow("order", PASS).args("exec ordre").code(8);
    let done = test.run().stderr_has("Did you mean `order`?");
    Test::after(done).args("show nope").code(8).run().stderr_has("there is no run `nope`");
    Test::new().args("handlers core.pas").code(8).run().stderr_has("Did you mean `core.pass`?");
    let done = Test::new().workflow("w", WAITS).args("exec --id r").code(7).run();
    Test::after(done).args("signal r anwser").code(8).run().stderr_has("did you mean `answer`?");
}

#[test]
fn a_conflict_is_9() {
    let done = Test::new().workflow("w", PASS).args("exec --id r --input -").stdin("{\"a\":1}").run();
    let same = Test::after(done).args("exec --id r --input -").stdin("{\"a\":1}").run();
    let same = same.stderr_has("final already");
    let other = Test::after(same).args("exec --id r --input -").stdin("{\"a\":2}").code(9).run();
    Test::after(other).args("cancel r").code(9).run().stderr_has("final");
}

#[test]
fn a_broken_store_is_10() {
    let test = Test::new().workflow("w", PASS).file(".flowrun/flowrun.redb", "this is not a store");
    let done = test.args("exec").code(10).run().stderr_has("not a flowrun store");
    let text = std::fs::read_to_string(done.dir.path().join(".flowrun/flowrun.redb")).expect("it is there");
    assert_eq!(text, "this is not a store");
    Test::after(done).args("list").code(10).run();
}

#[test]
fn several_runs_exit_with_the_worst() {
    let workflow =
        "steps:\n  only: { when: input.bad, uses: core.fail, with: { code: my.code, kind: permanent, message: m } }\n";
    let lines = "{\"bad\":false}\n{\"bad\":true}\n\n{\"bad\":false}\nnot json\n";
    let done = Test::new().workflow("w", workflow).args("exec --input - -o jsonl").stdin(lines).code(1).run();
    assert_eq!(done.lines().len(), 3);
    let done = done.stderr_has("line 5: column 1").stderr_has("4 runs: 2 completed, 1 failed, 1 refused");
    let lines = "{\"bad\":false}\nnot json\n";
    Test::after(done).args("exec --input - --store two.redb").stdin(lines).code(3).run();
}

#[test]
fn mistyped_steps_and_signals_are_8_and_say_what_was_meant() {
    let parks = FAIL.replace(" } }\n", " }, on_error: park }\n");
    let done = Test::new().workflow("w", &parks).args("exec --id r").code(7).run();
    let done = Test::after(done).args("retry r --from onyl").code(8).run().stderr_has("did you mean `only`?");
    let done = Test::after(done).args("signal r go").code(8).run().stderr_has("nor for any other");
    Test::after(done).args("retry r --from other").code(8).run().stderr_has("its steps are only");
}

#[test]
fn without_a_store_nothing_is_wrong() {
    for verb in ["resume", "list", "ledger", "db check"] {
        Test::new().args(verb).run().stderr_has("there is no store");
    }
    let listed = Test::new().args("list -o json").run();
    assert_eq!(listed.json(), serde_json::json!({ "v": 1, "runs": [] }));
    for verb in ["resume", "list", "ledger", "db check"] {
        assert_eq!(Test::new().args(&format!("{verb} -o json")).run().json()["v"], 1, "{verb}");
    }
    for verb in ["show", "show r", "history", "cancel r"] {
        Test::new().args(verb).code(8).run().stderr_has("there is no store");
    }
}

/// Another run, in a store of its own, serves as the clock.
#[test]
fn a_deadline_that_passed_while_nobody_was_there_comes_before_any_rest() {
    let clock = "steps:\n  tick: { wait: { for: 500ms } }\n";
    let test = Test::new().workflow("w", &format!("deadline: 500ms\n{WAITS}")).workflow("clock", clock);
    let done = test.args("exec w --id r --no-wait").code(7).run();
    let done = Test::after(done).args("exec clock --store clock.redb").run();
    Test::after(done).args("resume r").code(1).run().stderr_has("because  deadline");
}

#[test]
fn scenarios_end_with_0_1_3_or_8() {
    let scenarios = |expected: &str| {
        format!("flowrun_test: 1\nworkflow: workflows/w.yaml\nscenarios:\n  one: {{ expect: {{ {expected} }} }}\n")
    };
    let test = |expected: &str| Test::new().workflow("w", PASS).file("w.test.yaml", &scenarios(expected));
    let passed = test("exit: 0, output: { a: 1 }").args("test").run();
    assert!(passed.stdout.ends_with("1 passed, 0 failed\n"), "{}", passed.stdout);
    let failed = test("exit: 4").args("test w.test.yaml").code(1).run();
    assert!(failed.stdout.contains("exit: expected 4, got 0"), "{}", failed.stdout);
    let failed = test("exit: 4").args("test -o json").code(1).run();
    assert_eq!(failed.json()["files"][0]["scenarios"][0]["failures"][0]["mismatches"][0]["path"], "exit");
    test("statsu: failed").args("test").code(3).run().stderr_has("Did you mean `status`?");
    test("exit: 0").args("test --filter two").code(8).run().stderr_has("no scenario has `two` in its name");
    Test::new().workflow("w", PASS).args("test").code(8).run().stderr_has(".test.yaml");
}
