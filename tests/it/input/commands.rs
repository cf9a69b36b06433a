//! The real program with bad input: it is refused in time, with exit code 3, before there is a store.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::program::Place;

const PASS: &str = "flowrun: 1\nname: pass\nsteps: { a: { uses: core.pass, with: '{{ input }}' } }\noutput: { o: '{{ steps.a.output }}' }\n";

fn place() -> Place {
    let place = Place::new();
    place.write("pass.yaml", PASS);
    place
}

#[track_caller]
fn no_store(place: &Place) {
    assert!(!place.path(".flowrun").exists(), "a store was made");
}

/// `/dev/zero` never ends, and neither does what is written into a pipe: 8 MiB stand for it.
#[test]
fn f03_what_has_no_end_is_read_up_to_the_limit() {
    let place = place();
    let said = |limit: &str, bytes: &str| {
        [format!("more than {bytes} bytes, the limit `{limit}`"), format!("`--limit {limit}=N`")]
    };
    for (args, said) in [
        (vec!["exec", "pass.yaml", "--input", "/dev/zero"], said("input_bytes", "1048576")),
        (vec!["exec", "pass.yaml", "--input", "/dev/zero", "--limit", "input_bytes=100"], said("input_bytes", "100")),
        (vec!["exec", "pass.yaml", "--config", "/dev/zero"], said("definition_bytes", "1048576")),
        (vec!["exec", "pass.yaml", "--faults", "/dev/zero"], said("definition_bytes", "1048576")),
        (vec!["signal", "x", "y", "--input", "/dev/zero"], said("input_bytes", "1048576")),
        (vec!["exec", "/dev/zero"], ["the limit is 1048576".into(), "`--limit definition_bytes=N`".into()]),
        (vec!["test", "/dev/zero"], ["the limit is 1048576".into(), "`--limit definition_bytes=N`".into()]),
    ] {
        let ran = place.run(&args);
        assert_eq!(ran.code(), Some(3), "{args:?}: {ran:#?}");
        for part in said {
            assert!(
                ran.stderr.contains(&part) || ran.stdout.contains(&part),
                "{args:?} does not say {part:?}: {ran:#?}"
            );
        }
        no_store(&place);
    }
    for endless in [vec![b'1'; 8 << 20], b"[1,\n".repeat(2 << 20), b"\n".repeat(8 << 20)] {
        let ran = place.feed(&["exec", "pass.yaml", "--input", "-"], &endless).expect(3);
        assert!(ran.stderr.contains("stdin has more than 1048576 bytes, the limit `input_bytes`"), "{ran:#?}");
        no_store(&place);
    }
}

#[test]
fn f03_a_line_without_an_end_stops_the_lines_and_leaves_those_before_it() {
    let place = place();
    let mut lines = b"{\"n\": 1}\n{\"n\": 2}\n".to_vec();
    lines.extend(b"[".repeat(2 << 20));
    let ran = place.feed(&["exec", "pass.yaml", "--input", "-", "-o", "jsonl"], &lines).expect(3);
    assert_eq!(ran.lines().len(), 2, "{ran:#?}");
    assert!(ran.stderr.contains("the limit `input_bytes`"), "{ran:#?}");
}

#[test]
fn f03_the_files_of_a_schema_are_held_to_the_limit_together() {
    let place = place();
    let large = |n: usize| json!({ "description": "x".repeat(n), "type": "object" }).to_string();
    for (name, refs) in [("one", vec!["a.json"]), ("two", vec!["a.json", "b.json"])] {
        let all: Vec<Value> = refs.iter().map(|name| json!({ "$ref": name })).collect();
        let text = format!("{PASS}input: {}\n", json!({ "type": "object", "allOf": all }));
        place.write(&format!("{name}.yaml"), text);
    }
    place.write("a.json", large(700_000));
    place.write("b.json", large(700_000));
    place.run(&["validate", "one.yaml"]).expect(0);
    let said = "raise it with `--limit definition_bytes=N`";
    let ran = place.run(&["validate", "two.yaml"]).expect(3);
    assert!(ran.stderr.contains(said) || ran.stdout.contains(said), "{ran:#?}");
    place.run(&["validate", "two.yaml", "--limit", "definition_bytes=2000000"]).expect(0);
    place.write("a.json", json!({ "$ref": "#/$defs/n", "$defs": { "n": super::nested(60) } }).to_string());
    let ran = place.run(&["validate", "one.yaml"]).expect(3);
    assert!(format!("{}{}", ran.stdout, ran.stderr).contains("more than 32 levels"), "{ran:#?}");
    let ran = place.run(&["validate", "one.yaml", "--limit", "nesting=80"]).expect(3);
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("levels"), "the given limit holds for it too: {ran:#?}");
}

/// What goes in as a number comes out as the same text.
#[test]
fn f06_numbers_go_through_a_run_unchanged() {
    let place = place();
    let text = r#"{"orderNumber":"000123","id":9007199254740993,"long":123456789012345678,"max":18446744073709551615,"min":-9223372036854775808,"price":29.99,"amount":"0.30"}"#;
    place.write("numbers.json", text);
    let ran = place.run(&["exec", "pass.yaml", "--input", "numbers.json", "--id", "n"]).expect(0);
    assert_eq!(ran.json().to_string(), format!("{{\"o\":{text}}}"));
    let shown = place.run(&["show", "n", "-o", "json"]).expect(0);
    assert!(shown.stdout.contains("9007199254740993") && shown.stdout.contains("18446744073709551615"), "{shown:#?}");
    place.write("sum.yaml", "flowrun: 1\nname: sum\nsteps: { a: { uses: core.pass, with: { sum: '{{ input.id + 1 }}', text: 'no {{ input.id }}' } } }\noutput: { o: '{{ steps.a.output }}' }\n");
    let ran = place.run(&["exec", "sum.yaml", "--input", "numbers.json"]).expect(0);
    assert_eq!(ran.json().to_string(), r#"{"o":{"sum":9007199254740994,"text":"no 9007199254740993"}}"#);
    for (number, said) in [("-0.0000000000000000000000001234567890123456789", "more digits"), ("1e400", "too large")] {
        place.write("bad.json", format!("{{\"n\": {number}}}"));
        let ran = place.run(&["exec", "pass.yaml", "--input", "bad.json"]).expect(3);
        assert!(ran.stderr.contains("line 1, column 7") && ran.stderr.contains(said), "{ran:#?}");
    }
}

#[test]
fn f09_times_that_let_nothing_happen_are_refused() {
    let place = place();
    let mut wrong = String::new();
    for (policies, said) in [
        ("steps: { a: { uses: core.pass, timeout: 0s } }", "`\"0s\"` is not a duration above zero"),
        (
            "steps: { a: { uses: core.pass, retry: { attempts: 2, within: 0ms } } }",
            "`\"0ms\"` is not a duration above zero",
        ),
        ("config: { t: 0s }\nsteps: { a: { uses: core.pass, timeout: '{{ config.t }}' } }", "`config.t` is `\"0s\"`"),
        ("deadline: 0s\nsteps: { a: { uses: core.pass } }", "`\"0s\"` is not a duration above zero"),
        (
            "services: { s: { breaker: { failures: 1, within: 0s, cooldown: 1s } } }\nsteps: { a: { uses: core.pass, service: s } }",
            "`\"0s\"` is not a duration above zero",
        ),
    ] {
        place.write("zero.yaml", format!("flowrun: 1\nname: zero\n{policies}\n"));
        let ran = place.run(&["exec", "zero.yaml"]);
        let all = format!("{}{}", ran.stdout, ran.stderr);
        if ran.code() != Some(3) || !all.contains(said) || !all.contains("zero.yaml:") {
            let _ = writeln!(wrong, "{policies}: {ran:#?}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    no_store(&place);
}

#[test]
fn f13_of_many_errors_the_first_are_shown_and_the_rest_are_counted() {
    let place = place();
    place.write(
        "list.yaml",
        format!(
            "{PASS}input: {{ type: object, properties: {{ l: {{ type: array, items: {{ type: integer }} }} }} }}\n"
        ),
    );
    place.write("many.json", json!({ "l": vec!["4111-1111-1111-1111"; 10_000] }).to_string());
    let ran = place.run(&["exec", "list.yaml", "--input", "many.json"]).expect(3);
    let errors = ran.stderr.matches("a string is not of type \"integer\"").count();
    assert_eq!(errors, 100, "{}", ran.stderr);
    assert!(ran.stderr.contains("/l/0: ") && ran.stderr.contains("9900 more places do not fit"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("4111"), "a value is shown");
    no_store(&place);
}
