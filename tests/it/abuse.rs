//! Bad input, as a careless or a nasty user gives it: each is refused with its place and what to do about it, with the
//! exit code of its kind, and with the store unharmed or not even made.

use std::fs;

use crate::program::Place;

/// The example order, as `exec` is given it.
const ORDER: &str = "exec --input examples/order.json";

const GATE: &str = "flowrun: 1
name: gate
steps:
  gate:
    wait:
      signal: open
      timeout: 1h
      schema: { type: object, required: [who], properties: { who: { type: string } } }
  after: { needs: [gate], uses: core.pass, with: { ok: true } }
";

const SECRET: &str = "flowrun: 1
name: secret
secrets: [FLOWRUN_TEST_KEY]
steps: { only: { uses: core.pass, with: { key: \"{{ secrets.FLOWRUN_TEST_KEY }}\" } } }
";

/// A command, its exit code, and what stderr has to say, in pieces.
type Row = (&'static str, i32, &'static [&'static str]);

/// Runs every row, and returns what does not hold, so that all of it is seen at once.
fn hold(place: &Place, rows: &[Row], after: impl Fn() -> Option<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (line, code, pieces) in rows {
        // A word in single quotes may have spaces in it.
        let mut words: Vec<&str> = Vec::new();
        for (n, part) in line.split('\'').enumerate() {
            if n % 2 == 0 { words.extend(part.split_whitespace()) } else { words.push(part) }
        }
        let ran = place.run(&words);
        if ran.code() != Some(*code) {
            wrong.push(format!("`{line}` returned {:?}, not {code}:\n{}", ran.code(), ran.stderr));
        }
        for piece in *pieces {
            if !ran.stderr.contains(piece) {
                wrong.push(format!("`{line}` does not say {piece:?}:\n{}", ran.stderr));
            }
        }
        for never in ["panicked", "has a bug", "`Err` value"] {
            if ran.stderr.contains(never) {
                wrong.push(format!("`{line}` says {never:?}:\n{}", ran.stderr));
            }
        }
        wrong.extend(after().map(|problem| format!("`{line}`: {problem}")));
    }
    wrong
}

#[track_caller]
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} rows do not hold\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// F02, F04, F06, F07, F09, F13: nothing is made for an input that cannot start.
#[test]
fn f02_f04_f06_f07_f09_bad_inputs_leave_nothing_behind() {
    let place = Place::new();
    place.write("empty.json", "");
    place.write("blank.json", "  \n\n");
    place.write("bad.json", "{\n  \"orderId\": \"a\",\n  \"customerId\" \"b\"\n}\n");
    place.write("dup.json", "{\n  \"orderId\": \"a\",\n  \"orderId\": \"b\"\n}\n");
    place.write("huge.json", r#"{ "a": 1e400 }"#);
    place.write("long.json", r#"{ "a": 99999999999999999999999999999999 }"#);
    place.write("deep.json", "[".repeat(10_000));
    place.write("closed.json", format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)));
    place.write("objects.json", format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000)));
    place.write("latin.json", b"{\"a\": \"\xe9\"}");
    place.write("half.json", r#"{ "orderId": "\ud800" }"#);
    place.write("more.json", "{} and more");
    place.write("unfit.json", r#"{ "orderId": 5, "items": [] }"#);
    place.write("list.json", "[1, 2]");
    place.write("secret.yaml", SECRET);
    place.write("none.jsonl", "\n\n");
    place.write("bad.jsonl", "{ \"orderId\": 1\n{}\n");
    place.write("latin.jsonl", b"{\"a\": \"\xe9\"}\n");
    let rows: &[Row] = &[
        ("exec --input examples/ordr.json", 3, &["there is no file examples/ordr.json", "`examples/order.json`?"]),
        ("exec --input no/where.json", 3, &["there is no file no/where.json"]),
        ("exec --input examples", 3, &["examples is a folder"]),
        ("exec --input empty.json", 3, &["empty.json: line 1, column 1: there is no JSON here"]),
        ("exec --input blank.json", 3, &["blank.json", "there is no JSON here"]),
        ("exec --input bad.json", 3, &["bad.json: line 3, column 16: expected `:`"]),
        ("exec --input dup.json", 3, &["dup.json: line 3, column 3: the key `orderId` is given twice"]),
        ("exec --input huge.json", 3, &["huge.json: line 1, column 8: this number is too large"]),
        ("exec --input long.json", 3, &["long.json: line 1, column 8:", "64 bits", "quote it"]),
        ("exec --input deep.json", 3, &["deep.json: line 1, column 33: ", "more than 32 levels"]),
        ("exec --input closed.json", 3, &["column 33", "more than 32 levels"]),
        ("exec --input objects.json", 3, &["more than 32 levels"]),
        ("exec --input latin.json", 3, &["latin.json cannot be read: it is not UTF-8"]),
        ("exec --input half.json", 3, &["half.json: line 1", "half of a character"]),
        ("exec --input more.json", 3, &["more.json: line 1, column 4: the document has ended"]),
        (
            "exec --input unfit.json",
            3,
            &["does not fit", "/orderId: a number is not of type \"string\"", "\"customerId\""],
        ),
        ("exec --input list.json", 3, &["does not fit", "the input: a list is not of type \"object\""]),
        ("exec", 3, &["the input: \"orderId\" is a required property", "--input FILE"]),
        ("exec --input none.jsonl", 0, &[]),
        ("exec --input bad.jsonl", 3, &["line 1: column", "line 2: the input does not fit"]),
        ("exec --input latin.jsonl", 3, &["it is not UTF-8"]),
        ("exec --input bad.jsonl --id '{{ input.none }}'", 3, &["line 2: --id: `input.none` is missing"]),
        ("exec ./secret.yaml", 3, &["missing in the environment: FLOWRUN_TEST_KEY", "set them in the environment"]),
    ];
    none(&hold(&place, rows, || place.path(".flowrun").exists().then(|| "a store was made".into())));
}

/// Mistakes on the command line and in the files that it names.
#[test]
fn f09_bad_commands_leave_nothing_behind() {
    let place = Place::new();
    place.write("open.yaml", "payment: [1\n");
    place.write("typo.yaml", "paymnt: { timeout: 3s }\n");
    place.write("f-step.yaml", "faults: [{ step: chrage, do: hang }]");
    place.write("f-word.yaml", "faults: [{ step: charge, do: hangs }]");
    place.write("f-key.yaml", "fautls: []");
    place.write("f-open.yaml", "faults:\n  - { step: charge, do: hang\n");
    place.write("f-empty.yaml", "");
    let rows: Vec<(String, i32, &[&str])> = vec![
        ("exce".into(), 2, &["'exce'", "exec"]),
        ("exec ecommerce-ordr".into(), 8, &["`ecommerce-ordr`", "Did you mean `ecommerce-order`?"]),
        (
            "exec workflows/ecommerce-ordr.yaml".into(),
            8,
            &["there is no workflow file", "`workflows/ecommerce-order.yaml`?"],
        ),
        ("exec schemas/order.schema.json".into(), 3, &["the workflow has no `flowrun`", "nothing was started"]),
        (format!("{ORDER} --frob"), 2, &["'--frob'"]),
        (format!("{ORDER} --set payment.timout=10s"), 3, &["no configuration `payment.timout`", "`payment.timeout`?"]),
        (format!("{ORDER} --set payment.timeout=ten"), 3, &["ecommerce-order.yaml:", "not a duration", "`30s`"]),
        (format!("{ORDER} --set payment.timeout=10"), 3, &["a unit: write `10s`"]),
        (format!("{ORDER} --set payment.attempts=many"), 3, &["must be a number, like its default"]),
        (format!("{ORDER} --set payment.attempts=0"), 3, &["`0`", "from 1 to"]),
        (format!("{ORDER} --set payment.fallback_enabled=yes"), 3, &["must be `true` or `false`"]),
        (format!("{ORDER} --set payment"), 2, &["PATH=VALUE"]),
        (format!("{ORDER} --set =3"), 2, &["PATH=VALUE"]),
        (format!("{ORDER} --config none.yaml"), 3, &["there is no file none.yaml"]),
        (format!("{ORDER} --config open.yaml"), 3, &["open.yaml: line 1, column 10: this `[` is never closed"]),
        (format!("{ORDER} --config typo.yaml"), 3, &["no configuration `paymnt`", "`payment`?"]),
        (format!("{ORDER} --id 'a b'"), 2, &["`a b` cannot be the id", "1 to 128"]),
        (format!("{ORDER} --id ''"), 2, &["cannot be the id", "1 to 128"]),
        (format!("{ORDER} --id ../../etc"), 2, &["cannot be the id", "1 to 128"]),
        (format!("{ORDER} --id {}", "a".repeat(129)), 2, &["cannot be the id", "1 to 128"]),
        (format!("{ORDER} --id '{{{{ input.orderid }}}}'"), 3, &["--id: `input.orderid` is missing"]),
        (format!("{ORDER} --id '{{{{ input.items }}}}'"), 3, &["--id gives", "which is no text"]),
        (format!("{ORDER} --id '{{{{ input.orderId'"), 2, &["is never closed"]),
        (format!("{ORDER} --limit steps"), 2, &["NAME=N", "definition_bytes"]),
        (format!("{ORDER} --limit stpes=3"), 2, &["no limit called `stpes`", "steps"]),
        (format!("{ORDER} --limit steps=many"), 2, &["must be a whole number"]),
        (format!("{ORDER} --limit steps=3"), 3, &["11 steps; the limit is 3", "--limit steps=N"]),
        (format!("{ORDER} --concurrency 0"), 2, &["1..=10000"]),
        (format!("{ORDER} --grace soon"), 2, &["`30s`"]),
        (format!("{ORDER} -o yaml"), 2, &["text, json, jsonl"]),
        (format!("{ORDER} --faults none.yaml"), 3, &["there is no file none.yaml"]),
        (format!("{ORDER} --faults f-step.yaml"), 3, &["f-step.yaml", "faults[0]", "`chrage`", "`charge`?"]),
        (format!("{ORDER} --faults f-word.yaml"), 3, &["f-word.yaml", "faults[0]: do: ", "did you mean `hang`?"]),
        (format!("{ORDER} --faults f-key.yaml"), 3, &["unknown key `fautls`"]),
        (format!("{ORDER} --faults f-open.yaml"), 3, &["f-open.yaml", "line 2, column 5: this `{` is never closed"]),
        (format!("{ORDER} --faults f-empty.yaml"), 3, &["f-empty.yaml", "has one key, `faults`"]),
        ("list --status done".into(), 2, &["completed"]),
        ("list --limit abc".into(), 2, &["the number of runs to list"]),
        ("list -n 0".into(), 2, &["'0'"]),
        ("handlers payment.chrge".into(), 8, &["Did you mean `payment.charge`?"]),
        ("graph --format svgg".into(), 2, &["ascii"]),
        ("graph nowhere".into(), 8, &["nowhere"]),
        ("schema foo".into(), 2, &["workflow, test, faults"]),
        ("validate none.yaml".into(), 8, &["there is no workflow file none.yaml"]),
        ("validate examples".into(), 8, &["there is no workflow file in examples"]),
    ];
    let rows: Vec<Row> = rows.into_iter().map(|(line, code, pieces)| (&*line.leak(), code, pieces)).collect();
    none(&hold(&place, &rows, || place.path(".flowrun").exists().then(|| "a store was made".into())));
}

/// B07, B10: what is at the store's path and is no store stays as it is.
#[test]
fn what_is_no_store_is_left_alone() {
    let place = Place::new();
    fs::create_dir(place.path("folder")).expect("a folder can be made");
    place.write("text.redb", "not a store, but long enough to be looked at");
    place.write("noise.redb", [0x5a; 100_000]);
    place.write("zero.redb", "");
    std::os::unix::fs::symlink("nowhere/x.redb", place.path("dangling.redb")).expect("a link can be made");
    std::os::unix::fs::symlink("loop.redb", place.path("loop.redb")).expect("a link can be made");
    let sound = Place::new();
    sound.run(&["exec", "--input", "examples/order.json"]).expect(0);
    let whole = fs::read(sound.path(".flowrun/flowrun.redb")).expect("there is a store");
    for length in [1, 320, 50_000, whole.len() - 50_000] {
        let name = if length < 60_000 { length.to_string() } else { "tables".to_owned() };
        place.write(&format!("cut-{name}.redb"), &whole[..length]);
    }
    let mut rows: Vec<(String, i32, &[&str])> = Vec::new();
    for verb in [ORDER, "list", "resume", "db check"] {
        let mut row = |store: &str, pieces| rows.push((format!("{verb} --store {store}"), 10, pieces));
        row("folder", &["folder is a folder; name the file in it"]);
        row("text.redb", &["text.redb is not a flowrun store; name another file"]);
        row("noise.redb", &["noise.redb is not a flowrun store"]);
        row("zero.redb", &["zero.redb is empty, not a flowrun store; remove it"]);
        row("/dev/null", &["/dev/null is not a regular file"]);
        row("dangling.redb", &["dangling.redb is a symbolic link that leads nowhere"]);
        row("loop.redb", &["loop.redb cannot be reached: "]);
        row("examples/order.json/x.redb", &["examples/order.json/x.redb cannot be reached: Not a directory"]);
        row("cut-1.redb", &["cut-1.redb is not a flowrun store"]);
        row("cut-320.redb", &["the file is damaged: it ends too early", "restore a backup"]);
        row("cut-50000.redb", &["the file is damaged: it ends too early", "restore a backup"]);
        row("cut-tables.redb", &["the file is damaged", "truncated", "restore a backup"]);
    }
    let rows: Vec<Row> = rows.into_iter().map(|(line, code, pieces)| (&*line.leak(), code, pieces)).collect();
    let before = fs::read(place.path("cut-tables.redb")).expect("it is there");
    none(&hold(&place, &rows, || {
        (fs::read(place.path("cut-tables.redb")).ok().as_ref() != Some(&before)).then(|| "the file was changed".into())
    }));
    assert_eq!(fs::read(place.path("noise.redb")).expect("it is there"), vec![0x5a; 100_000]);
    assert!(fs::read_dir(place.path("folder")).expect("it is there").next().is_none());
}

/// Verbs about runs, with and without a store.
#[test]
fn commands_about_runs_that_do_not_fit() {
    let place = Place::new();
    let rows: Vec<Row> = vec![
        ("list", 0, &["there is no store at .flowrun/flowrun.redb yet", "flowrun exec"]),
        ("resume", 0, &["there is no store"]),
        ("ledger", 0, &["there is no store"]),
        ("show", 8, &["there is no store"]),
        ("show x", 8, &["there is no run `x`", "--store"]),
        ("history x", 8, &["there is no run `x`"]),
        ("cancel x", 8, &["there is no run `x`"]),
        ("retry x", 8, &["there is no run `x`"]),
        ("compensate x", 8, &["there is no run `x`"]),
        ("signal x y", 8, &["there is no run `x`"]),
    ];
    none(&hold(&place, &rows, || place.path(".flowrun").exists().then(|| "a store was made".into())));

    place.write("workflows/gate.yaml", GATE);
    place.write("who.json", r#"{ "who": 5 }"#);
    for id in ["order-1", "order-2"] {
        place.run(&["exec", "ecommerce-order", "--input", "examples/order.json", "--id", id]).expect(0);
    }
    place.run(&["exec", "gate", "--no-wait", "--id", "g1"]).expect(7);
    let before = place.run(&["history", "g1", "-o", "json"]).expect(0).stdout;
    let order = "exec ecommerce-order --input examples/order.json";
    let changed = format!("{order} --id order-1 --set payment.attempts=2").leak();
    let rows: Vec<Row> = vec![
        ("exec", 2, &["which workflow?", "ecommerce-order, gate"]),
        ("exec gat", 8, &["Did you mean `gate`?"]),
        ("exec gate --id order-1", 9, &["`order-1` is taken", "`ecommerce-order`", "show order-1"]),
        (changed, 9, &["`order-1` is taken", "another configuration"]),
        ("show order", 2, &["beginning of several runs", "order-1", "order-2", "as much of the id"]),
        ("cancel order", 2, &["beginning of several runs"]),
        ("show nope", 8, &["there is no run `nope`", "flowrun list"]),
        ("show 'a b'", 8, &["there is no run `a b`"]),
        ("resume nope", 8, &["there is no run `nope`"]),
        ("signal g1 opne", 8, &["no step waits for a signal `opne`", "open"]),
        ("signal g1 open", 3, &["`open` does not fit", "null is not of type \"object\""]),
        ("signal g1 open --input who.json", 3, &["`/who`", "a number is not of type \"string\""]),
        ("signal g1 open --input whi.json", 3, &["there is no file whi.json", "`who.json`?"]),
        ("signal order-1 open", 9, &["order-1 is final: completed", "show order-1"]),
        ("cancel order-1", 9, &["order-1 is final: completed"]),
        ("retry order-1", 9, &["order-1 is final: completed"]),
        ("compensate order-1", 9, &["owes nothing"]),
        ("compensate order-1 --mark-done charge", 2, &["--reason"]),
        ("compensate order-1 --mark-done charge --reason x", 9, &["`charge` of run order-1 owes nothing"]),
        ("compensate order-1 --mark-done chrage --reason x", 8, &["no step `chrage`", "charge"]),
        ("retry g1", 9, &["g1 is waiting; only a parked run can be retried"]),
        ("compensate g1", 9, &["g1 is waiting", "`cancel`"]),
    ];
    none(&hold(&place, &rows, || None));
    assert_eq!(place.run(&["history", "g1", "-o", "json"]).expect(0).stdout, before, "what was refused left a trace");
    assert_eq!(place.ledger().len(), 12, "what was refused did something");
}

/// One bad line keeps nobody else from being run.
#[test]
fn bad_lines_are_named_and_passed_over() {
    let place = Place::new();
    let mut text = String::new();
    for line in ["one", "", "{ \"orderId\": 3,", "{}", "[]", "two"] {
        if matches!(line, "one" | "two") {
            place.order("line.json", |order| order["orderId"] = serde_json::json!(line));
            text.push_str(&fs::read_to_string(place.path("line.json")).expect("it was just written"));
        } else {
            text.push_str(line);
        }
        text.push('\n');
    }
    place.write("mixed.jsonl", &text);
    let ran = place.run(&["exec", "--input", "mixed.jsonl", "--id", "{{ input.orderId }}", "-o", "jsonl"]).expect(3);
    for said in
        ["line 3: column 16: ", "line 4: --id: `input.orderId` is missing", "line 5: --id: ", "2 completed, 3 refused"]
    {
        assert!(ran.stderr.contains(said), "{said:?} is not in\n{}", ran.stderr);
    }
    assert_eq!(ran.lines().len(), 2);
    // The same from a pipe.
    let fed = place.feed(&["exec", "--input", "-", "--id", "{{ input.orderId }}", "-o", "jsonl"], text.as_bytes());
    assert_eq!(fed.expect(3).lines().len(), 2);
    place.run(&["exec", "--input", "mixed.jsonl", "--id", "same"]).expect(2);
    assert_eq!(place.ledger().len(), 12);
}
