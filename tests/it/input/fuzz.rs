//! Arbitrary and damaged bytes for everything that reads bytes: an answer or an error, and never a panic, an abort or a
//! great deal of memory.
//!
//! `FLOWRUN_FUZZ=N` tries N inputs for each reader instead of the default, and prints those that take longer than a
//! second; `FLOWRUN_FUZZ_SEED=N` tries others. An input that fails goes into `tests/corpus`, in the folder of its reader,
//! under a name that says what is the matter with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use flowrun::check::check;
use flowrun::definition::{self, Definition};
use flowrun::diag::{SourceFile, Style, json, text};
use flowrun::dsl::json::read_json;
use flowrun::faults::Faults;
use flowrun::limits::Limits;
use flowrun::payload::Payload;
use flowrun::scenario::{TestOptions, run_files};
use flowrun::store::format;
use flowrun::template::{Expression, Scope, Template};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json as value};

use crate::contracts::contracts;

/// How much memory all readers together may have used at their worst.
const PEAK_MAX_KIB: u64 = 200 << 10;

type Reader = fn(&[u8]);

/// What reads bytes, its folder in the corpus, and how many inputs it is given by default.
const READERS: &[(&str, Reader, u32)] = &[
    ("workflow", workflow, 150),
    ("json", json_input, 1_500),
    ("template", template, 1_000),
    ("record", record, 3_000),
    ("definition", stored_definition, 150),
    ("faults", faults, 300),
    ("test", test_file, 40),
];

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `validate`: every finding lies in the file and can be shown.
fn workflow(bytes: &[u8]) {
    let file = match definition::source("a.yaml", bytes.to_vec()) {
        Ok(file) => file,
        Err((file, finding)) => {
            assert!(!text(&finding, &file, Style::default()).is_empty());
            return;
        }
    };
    look_at(&file, value!({}));
}

fn look_at(file: &SourceFile, config: Value) {
    let definition =
        Definition { path: "a.yaml".into(), text: file.text.to_string(), files: indexmap::IndexMap::new(), config };
    let (loaded, mut findings) = definition.reopen(&Limits::default());
    assert!(loaded.is_some() || !findings.is_empty(), "neither a document nor a finding");
    if let Some(loaded) = &loaded {
        findings.extend(check(loaded, &contracts()));
        let _ = flowrun::plan::compile(loaded, &contracts());
    }
    for (n, finding) in findings.iter().enumerate() {
        assert!(finding.span.end() <= file.text.len(), "{finding:?}");
        assert!(file.text.is_char_boundary(finding.span.start), "{finding:?}");
        assert!(file.text.is_char_boundary(finding.span.end()), "{finding:?}");
        if n < 20 {
            assert!(json(finding, file)["line"].as_u64().is_some_and(|line| line > 0));
            assert!(!text(finding, file, Style::default()).is_empty());
        }
    }
}

/// What is read is what another reader reads, and the same when it is written and read again.
fn json_input(bytes: &[u8]) {
    let text = text_of(bytes);
    match read_json(&text, &Limits::default()) {
        // Large ones are there to see what the reader itself takes.
        Ok(_) if bytes.len() > 100_000 => {}
        Ok(read) => {
            let other: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).expect("both readers read it");
            assert_eq!(read, other);
            assert_eq!(read_json(&read.to_string(), &Limits::default()), Ok(read));
        }
        Err(error) => assert!(error.line > 0 && error.column > 0 && !error.message.is_empty()),
    }
}

fn template(bytes: &[u8]) {
    let text = text_of(bytes);
    let mut scope = Scope::default();
    let input = value!({ "a": [1, 2.5, "x"], "b": { "c": null, "d": "{{ 7*7 }}" }, "big": u64::MAX });
    scope.vars.insert("input".into(), Arc::new(input));
    for whole in [text.clone(), format!("{{{{ {text} }}}}"), format!("{{% for x in input.a %}}{text}{{% endfor %}}")] {
        let (template, errors) = Template::parse(&value!(whole));
        for (_, error) in &errors {
            assert!(error.range.clone().is_none_or(|range| whole.get(range).is_some()), "{error:?}");
        }
        if let Ok(rendered) = template.render(&scope, &Limits::default()) {
            let payload = Payload::of(rendered);
            assert!(payload.text().len() <= 8 << 20, "{} bytes", payload.text().len());
        }
    }
    if let Ok(expression) = Expression::parse(&text) {
        let _ = expression.holds(&scope, &Limits::default());
    }
}

/// Records as they come, and with their checksum put right, as if somebody had edited them with care.
fn record(bytes: &[u8]) {
    let _ = format::decode(bytes);
    for flags in [0, 1] {
        let mut record = vec![format::VERSION, flags, 0, 0, 0, 0];
        record.extend_from_slice(bytes);
        let mut sum = crc32fast::Hasher::new();
        sum.update(&record[..2]);
        sum.update(&record[format::HEADER..]);
        record[2..format::HEADER].copy_from_slice(&sum.finalize().to_le_bytes());
        if let Ok(entry) = format::decode(&record) {
            assert!(!format!("{entry:?}").is_empty());
            assert!(format::decode(&format::encode(&entry)).is_ok());
        }
    }
}

/// A definition as a store has it, and the text of one inside of it.
fn stored_definition(bytes: &[u8]) {
    if let Ok(definition) = serde_json::from_slice::<Definition>(bytes) {
        let _ = definition.fingerprint();
        let _ = definition.reopen(&Limits::default());
    }
    let files = indexmap::IndexMap::from([("a.json".to_owned(), text_of(bytes))]);
    let text =
        "flowrun: 1\nname: a\ninput: { $ref: a.json }\nsteps: { a: { uses: core.pass, with: '{{ input.x }}' } }\n";
    let (loaded, _) =
        Definition { path: "a.yaml".into(), text: text.into(), files, config: value!({}) }.reopen(&Limits::default());
    if let Some(loaded) = loaded {
        let _ = check(&loaded, &contracts());
    }
}

fn faults(bytes: &[u8]) {
    if let Err(problems) = Faults::parse(&text_of(bytes), &Limits::default()) {
        assert!(!problems.is_empty());
    }
}

/// A test file, none of whose scenarios is played.
fn test_file(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.test.yaml");
    std::fs::write(&path, bytes).expect("the file can be written");
    std::fs::write(folder.path().join("a.yaml"), &GOOD["workflow"][0]).expect("the file can be written");
    let options = TestOptions {
        filter: Some("no scenario is called so".into()),
        limits: Limits::default(),
        ..TestOptions::default()
    };
    let _ = run_files(&[path], &flowrun::orders::registry(), &options);
}

/// Files that are in order, to be damaged.
static GOOD: std::sync::LazyLock<BTreeMap<&str, Vec<Vec<u8>>>> = std::sync::LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read(root.join(name)).expect("the file is there");
    let whole = read("tests/cases/dsl/good-whole.yaml");
    let order = read("workflows/ecommerce-order.yaml");
    let definition = Definition {
        path: "a.yaml".into(),
        text: text_of(&order),
        files: indexmap::IndexMap::from([(
            "../schemas/order.schema.json".into(),
            text_of(&read("schemas/order.schema.json")),
        )]),
        config: value!({ "a": 1 }),
    };
    let stored = serde_json::to_vec(&definition).expect("a definition is JSON");
    let event = format::encode(&flowrun::machine::event::Entry {
        at: flowrun::time::Timestamp(1_800_000_000_000),
        event: flowrun::machine::event::Event::RunParked { code: "step".into(), message: "x".repeat(20_000) },
    });
    BTreeMap::from([
        ("workflow", vec![whole, order]),
        ("json", vec![read("examples/order.json"), br#"{"a": [1, -2.5e3, "\u00e4\ud83d\ude00", null, {"b": true}]}"#.to_vec()]),
        (
            "template",
            vec![
                b"{{ input.a | map('upper') | join(', ') ~ (input.big // 3) if input.b.c is none else [1, {'k': 2}] }}".to_vec(),
                b"{% set x = 'a' * 3 %}{% for i in range(5) if i %}{{ loop.index }}{{ x | replace('a', 'b') | indent(2) }}{% endfor %}".to_vec(),
            ],
        ),
        ("record", vec![event.clone(), event[format::HEADER..].to_vec()]),
        ("definition", vec![stored, read("schemas/order.schema.json")]),
        ("faults", vec![b"faults:\n  - { step: charge, attempts: 1-2, do: { error: a.b, kind: retryable } }\n  - { handler: x, do: hang }\n".to_vec()]),
        (
            "test",
            vec![b"flowrun_test: 1\nworkflow: a.yaml\nbase: { input: {}, seed: 1 }\nscenarios:\n  s: { faults: [], then: [], runs: { count: 2, input: { a: '{{ index }}' } }, expect: { status: completed } }\n".to_vec()],
        ),
    ])
});

/// Pieces that mean something to one reader or another.
const PIECES: &[&str] = &[
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    ":",
    ": ",
    "\n",
    "\n  ",
    "\t",
    "#",
    " #",
    "&a ",
    "*a",
    "|\n",
    ">-\n",
    "- ",
    "? ",
    "<<: ",
    "!x ",
    "---\n",
    "%",
    "\\",
    "\\ud800",
    "\u{e4}",
    "\u{1f600}",
    "\u{200b}",
    "\u{feff}",
    "\r\n",
    "null",
    "9e999",
    "-0",
    "18446744073709551616",
    "0.1000000000000000001",
    ", ",
    "@",
    "if: ",
    "not ",
    " ** 9",
    "range(9999999)",
    "'x' * 99999999",
    " | tojson(indent=99999999)",
    "(",
    ")",
    "(a+)+$",
    "$ref",
    "#",
    "%2",
    "..",
    "steps.",
    "input.a",
    "\0",
    "\u{ffff}",
];

/// What is done to a file.
#[derive(Clone, Debug)]
enum Damage {
    /// Bytes at a place are replaced by a piece, so many times over.
    Piece(usize, usize, usize, usize),
    /// A byte is another one.
    Byte(usize, u8),
    /// The rest is gone.
    Cut(usize),
    /// A part is doubled.
    Twice(usize, usize),
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let at = |place: &usize| place % (bytes.len() + 1);
        match damage {
            Damage::Piece(place, less, piece, times) => {
                let (from, piece) = (at(place), PIECES[piece % PIECES.len()]);
                let to = (from + less).min(bytes.len());
                bytes.splice(from..to, piece.repeat(*times).into_bytes());
            }
            Damage::Byte(place, byte) => {
                let place = at(place);
                if let Some(target) = bytes.get_mut(place) {
                    *target = *byte;
                }
            }
            Damage::Cut(place) => bytes.truncate(at(place)),
            Damage::Twice(from, to) => {
                let (from, to) = (at(from).min(at(to)), at(from).max(at(to)));
                let part = bytes[from..to].to_vec();
                bytes.splice(to..to, part);
            }
        }
    }
    bytes
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = || any::<usize>();
    // Most pieces come once; now and then one comes so often that it is a file of its own.
    let times = prop_oneof![20 => Just(1_usize), 3 => 2..50_usize, 1 => 1_000..20_000_usize];
    prop_oneof![
        6 => (place(), 0..9_usize, place(), times).prop_map(|(at, less, piece, times)| Damage::Piece(at, less, piece, times)),
        2 => (place(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        1 => place().prop_map(Damage::Cut),
        1 => (place(), place()).prop_map(|(from, to)| Damage::Twice(from, to)),
    ]
}

fn bytes_for(reader: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::collection::vec((0..PIECES.len(), 1..4_usize), 0..40).prop_map(|pieces| {
        pieces.iter().map(|(piece, times)| PIECES[*piece].repeat(*times)).collect::<String>().into_bytes()
    });
    let good = (0..GOOD[reader].len(), prop::collection::vec(damage(), 1..5))
        .prop_map(move |(which, damages)| damaged(GOOD[reader][which].clone(), &damages));
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..300), 2 => pieces, 5 => good]
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("it is a number"))
}

/// Returns the most memory that this process has had, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel says it");
    line.trim().trim_end_matches(" kB").parse().expect("it is a number")
}

fn try_reader(name: &'static str, read: Reader, default: u32) {
    let cases = number("FLOWRUN_FUZZ").map_or(default, |n| u32::try_from(n).expect("it is small enough"));
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number("FLOWRUN_FUZZ_SEED").unwrap_or(0).to_le_bytes());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let result = runner.run(&bytes_for(name), |bytes| {
        watched(name, read, &bytes);
        Ok(())
    });
    if let Err(proptest::test_runner::TestError::Fail(why, bytes)) = &result {
        println!("`{name}` fails: {why}\n{:?}\n{bytes:?}", text_of(bytes));
        panic!("`{name}` fails");
    }
    result.expect("inputs can be made");
}

/// Reads, and says so if that took long. How long it may take is not asserted: it is the machine's as much as ours.
fn watched(name: &str, read: Reader, bytes: &[u8]) {
    #[expect(clippy::disallowed_methods, reason = "slow inputs are to be found, in long runs by hand")]
    let begun = std::time::Instant::now();
    read(bytes);
    let took = begun.elapsed();
    if took.as_millis() > 1_000 && std::env::var_os("FLOWRUN_FUZZ").is_some() {
        let start: String = text_of(bytes).chars().take(200).collect();
        eprintln!("slow: {name} took {took:?} for {} bytes: {start:?}", bytes.len());
    }
}

/// Returns the files of the corpus, each with its reader's folder.
fn corpus() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files = Vec::new();
    for folder in std::fs::read_dir(root).expect("there is a corpus") {
        let folder = folder.expect("the folder can be read").path();
        let name = folder.file_name().expect("it has a name").to_string_lossy().into_owned();
        for file in std::fs::read_dir(&folder).expect("the folder can be read") {
            files.push((name.clone(), file.expect("the folder can be read").path()));
        }
    }
    files.sort();
    files
}

#[test]
fn f14_every_input_of_the_corpus_is_answered() {
    let files = corpus();
    assert!(files.len() >= READERS.len(), "only {} files", files.len());
    for (name, path) in files {
        let reader = READERS.iter().find(|(reader, ..)| *reader == name);
        let (_, read, _) = reader.unwrap_or_else(|| panic!("no reader is called {name}"));
        read(&std::fs::read(&path).expect("the file can be read"));
    }
}

/// What a mistake costs grows with its size and not faster: large files of one thing over and over.
fn large_inputs() -> Vec<(&'static str, Vec<u8>)> {
    let list = |piece: &str, times: usize| format!("[{}0]", piece.repeat(times)).into_bytes();
    let head = "flowrun: 1\nname: a\nsteps:\n";
    let step =
        |i: usize| format!("  s{i}: {{ uses: core.pass, needs: [q{i}], with: {{ a: '{{{{ input.x{i} }}}}' }} }}\n");
    vec![
        ("json", list("[0],", 260_000)),
        ("json", list("{},", 340_000)),
        ("json", list("0,", 500_000)),
        ("json", list("\"\\u00e4\",", 110_000)),
        ("workflow", format!("{head}{}", (0..990).map(step).collect::<String>()).into_bytes()),
        (
            "workflow",
            format!("{head}  a: {{ uses: core.pass, with: [{}1] }}\n", "'{{ 1 }}', ".repeat(40_000)).into_bytes(),
        ),
        ("workflow", format!("{head}  a: {{ uses: core.pass, needs: [{}a] }}\n", "b, ".repeat(150_000)).into_bytes()),
        ("workflow", format!("{head}{}", "  - a\n".repeat(150_000)).into_bytes()),
        ("template", format!("{{{{ {} }}}}", "[1] + ".repeat(10_000)).into_bytes()),
        ("faults", format!("faults: [{}]", "{ step: a }, ".repeat(70_000)).into_bytes()),
        ("faults", "[".repeat(100_000).into_bytes()),
        ("definition", format!("{{\"enum\": [{}0]}}", "1,".repeat(400_000)).into_bytes()),
    ]
}

/// Runs every reader with arbitrary, damaged and large inputs in a process of its own, and looks at the memory it needed.
#[test]
fn f14_every_reader_answers_within_200_mib() {
    let program = std::env::current_exe().expect("the tests run from a file");
    let mut child = Command::new(program);
    child.args(["input::fuzz::f14_in_a_process_of_its_own", "--exact", "--nocapture", "--include-ignored"]);
    let run = child.output().expect("the tests can be started");
    let (said, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{:?}\n{said}\n{errors}", run.status);
    let peak = said.lines().find_map(|line| line.split("peak of ").nth(1)?.split(' ').next()?.parse::<u64>().ok());
    let peak = peak.unwrap_or_else(|| panic!("it does not say how much memory it took:\n{said}"));
    assert!(peak < PEAK_MAX_KIB, "{} MiB", peak >> 10);
    if std::env::var_os("FLOWRUN_FUZZ").is_some() {
        println!("{said}{errors}");
    }
}

#[test]
#[ignore = "is run by `f14_every_reader_answers_within_200_mib`"]
fn f14_in_a_process_of_its_own() {
    std::panic::set_hook(Box::new(|_| {}));
    for (name, bytes) in large_inputs() {
        let (_, read, _) = READERS.iter().find(|(reader, ..)| *reader == name).expect("it is a reader");
        watched(name, *read, &bytes);
        let start: String = text_of(&bytes).chars().take(60).collect();
        println!("{name} has read {start:?}: peak of {} KiB so far", peak_kib());
    }
    for (name, read, default) in READERS {
        try_reader(name, *read, *default);
        println!("{name}: peak of {} KiB so far", peak_kib());
    }
    println!("peak of {} KiB", peak_kib());
}
