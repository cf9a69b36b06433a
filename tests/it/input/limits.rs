//! Every limit by its name: what is one below it and what is at it goes through, what is one above does not.

use flowrun::diag::{Finding, SourceFile};
use flowrun::dsl;
use flowrun::dsl::json::read_json;
use flowrun::limits::Limits;
use flowrun::template::{Expression, Scope, Template};
use serde_json::json;

use super::nested;
use crate::lab::{Act, Lab};
use crate::program::Place;

const SMALL: &str = "flowrun: 1\nname: a\nsteps: { a: { uses: core.pass } }\n";

/// A way to come up to a limit: the limit that is set, the amounts around it are tried by `uses`, which returns what is
/// said when it is refused.
struct Probe {
    limit: &'static str,
    value: u64,
    uses: fn(&Limits, usize) -> Option<String>,
}

const PROBES: &[Probe] = &[
    Probe { limit: "definition_bytes", value: 200, uses: definition },
    Probe { limit: "input_bytes", value: 50, uses: input },
    Probe { limit: "nesting", value: 9, uses: nesting_of_yaml },
    Probe { limit: "nesting", value: 9, uses: nesting_of_json },
    Probe { limit: "aliases", value: 7, uses: aliases },
    Probe { limit: "steps", value: 12, uses: steps },
    Probe { limit: "items", value: 6, uses: items },
    Probe { limit: "items", value: 3, uses: signals },
    Probe { limit: "payload_bytes", value: 100, uses: payload_in },
    Probe { limit: "payload_bytes", value: 100, uses: payload_out },
    Probe { limit: "payload_bytes", value: 100, uses: payload_of_signal },
    Probe { limit: "events", value: 40, uses: events },
    Probe { limit: "template_fuel", value: 300, uses: fuel },
    Probe { limit: "rendered_bytes", value: 1_000, uses: rendered },
    Probe { limit: "states", value: 50, uses: states },
];

#[test]
fn f03_every_limit_holds_at_one_less_at_itself_and_at_one_more() {
    let mut wrong = Vec::new();
    for name in Limits::NAMES {
        if !PROBES.iter().any(|probe| probe.limit == *name) {
            wrong.push(format!("the limit `{name}` has no probe"));
        }
    }
    for Probe { limit, value, uses } in PROBES {
        let mut limits = Limits::default();
        limits.set(limit, *value).expect("it is a limit");
        let amount = usize::try_from(*value).expect("it is small");
        for fits in [amount - 1, amount] {
            if let Some(said) = uses(&limits, fits) {
                wrong.push(format!("`{limit}` is {value}, and {fits} is refused: {said}"));
            }
        }
        match uses(&limits, amount + 1) {
            None => wrong.push(format!("`{limit}` is {value}, and {} goes through", amount + 1)),
            Some(said) if !said.contains(&format!("--limit {limit}=N")) => {
                wrong.push(format!("`{limit}` is not named with `--limit {limit}=N`: {said}"));
            }
            Some(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn f03_every_limit_stands_in_the_guide_and_its_default_is_what_it_says() {
    let guide = include_str!("../../../docs/workflows.md");
    let section = guide.split("## Limits").nth(1).expect("the guide has a section on limits");
    let defaults = serde_json::to_value(Limits::default()).expect("limits are numbers");
    for name in Limits::NAMES {
        let default = defaults[name].as_u64().expect("it is a number");
        let row = section.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("`{name}` is not in the table"));
        let shown = if name.ends_with("_bytes") && default >= 1 << 20 {
            format!("{} MiB", default >> 20)
        } else {
            grouped(default)
        };
        assert!(row.contains(&format!("| {shown} |")), "{row}: the default is {shown}");
    }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    if digits.len() <= 3 {
        return digits;
    }
    let (thousands, rest) = digits.split_at(digits.len() - 3);
    format!("{},{rest}", grouped(thousands.parse().expect("they are digits")))
}

fn told(findings: Vec<Finding>) -> Option<String> {
    let first = findings.into_iter().next()?;
    Some(format!("{} {}", first.message, first.help.unwrap_or_default()))
}

fn read(text: &str, limits: &Limits) -> Option<String> {
    told(dsl::parse(&SourceFile::new("a.yaml", text), limits).1)
}

fn definition(limits: &Limits, bytes: usize) -> Option<String> {
    let text = format!("{SMALL}#{}\n", "x".repeat(bytes - SMALL.len() - 2));
    assert_eq!(text.len(), bytes);
    read(&text, limits)
}

/// The one limit that the program itself holds: whatever comes from a file or a pipe.
fn input(limits: &Limits, bytes: usize) -> Option<String> {
    let place = Place::new();
    place.write("a.yaml", SMALL);
    place.write("input.json", format!("\"{}\"", "x".repeat(bytes - 2)));
    let limit = format!("input_bytes={}", limits.input_bytes);
    let ran = place.run(&["exec", "a.yaml", "--input", "input.json", "--limit", &limit]);
    (ran.code() != Some(0)).then_some(ran.stderr)
}

fn nesting_of_yaml(limits: &Limits, levels: usize) -> Option<String> {
    read(&format!("{SMALL}config: {{ a: {} }}\n", nested(levels - 2)), limits)
}

fn nesting_of_json(limits: &Limits, levels: usize) -> Option<String> {
    read_json(&nested(levels).to_string(), limits).err().map(|error| error.to_string())
}

fn aliases(limits: &Limits, count: usize) -> Option<String> {
    read(&format!("{SMALL}config: {{ x: &x 1, y: [{}] }}\n", vec!["*x"; count].join(", ")), limits)
}

fn steps(limits: &Limits, count: usize) -> Option<String> {
    let all: String = (0..count).map(|i| format!("  s{i}: {{ uses: core.pass }}\n")).collect();
    read(&format!("flowrun: 1\nname: a\nsteps:\n{all}"), limits)
}

/// Proves a workflow that has as many states as it has; the limit is as far from them as `count` is from the limit.
fn states(limits: &Limits, count: usize) -> Option<String> {
    let place = tempfile::tempdir().expect("a folder");
    std::fs::write(place.path().join("a.yaml"), SMALL).expect("it can be written");
    let verify = |limit: u64| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_flowrun"));
        let limit = format!("states={limit}");
        let command = command.current_dir(place.path()).args(["verify", "a.yaml", "-o", "json", "--limit", &limit]);
        let answer = command.output().expect("flowrun can be started").stdout;
        serde_json::from_slice::<serde_json::Value>(&answer).expect("the answer is JSON")["files"][0].clone()
    };
    let needed = verify(1_000_000)["states"].as_u64().expect("a number");
    let proof = verify(needed + limits.states - count as u64);
    (proof["verdict"] != "proved").then(|| proof["help"].to_string())
}

/// Runs a workflow, and returns the error with which it failed.
fn failure(mut lab: Lab, limits: &Limits, input: serde_json::Value) -> Option<String> {
    lab.limits = limits.clone();
    let report = lab.run(input);
    report.error.map(|error| serde_json::to_string(&error).expect("errors are JSON"))
}

fn items(limits: &Limits, count: usize) -> Option<String> {
    failure(Lab::new("steps: { a: { foreach: input.l, uses: read } }"), limits, json!({ "l": vec![1; count] }))
}

/// Sends signals that nothing takes yet, and returns what is said of the last.
fn signalled(limits: &Limits, count: usize, data: serde_json::Value) -> Option<String> {
    let mut lab = Lab::new("steps: { a: { wait: { for: 1h } }, b: { needs: [a], wait: { signal: go } } }");
    lab.limits = limits.clone();
    let workflow = lab.workflow();
    lab.life(|engine| async move {
        let submission = flowrun::engine::Submission { workflow, input: json!({}), id: None };
        let run = engine.submit(submission).await.expect("it starts").run;
        let mut last = None;
        for _ in 0..count {
            last = engine.signal(run, None, "go".into(), data.clone()).await.err().map(|error| error.to_string());
        }
        last
    })
}

fn signals(limits: &Limits, count: usize) -> Option<String> {
    signalled(limits, count, json!(1))
}

fn payload_of_signal(limits: &Limits, bytes: usize) -> Option<String> {
    signalled(limits, 1, json!("x".repeat(bytes - 2)))
}

fn payload_in(limits: &Limits, bytes: usize) -> Option<String> {
    let lab = Lab::new("steps: { a: { uses: read, with: '{{ input.t }}' } }").script("read a", [Act::Return(json!(1))]);
    failure(lab, limits, json!({ "t": "x".repeat(bytes - 2) }))
}

fn payload_out(limits: &Limits, bytes: usize) -> Option<String> {
    let lab = Lab::new("steps: { a: { uses: read } }").script("read a", [Act::Return(json!("x".repeat(bytes - 2)))]);
    failure(lab, limits, json!({}))
}

/// A run of many steps, cut to `count` events while it goes forward: a wait adds two events, a call adds three.
fn events(limits: &Limits, count: usize) -> Option<String> {
    let run = |steps: usize, limits: &Limits| {
        let step = |i: usize| match i {
            0 => "s0: { uses: read }".to_owned(),
            _ => format!("s{i}: {{ uses: read, needs: [s{}] }}", i - 1),
        };
        let all: Vec<String> = (0..steps).map(step).collect();
        let mut lab = Lab::new(&format!("steps: {{ {} }}", all.join(", ")));
        lab.limits = limits.clone();
        let report = lab.run(json!({}));
        (lab.history().len(), report.error.map(|error| serde_json::to_string(&error).expect("errors are JSON")))
    };
    // The limit is moved and not the run, since a run has as many events as its steps make: it ends with its last event,
    // so it goes through where that one is within the limit.
    let (needed, none) = run(10, &Limits::default());
    assert_eq!(none, None);
    let room = (limits.events + needed as u64).saturating_sub(count as u64);
    run(10, &Limits { events: room, ..limits.clone() }).1
}

/// A list of `n` constants takes a unit for itself and one for each constant; copying them into the list takes the rest.
fn fuel(limits: &Limits, amount: usize) -> Option<String> {
    let list = |n: usize| Expression::parse(&format!("[{}]", vec!["1"; n].join(", "))).expect("it is an expression");
    let needs = |n: usize| {
        let enough = |fuel: u64| {
            let limits = Limits { template_fuel: fuel, ..Limits::default() };
            list(n).eval(&Scope::default(), &limits).is_ok()
        };
        (1..).find(|fuel| enough(*fuel)).expect("some amount is enough")
    };
    let needed = needs(200);
    let room = (limits.template_fuel + needed).saturating_sub(amount as u64);
    let limits = Limits { template_fuel: room, ..limits.clone() };
    let error = list(200).eval(&Scope::default(), &limits).err()?;
    Some(format!("{} {}", error.message, error.help.unwrap_or_default()))
}

fn rendered(limits: &Limits, bytes: usize) -> Option<String> {
    let (template, errors) = Template::parse(&json!(format!("{}{{{{ 1 }}}}", "x".repeat(bytes - 1))));
    assert_eq!(errors, []);
    let error = template.render(&Scope::default(), limits).err()?;
    Some(format!("{} {}", error.message, error.help.unwrap_or_default()))
}
