//! What people see where there is no terminal.

use super::codes::{FAIL, PASS, WAITS};
use super::harness::Test;

const ESCAPE: char = '\u{1b}';

#[test]
fn pipes_get_lines_without_colours() {
    let done = Test::new().workflow("w", FAIL).args("exec").code(1).run();
    assert!(!done.stderr.contains(ESCAPE), "{}", done.stderr);
    let attempt = done.stderr.lines().find(|l| l.contains("attempt 1 failed")).expect("a line for the event");
    assert!(attempt.ends_with("only          attempt 1 failed: my.code (no luck)"), "{attempt}");
    assert_eq!(attempt.as_bytes()[2], b':', "a time of day stands in front: {attempt}");
}

#[test]
fn colours_are_had_on_request_only() {
    let done = Test::new().workflow("w", FAIL).args("exec --color always").code(1).run();
    assert!(done.stderr.contains(ESCAPE));
    let done = Test::new().workflow("w", FAIL).args("exec --color never").env("CLICOLOR_FORCE", "1").code(1).run();
    assert!(!done.stderr.contains(ESCAPE));
    let done = Test::new().workflow("w", FAIL).args("exec").env("NO_COLOR", "1").code(1).run();
    assert!(!done.stderr.contains(ESCAPE));
}

#[test]
fn quiet_is_quiet() {
    let done = Test::new().workflow("w", PASS).args("exec -q").run();
    assert_eq!(done.stderr, "");
    assert_eq!(done.json()["a"], 1);
}

#[test]
fn verbose_logs_what_is_done() {
    let done = Test::new().workflow("w", PASS).args("exec -v").run();
    let done = done.stderr_has("the workflow is valid").stderr_has("this process holds the store");
    assert!(!Test::after(done).args("exec").run().stderr.contains("holds the store"));
}

#[test]
fn next_commands_name_the_store() {
    let done = Test::new().workflow("w", FAIL).args("exec --id r --store x.redb").code(1).run();
    let done = done.stderr_has("next     flowrun --store x.redb history r");
    Test::after(done).args("--store x.redb show r").run().stdout_has("failed");
}

#[test]
fn validate_names_each_file() {
    let test = Test::new().workflow("a", PASS).workflow("b", "steps: {}\n").file("workflows/a.test.yaml", "not: one");
    let done = test.args("validate").code(3).run();
    assert_eq!(done.stdout.lines().count(), 2, "{}", done.stdout);
    let done = done.stdout_has("workflows/a.yaml: valid").stdout_has("workflows/b.yaml: not valid (1 error)");
    Test::after(done).args("validate workflows/a.yaml").run();
}

#[test]
fn graphs_are_of_workflows_and_of_runs() {
    let done = Test::new().workflow("w", PASS).args("exec --id r").run();
    let done = Test::after(done).args("graph").run().stdout_has("only");
    let done = Test::after(done).args("graph r").run().stdout_has("w, run r: completed").stdout_has("[succeeded]");
    let done = Test::after(done).args("graph r --format mermaid").run().stdout_has("flowchart TD");
    let done = done.stdout_has("only<br/>core.pass<br/>[succeeded]");
    Test::after(done).args("graph nothing").code(8).run().stderr_has("neither a workflow nor a run");
}

#[test]
fn an_undo_is_drawn_under_what_it_undoes() {
    let workflow = "steps:
  only:
    uses: core.fail
    with: { code: my.code }
    fallback: [{ name: other, uses: core.pass, with: {}, compensate: { uses: core.pass, with: {} } }]
";
    let done = Test::new().workflow("w", workflow).args("graph").run();
    done.stdout_has("1  only  core.fail\n         else other: core.pass\n           undo core.pass\n");
}

#[test]
fn every_event_has_a_place_in_a_history() {
    let ends = format!("{PASS}finally:\n  last: {{ uses: core.pass, with: {{}} }}\n");
    let done = Test::new().workflow("w", &ends).args("exec --id r").run();
    Test::after(done).args("history r").run().stdout_has("  run    ending\n");
}

#[test]
fn what_a_run_rests_for_is_said() {
    let parks = FAIL.replace(" } }\n", " }, on_error: park }\n");
    let done = Test::new().workflow("p", &parks).workflow("w", WAITS).args("exec p").code(7).run();
    let done =
        done.stderr_has("because  step (").stderr_has("at       only, failed at its only attempt: my.code (no luck)");
    let done = Test::after(done).args("exec w --input -").stdin("{}\n{}\n").code(7).run();
    done.stderr_has("  ask for signal answer\n");
}

#[test]
fn completions_are_for_shells() {
    for shell in ["bash", "zsh", "fish"] {
        Test::new().args(&format!("completions {shell}")).run().stdout_has("flowrun");
    }
}

#[test]
fn settings_are_taken_over() {
    let workflow =
        format!("config: {{ greeting: hello }}\n{}", PASS.replace("a: 1 }", "a: \"{{ config.greeting }}\" }"));
    let done = Test::new().workflow("w", &workflow).args("exec --set greeting=moin").run();
    assert_eq!(done.json()["a"], "moin");
    Test::after(done).args("exec --set greting=moin").code(3).run().stderr_has("greeting");
}

#[test]
fn the_store_can_be_checked() {
    let done = Test::new().workflow("w", PASS).args("exec").run();
    Test::after(done).args("db check").run().stdout_has("sound, 1 runs (0 unfinished)");
}

#[test]
fn scenarios_are_played() {
    let scenarios = "flowrun_test: 1\nworkflow: w.yaml\nscenarios:\n  good: { expect: { status: completed } }\n";
    let test = Test::new().workflow("w", PASS).file("workflows/w.test.yaml", scenarios);
    let done = test.args("test").run().stdout_has("1 passed, 0 failed");
    let wrong = scenarios.replace("completed", "failed");
    let test = Test::after(done).file("workflows/w.test.yaml", &wrong);
    let done = test.args("test -o json").code(1).run();
    assert_eq!(done.json()["failed"], 1);
    Test::after(done).args("test nowhere").code(8).run();
}
