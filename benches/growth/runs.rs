//! Curves of single runs: more steps, more items, larger payloads.

use std::fmt::Write as _;

use flowrun::bench::order;
use flowrun::limits::Limits;
use serde_json::{Value, json};

use super::Row;
use super::kit::{Place, Took, runtime};

const STEP: [&str; 2] = ["µs a step", "of them processor"];

/// About how many steps or items are measured for each size.
const STEPS: u64 = 4_000;

pub(crate) fn chain(sizes: &[u64]) -> Vec<Row> {
    let measure = |steps: u64| {
        let place = Place::fresh(Limits { steps: steps.max(1_000), ..Limits::default() });
        let runs = (STEPS / steps).max(1);
        let took = go(&place, &chained(steps), &json!({ "order": order("order-1") }), runs);
        row("steps", steps, runs, took.each(STEP, runs * steps))
    };
    sizes.iter().copied().map(measure).collect()
}

pub(crate) fn fan_out(sizes: &[u64]) -> Vec<Row> {
    let text = "flowrun: 1\nname: fan-out\nsteps:\n  each: { foreach: input.items, uses: core.pass, \
                with: { item: '{{ item }}' } }\noutput: { count: '{{ steps.each.output | length }}' }\n";
    let measure = |items: u64| {
        let place = Place::fresh(Limits { items: items.max(10_000), ..Limits::default() });
        let runs = (STEPS / items).max(1);
        let list: Vec<Value> = (0..items).map(|n| json!({ "sku": format!("A-{n}"), "quantity": 2 })).collect();
        let took = go(&place, text, &json!({ "items": list }), runs);
        row("items", items, runs, took.each(["µs an item", "of them processor"], runs * items))
    };
    sizes.iter().copied().map(measure).collect()
}

pub(crate) fn payload(sizes: &[u64]) -> Vec<Row> {
    const CHAIN: u64 = 6;
    let measure = |bytes: u64| {
        let limit = (4 * bytes).max(1 << 20);
        let limits = Limits { payload_bytes: limit, input_bytes: limit, rendered_bytes: limit, ..Limits::default() };
        let place = Place::fresh(limits);
        let runs = (STEPS / CHAIN).min((24 << 20) / bytes).max(4);
        let took = go(&place, &chained(CHAIN), &json!({ "order": text_of(bytes) }), runs);
        let each = took.each(STEP, runs * CHAIN);
        let by_kib = each[1].1.as_f64().unwrap_or(f64::NAN) / (bytes as f64 / 1_024.0);
        let mut row = row("bytes", bytes, runs, each);
        row.push(("processor µs a KiB", json!(by_kib)));
        row
    };
    sizes.iter().copied().map(measure).collect()
}

fn row(name: &'static str, size: u64, runs: u64, each: [(&'static str, Value); 2]) -> Row {
    let mut row = vec![(name, json!(size)), ("runs", json!(runs))];
    row.extend(each);
    row
}

/// Runs a workflow so often, one run after the other, after a first one that is not counted.
fn go(place: &Place, text: &str, input: &Value, runs: u64) -> Took {
    let workflow = place.workflow(text);
    let runtime = runtime();
    let once = || drop(runtime.block_on(place.run(&workflow, input.clone())));
    once();
    Took::of(|| (0..runs).for_each(|_| once()))
}

/// Returns a workflow of so many steps, each of which passes on what the one before it has passed on.
fn chained(steps: u64) -> String {
    let mut text = "flowrun: 1\nname: chain\nsteps:\n".to_owned();
    for n in 0..steps {
        let from = if n == 0 { "input".to_owned() } else { format!("steps.s{}.output", n - 1) };
        writeln!(text, "  s{n}: {{ uses: core.pass, with: {{ order: '{{{{ {from}.order }}}}' }} }}").expect("a String");
    }
    let _ = writeln!(text, "output: {{ order: '{{{{ steps.s{}.output.order }}}}' }}", steps.saturating_sub(1));
    text
}

/// Returns a text of so many bytes that does not get much smaller when it is compressed.
fn text_of(bytes: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = 1_u64;
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(LETTERS[(state >> 58) as usize])
    };
    (0..bytes).map(letter).collect()
}
