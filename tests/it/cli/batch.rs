//! Many runs by one call: what is said of lines that do not go well, and what is left to do after an interruption.

use super::harness::{Answered, Test};

/// Fails if its input says so; the input must have a number.
const ORDER: &str = "input:\n  type: object\n  required: [n]\n  properties: { n: { type: integer }, bad: { type: boolean }, note: {} }\n\
                     steps:\n  only: { when: input.bad is defined, uses: core.fail, with: { code: my.code, kind: permanent, message: m } }\n";

/// Waits for longer than any test.
const WAITS: &str = "steps:\n  a: { wait: { for: 1h } }\n";

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (1..=count).map(|n| line(n) + "\n").collect()
}

fn good(n: usize) -> String {
    format!("{{\"n\":{n}}}")
}

fn statuses(done: &Answered) -> Vec<String> {
    done.lines().iter().map(|run| run["status"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn bad_lines_are_named_and_the_others_run() {
    let long = "x".repeat(2_000_000);
    let input = lines(12, |n| match n {
        2 => "not json".to_owned(),
        4 => "{\"n\":\"four\"}".to_owned(),
        6 => "{\"n\":1,\"note\":\"another order with the id of the first\"}".to_owned(),
        8 => format!("{{\"n\":8,\"note\":\"{long}\"}}"),
        9 => String::new(),
        11 => "{\"n\":11,\"bad\":true}".to_owned(),
        n => good(n),
    });
    let test = Test::new().workflow("order", ORDER).file("orders.jsonl", &input);
    let done = test.args("exec --concurrency 1 -o jsonl --input orders.jsonl --id").arg("order-{{ input.n }}").code(1);
    let done = done.run();
    assert_eq!(statuses(&done), [["completed"; 5].as_slice(), &["failed", "completed"]].concat());
    let done = done.stderr_has("refused  line 2: column 1").stderr_has("refused  line 4: the input does not fit");
    let done = done
        .stderr_has("refused  line 6: the id `order-1` is taken")
        .stderr_has("refused  line 8: it has more than 1048576 bytes, the limit `input_bytes`; raise it");
    let done = done.stderr_has("failed  line 11: order-11  only: my.code (m)");
    let done = done.stderr_has("11 runs: 6 completed, 1 failed, 4 refused in ");
    assert!(!done.stderr.contains("line 9"), "a blank line is none:\n{}", done.stderr);
    // Without the run that failed the worst is what was wrong with a line.
    let input = input.replace(",\"bad\":true", "");
    let again = Test::after(done).file("more.jsonl", &input);
    again
        .args("exec --store two.redb -q --input more.jsonl --concurrency 1 --id")
        .arg("order-{{ input.n }}")
        .code(3)
        .run();
}

#[test]
fn a_line_that_is_no_text_is_passed_over() {
    let test = Test::new().workflow("order", ORDER);
    std::fs::write(test.path("orders.jsonl"), b"{\"n\":1}\n\xff\xfe\n{\"n\":3}\n").expect("a file");
    let done = test.args("exec -o jsonl --input orders.jsonl").code(3).run();
    assert_eq!(statuses(&done), ["completed"; 2]);
    done.stderr_has("line 2: it is not UTF-8").stderr_has("3 runs: 2 completed, 1 refused");
}

#[test]
fn a_long_batch_ends_with_the_first_failures_and_where_the_others_are() {
    let input = lines(60, |n| if n % 5 == 0 { format!("{{\"n\":{n},\"bad\":true}}") } else { good(n) });
    let test = Test::new().workflow("order", ORDER).file("orders.jsonl", &input);
    let done = test.args("exec --concurrency 1 --input orders.jsonl --id").arg("order-{{ input.n }}").code(1).run();
    let (_, summary) = done.stderr.split_once("60 runs: 48 completed, 12 failed in ").expect("a summary");
    let named: Vec<&str> = summary.lines().skip(1).map(str::trim).collect();
    assert_eq!(named[0], "failed  line 5: order-5  only: my.code (m)");
    assert_eq!(named[4], "failed  line 25: order-25  only: my.code (m)");
    assert_eq!(named[5], "and 7 more:");
    let how = named[6].strip_prefix("failed").expect("how to see them").trim().to_owned();
    assert_eq!(how, "flowrun list --status failed --limit 12");
    let listed = Test::after(done).args(&how["flowrun ".len()..]).arg("-o").arg("jsonl").run();
    assert_eq!(listed.lines().len(), 12);
    let quiet = Test::after(listed).args("exec -q --concurrency 1 --input orders.jsonl --id");
    let quiet = quiet.arg("order-{{ input.n }}").code(1).run();
    assert_eq!(quiet.stderr, "");
}

/// Starts a batch of waiting runs, interrupts it when the first is there, and returns what it said.
fn interrupted(test: Test) -> Answered {
    let running = test.start();
    running.until("list -o json", "waiting");
    running.signal("-INT");
    running.end(130)
}

#[test]
fn an_interrupted_batch_says_which_lines_are_left() {
    let input = lines(9, good);
    let test = Test::new().workflow("w", WAITS).file("orders.jsonl", &input);
    let done = interrupted(test.args("exec w --concurrency 1 --input orders.jsonl"));
    let done = done.stderr_has("from 2 on were not").stderr_has("next     flowrun resume");
    let done = done.stderr_has("then     sed -n '2,$p' orders.jsonl > rest.jsonl");
    let listed = Test::after(done).args("list -o jsonl").run();
    assert_eq!(listed.lines().len(), 1);
}

#[test]
fn an_interrupted_batch_with_ids_goes_on_by_the_same_command() {
    let input = lines(9, good);
    let test = Test::new().workflow("w", WAITS).file("orders.jsonl", &input);
    let done = interrupted(test.args("exec w --concurrency 2 --input orders.jsonl --id").arg("r-{{ input.n }}"));
    let done = done.stderr_has("then     flowrun exec w --concurrency 2 --input orders.jsonl --id 'r-{{ input.n }}'");
    let again = Test::after(done).args("exec w --no-wait --input orders.jsonl --id").arg("r-{{ input.n }}").code(7);
    let again = again.run().stderr_has("9 runs: 9 waiting");
    assert_eq!(Test::after(again).args("list -o jsonl").run().lines().len(), 9);
}
