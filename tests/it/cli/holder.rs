//! Several processes and one store; Ctrl-C and kill.

use super::codes::{PASS, WAITS};
use super::harness::Test;

/// A run that stays under way until somebody does something.
const LONG: &str = "steps:
  pause: { wait: { signal: go, timeout: 1h } }
  last: { needs: [pause], uses: core.pass, with: { ok: true } }
output: { ok: \"{{ steps.last.output.ok }}\" }
";

#[test]
fn others_read_and_command_through_the_holder() {
    let holder = Test::new().workflow("w", LONG).workflow("p", PASS).args("exec w --id long").start();
    holder.until("list", "waiting");
    let (shown, _) = holder.call("show long -o json", 0);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["waiting_for"][0]["signal"], "go");
    holder.call("exec p --id short", 0);
    holder.call("signal long stop", 8);
    let (_, sent) = holder.call("signal long go", 0);
    assert!(!sent.contains("next"), "somebody runs it already: {sent}");
    let done = holder.end(0);
    assert_eq!(done.json()["ok"], true);
    assert!(!done.dir.path().join(".flowrun/flowrun.sock").exists());
    let listed = Test::after(done).args("list -o jsonl").run();
    assert!(listed.lines().iter().all(|run| run["status"] == "completed"), "{}", listed.stdout);
}

#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let running = Test::new().workflow("w", LONG).args("exec --id r").start();
    running.until("list", "waiting");
    running.signal("-INT");
    let done = running.end(130).stderr_has("next     flowrun resume r");
    let sent = Test::after(done).args("signal r go").run();
    let done = Test::after(sent).args("resume r").run();
    assert_eq!(done.json()["ok"], true);
    let shown = Test::after(done).args("history r -o jsonl").run();
    let resumed = shown.lines().into_iter().filter(|e| e["type"] == "run_resumed").collect::<Vec<_>>();
    assert!(resumed.iter().all(|e| e["clean"] == true), "{resumed:?}");
}

#[test]
fn sigterm_is_143() {
    let running = Test::new().workflow("w", LONG).args("exec --id r").start();
    running.until("list", "waiting");
    running.signal("-TERM");
    running.end(143);
}

#[test]
fn who_stayed_with_a_run_takes_it_over_when_its_holder_is_killed() {
    let holder = Test::new().workflow("w", LONG).args("exec --id r").start();
    holder.until("list", "waiting");
    let store = holder.dir.path().join(".flowrun/flowrun.redb");
    let store = store.to_str().expect("it is text").to_owned();
    let workflow = holder.dir.path().join("workflows/w.yaml");
    let workflow = workflow.to_str().expect("it is text").to_owned();
    let other = Test::new().args(&format!("exec {workflow} --id r --store {store} -v")).start();
    // Both outcomes are right: it has attached by now, or it finds the store free.
    holder.call("show r", 0);
    holder.signal("-KILL");
    let mut holder = holder;
    let _ = holder.child.wait();
    other.until(&format!("list --store {store}"), "waiting");
    other.call(&format!("signal r go --store {store}"), 0);
    let (_, _) = other.call(&format!("exec {workflow} --id r --store {store}"), 0);
    other.end(0).stdout_has("\"ok\": true");
}

#[test]
fn b14_a_holder_that_does_not_answer_is_named() {
    let holder = Test::new().workflow("w", WAITS.replace("signal: answer", "signal: answer, timeout: 1h").as_str());
    let holder = holder.args("exec --id r").start();
    holder.until("list", "waiting");
    holder.signal("-STOP");
    let (_, said) = holder.call("list", 9);
    assert!(said.contains(&format!("process {}", holder.child.id())), "{said}");
    holder.signal("-CONT");
    holder.signal("-TERM");
    holder.end(143);
}

#[test]
fn a_signal_to_a_crashed_run_does_not_hide_the_crash() {
    let faults = "faults: [ { step: last, attempts: 1, do: kill_before } ]";
    let workflow = LONG.replace("steps:\n", "steps:\n  late: { wait: { signal: later } }\n");
    let test = Test::new().workflow("w", &workflow).file("k.yaml", faults);
    let running = test.args("exec --id r --faults k.yaml").start();
    running.until("list", "waiting");
    // The holder may die before it answers.
    running.attempt("signal r go");
    let mut running = running;
    let ended = running.child.wait().expect("it dies");
    assert_eq!(ended.code(), None, "by a signal");
    running.call("signal r later", 0);
    let (out, err) = running.call("resume r", 0);
    assert!(out.contains("\"ok\": true"), "{out}");
    assert!(err.contains("resumed after a crash"), "{err}");
}
