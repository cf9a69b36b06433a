//! What the parts of a step cost, each by itself and without a disk: the machine, a template, the journal's records; and
//! what a proof costs.
//!
//! `cargo bench --bench micro` runs it. The parts are those of `flowrun bench`: a step that passes an order of 500 bytes on.
//! What a step costs as a whole, and where, is in `docs/benchmarks.md`.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion};
use flowrun::definition::{Definition, Loaded, Overrides};
use flowrun::engine::Workflow;
use flowrun::limits::Limits;
use flowrun::machine::event::{CallId, CallKind, Entry, Event, Place, RunStarted};
use flowrun::machine::{Command, Input, Machine, key};
use flowrun::names::RunKey;
use flowrun::payload::Payload;
use flowrun::proof::{Proof, Verdict};
use flowrun::store::format;
use flowrun::template::{Scope, StepScope, Template};
use flowrun::time::{SystemClock, Timestamp};
use flowrun::{Registry, World};
use serde_json::{Value, json};

/// The same as in the program `flowrun`.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WORKFLOW: &str = r#"flowrun: 1
name: two
steps:
  first: { uses: core.pass, with: { order: "{{ input.order }}" } }
  second: { uses: core.pass, with: { order: "{{ steps.first.output.order }}" } }
"#;

const NOW: Timestamp = Timestamp(1_764_000_000_000);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    machine(&mut criterion);
    template(&mut criterion);
    journal(&mut criterion);
    proof(&mut criterion);
    criterion.final_summary();
}

/// The end of one attempt and the start of the next: the input is rendered and written, the key made.
fn machine(criterion: &mut Criterion) {
    let workflow = workflow();
    criterion.bench_function("machine: one step", |bencher| {
        bencher.iter_batched(
            || begun(&workflow),
            |(mut machine, ended)| {
                let advance = machine.advance(NOW, ended).expect("the step ends");
                (machine, black_box(advance))
            },
            BatchSize::SmallInput,
        );
    });
}

fn template(criterion: &mut Criterion) {
    let (with, errors) = Template::parse(&json!({ "order": "{{ steps.first.output.order }}" }));
    assert!(errors.is_empty(), "{errors:?}");
    let mut scope = Scope::default();
    let first = StepScope { status: "succeeded", output: Some(Arc::new(order())), ..StepScope::default() };
    scope.steps.insert("first".into(), first);
    let limits = Limits::default();
    criterion.bench_function("template: an order of 500 bytes", |bencher| {
        bencher.iter(|| black_box(&with).render(&scope, &limits).expect("the order is there"));
    });
}

fn journal(criterion: &mut Criterion) {
    let call = CallId { place: Place { step: "first".into(), item: None }, member: 0, kind: CallKind::Forward };
    let output = Payload::from_text(order().to_string()).expect("it is JSON");
    let entry = Entry { at: NOW, event: Event::CallSucceeded { call, attempt: 1, output } };
    criterion.bench_function("journal: encode an output of 500 bytes", |bencher| {
        bencher.iter(|| format::encode(black_box(&entry)));
    });
    let record = format::encode(&entry);
    criterion.bench_function("journal: decode an output of 500 bytes", |bencher| {
        bencher.iter(|| format::decode(black_box(&record)).expect("it was just encoded"));
    });
}

/// Returns a run whose first step is under way, and how that step ends.
fn begun(workflow: &Workflow) -> (Machine, Input) {
    let run = RunKey(uuid::Uuid::from_u128(7));
    let started = RunStarted {
        id: "order-1".into(),
        workflow: "two".into(),
        definition: workflow.fingerprint,
        input: Payload::of(order()),
        salt: key::salt([7; 16], run),
        deadline: None,
    };
    let (mut machine, _) = Machine::accept(run, Arc::clone(&workflow.plan), Limits::default(), started, NOW);
    let mut begun = machine.advance(NOW, Input::Begin).expect("a new run begins");
    let Some(Command::Call { call, attempt, input, .. }) = begun.commands.pop() else {
        panic!("the first step is called, not {:?}", begun.commands);
    };
    (machine, Input::Ended { call, attempt, result: Ok(input) })
}

fn workflow() -> Workflow {
    let definition = Definition {
        path: "two.yaml".to_owned(),
        text: WORKFLOW.to_owned(),
        files: indexmap::IndexMap::new(),
        config: json!({}),
    };
    let (loaded, findings) = definition.reopen(&Limits::default());
    assert!(findings.is_empty(), "{findings:?}");
    let loaded = loaded.expect("there are no findings");
    let handlers = Registry::new().build(&World::in_memory(Arc::new(SystemClock))).expect("built-in handlers");
    Workflow::compile(&loaded, &handlers.contracts()).expect("it compiles")
}

/// Returns what has an order of 500 bytes.
fn order() -> Value {
    let order = json!({
        "order_id": "order-1",
        "customer": { "name": "Ada", "email": "ada@example.test" },
        "items": [{ "sku": "A-100", "quantity": 2, "price": 1999 }],
        "note": "x".repeat(362),
    });
    json!({ "order": order })
}

/// The shipped workflow, and two of 200 steps, eight of them beside each other, from the definition that was read on.
fn proof(criterion: &mut Criterion) {
    let contracts = flowrun::orders::registry().contracts();
    let limits = Limits::default();
    let mut prove = |name: &str, loaded: &Loaded| {
        let plan = flowrun::plan::compile(loaded, &contracts).expect("the workflow is valid");
        criterion.bench_function(&format!("proof: {name}"), |bencher| {
            bencher.iter(|| {
                let proof = Proof::of(loaded, &plan, limits.states);
                assert_ne!(proof.verdict(), Verdict::LimitReached);
                proof
            });
        });
    };
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows/ecommerce-order.yaml");
    let (shipped, findings) = Definition::load(&path, &Overrides::default(), &limits);
    prove("the shipped order", &shipped.unwrap_or_else(|| panic!("{findings:?}")));
    for (name, text) in [("200 steps, eight wide", ladder(22, 8)), ("200 steps, densely linked", net(25, 8))] {
        let path = "large.yaml".to_owned();
        let definition = Definition { path, text, files: indexmap::IndexMap::new(), config: json!({}) };
        let (large, findings) = definition.reopen(&limits);
        prove(name, &large.unwrap_or_else(|| panic!("{findings:?}")));
    }
}

/// Returns a call of one of three kinds: a charge that is confirmed, a hold that is taken, and a mail that may fail.
fn call(kind: usize, order: &str) -> String {
    let key = "with: { order_id: o, key: \"{{ key }}\" }";
    match kind % 3 {
        0 => format!(
            "uses: payment.charge, with: {{ order_id: {order}, method: m, amount: 1 }}, retry: {{ attempts: 3 }}, \
             confirm: {{ uses: payment.lookup, {key} }}, compensate: {{ uses: payment.refund, {key} }}"
        ),
        1 => format!(
            "uses: inventory.take, with: {{ order_id: {order}, hold_id: h }}, retry: {{ attempts: 2 }}, \
             compensate: {{ uses: inventory.put_back, {key} }}"
        ),
        _ => format!(
            "uses: mail.send, with: {{ order_id: {order}, to: t, template: order_confirmed, data: {{}} }}, \
             compensate: {{ none: harmless }}, on_error: continue"
        ),
    }
}

/// Layers of `width` steps without any join between them: each reads three of the layer before, by whether they have an
/// output, so that a layer can be forgotten only when all of the next one has had its turn.
fn net(layers: usize, width: usize) -> String {
    let mut text = String::from("flowrun: 1\nname: net\nsteps:\n");
    for layer in 0..layers {
        for branch in 0..width {
            let read: Vec<String> = match layer {
                0 => Vec::new(),
                _ => [branch, 3 * branch + 1, 5 * branch + 2]
                    .map(|on| format!("s{}_{}", layer - 1, (on + layer) % width))
                    .to_vec(),
            };
            let when = match (layer + branch) % 10 {
                0 => format!("when: input.x{layer} > {branch}, "),
                _ => String::new(),
            };
            let there: Vec<String> = read.iter().map(|step| format!("steps.{step}.output is defined")).collect();
            let order = match there.join(" and ") {
                none if none.is_empty() => "o".to_owned(),
                all => format!("\"{{{{ 'o' if {all} else 'p' }}}}\""),
            };
            let needs = format!("needs: [{}], on_skip: run, timeout: 10s", read.join(", "));
            text.push_str(&format!("  s{layer}_{branch}: {{ {when}{needs}, {} }}\n", call(branch + layer, &order)));
        }
    }
    text
}

/// Forks into `width` branches and joins them, again and again: charges that are confirmed, labels with a fallback, mails
/// that may fail, and now and then one that is only made on a condition.
fn ladder(layers: usize, width: usize) -> String {
    let mut text = String::from("flowrun: 1\nname: ladder\nsteps:\n  join0: { uses: core.pass }\n");
    for layer in 1..=layers {
        for branch in 0..width {
            let needs = format!("needs: [join{}], timeout: 10s", layer - 1);
            let when =
                if (layer + branch) % 10 == 0 { format!(", when: input.x{layer} > {branch}") } else { String::new() };
            let call = call(branch, "o");
            text.push_str(&format!("  s{layer}_{branch}: {{ {needs}{when}, {call} }}\n"));
        }
        let needs: Vec<String> = (0..width).map(|branch| format!("s{layer}_{branch}")).collect();
        text.push_str(&format!("  join{layer}: {{ needs: [{}], uses: core.pass }}\n", needs.join(", ")));
    }
    text
}
