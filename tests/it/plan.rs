//! Plans, their drawings, and how long it takes to make them.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use flowrun::check::check;
use flowrun::definition::{Definition, Loaded, Overrides};
use flowrun::limits::Limits;
use flowrun::plan::{self, Action, OnError, Plan, Wait, WaitLimit, draw};

use crate::contracts::contracts;

const ORDER: &str = r#"
flowrun: 1
name: order
config: { timeout: 30s, attempts: 3 }
deadline: 1h
services:
  gateway: { breaker: { failures: 5, within: 60s, cooldown: 30s }, concurrency: 32 }
retries:
  gateway: { attempts: 9, delay: 200ms, max_delay: 5s, errors: [payment.unavailable, timeout] }
defaults:
  payment.charge:
    service: gateway
    timeout: "{{ config.timeout }}"
    retry: { use: gateway, attempts: "{{ config.attempts }}" }
    confirm: { uses: payment.lookup, with: { key: "{{ key }}" } }
    compensate: { uses: payment.refund, with: { key: "{{ key }}" }, timeout: 7s }
steps:
  validate: { uses: order.validate, with: { order: "{{ input }}" } }
  reserve:
    needs: [validate]
    uses: inventory.reserve
    with: { order_id: "{{ input.orderId }}", items: "{{ steps.validate.output.items }}" }
    compensate: { uses: inventory.release, with: { key: "{{ key }}" } }
  lines: { foreach: steps.validate.output.items, as: line, concurrency: 4, uses: core.pass, with: "{{ line }}" }
  charge:
    uses: payment.charge
    pivot: true
    with: { order_id: "{{ input.orderId }}", amount: "{{ steps.reserve.output.total }}" }
    fallback:
      - { name: queue, errors: [payment.declined], when: input.later, uses: payment.queue, with: { order_id: "{{ steps.lines.output[0].productId }}" } }
  settled: { when: steps.charge.via == "queue", wait: { signal: payment.settled, until: steps.reserve.output.expires_at } }
  pause: { needs: [charge], wait: { for: 90s } }
  end: { needs: [settled, pause], uses: core.pass, on_error: continue, with: { a: "{{ steps.charge.output.paymentId | default('') }}" } }
finally:
  audit: { uses: audit.record, with: { status: "{{ run.status }}" } }
output: { id: "{{ input.orderId }}" }
"#;

fn load(text: &str, limits: &Limits) -> Loaded {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("order.yaml");
    std::fs::write(&path, text).expect("the file can be written");
    let (loaded, findings) = Definition::load(Path::new(&path), &Overrides::default(), limits);
    assert!(findings.is_empty(), "{findings:#?}");
    loaded.expect("it was read")
}

fn order() -> Plan {
    let loaded = load(ORDER, &Limits::default());
    let findings = check(&loaded, &contracts());
    assert!(findings.is_empty(), "{findings:#?}");
    plan::compile(&loaded, &contracts()).expect("it compiles")
}

fn names(plan: &Plan, steps: &[plan::StepIx]) -> Vec<String> {
    steps.iter().map(|ix| plan.step(*ix).name.to_string()).collect()
}

#[test]
fn needs_are_those_that_are_named_and_those_that_templates_read() {
    let plan = order();
    let needs = |name: &str| names(&plan, &plan.step(plan.index[name]).needs);
    assert_eq!(needs("validate"), [""; 0]);
    assert_eq!(needs("reserve"), ["validate"]);
    assert_eq!(needs("lines"), ["validate"]);
    assert_eq!(needs("charge"), ["reserve", "lines"], "a fallback's input counts too");
    assert_eq!(needs("settled"), ["reserve", "charge"]);
    assert_eq!(needs("end"), ["charge", "settled", "pause"]);
    let dependents = names(&plan, &plan.step(plan.index["charge"]).dependents);
    assert_eq!(dependents, ["settled", "pause", "end"]);
    assert_eq!(names(&plan, &plan.order), ["validate", "reserve", "lines", "charge", "settled", "pause", "end"]);
    assert_eq!(plan.graph.edge_count(), 10);
}

#[test]
fn policies_are_complete() {
    let plan = order();
    let charge = plan.step(plan.index["charge"]);
    assert!(charge.pivot && charge.on_error == OnError::Compensate);
    let Action::Call(members) = &charge.action else { panic!("a call") };
    let [own, queue] = members.as_slice() else { panic!("two members") };
    assert_eq!((own.name.as_str(), queue.name.as_str()), ("primary", "queue"));
    assert_eq!(own.call.timeout, Duration::from_secs(30));
    assert_eq!(own.call.service.as_ref().map(|s| s.as_str()), Some("gateway"));
    assert_eq!(own.call.retry.attempts, 3, "the key beside `use` wins");
    assert_eq!(own.call.retry.delay, Duration::from_millis(200));
    assert_eq!(own.call.retry.errors.as_ref().map(Vec::len), Some(2));
    assert_eq!(own.compensate.as_ref().map(|c| c.timeout), Some(Duration::from_secs(7)));
    assert!(own.confirm.as_ref().is_some_and(|c| c.contract.as_ref().is_some_and(|c| c.confirms)));
    assert_eq!(queue.call.timeout, Duration::from_secs(300), "an attempt without a timeout ends after 5m");
    assert_eq!(queue.call.retry.attempts, 1);
    assert!(queue.when.is_some() && queue.compensate.is_none());

    let lines = plan.step(plan.index["lines"]).foreach.as_ref().expect("a foreach");
    assert_eq!((lines.var.as_str(), lines.concurrency), ("line", 4));
    assert!(matches!(
        &plan.step(plan.index["settled"]).action,
        Action::Wait(Wait::Signal { name, limit: WaitLimit::Until(_), schema: None }) if name == "payment.settled"
    ));
    assert_eq!(plan.deadline, Some(Duration::from_secs(3600)));
    assert_eq!(plan.services["gateway"].concurrency, Some(32));
}

#[test]
fn a_plan_without_its_handlers_compiles() {
    let plan =
        plan::compile(&load(ORDER, &Limits::default()), &std::collections::BTreeMap::new()).expect("it compiles");
    let Action::Call(members) = &plan.step(plan.index["charge"]).action else { panic!("a call") };
    assert!(members[0].call.contract.is_none() && !members[0].call.repeatable());
}

#[test]
fn a_cycle_is_no_plan() {
    let text =
        "flowrun: 1\nname: c\nsteps:\n  a: { uses: core.pass, needs: [b] }\n  b: { uses: core.pass, needs: [a] }\n";
    let findings = plan::compile(&load(text, &Limits::default()), &contracts()).expect_err("no plan");
    assert_eq!(findings.len(), 1);
}

#[test]
fn ascii() {
    let drawn = draw::ascii(&order(), &draw::Marks::default(), 80);
    let expected = "\
order

1  validate  order.validate
2  reserve   inventory.reserve  <- validate
             undo inventory.release
   lines     core.pass  <- validate
             for each line in steps.validate.output.items
3  charge    payment.charge  <- reserve, lines
             undo payment.refund
             else queue: payment.queue
             pivot: nothing is undone after it
4  settled   wait for signal payment.settled  <- charge
             when steps.charge.via == \"queue\"
             until steps.reserve.output.expires_at
   pause     wait 1m 30s  <- charge
5  end       core.pass  <- settled, pause

finally
   audit     audit.record
";
    assert_eq!(drawn, expected);
    for width in [40, 60, 80] {
        let drawn = draw::ascii(&order(), &draw::Marks::default(), width);
        let longest = drawn.lines().map(|l| l.chars().count()).max().unwrap_or(0);
        assert!(longest <= width.max(60), "{longest} columns of {width}:\n{drawn}");
    }
}

#[test]
fn mermaid() {
    let expected = "\
flowchart TD
    validate[\"validate<br/>order.validate\"]
    reserve[\"reserve<br/>inventory.reserve\"]
    lines[[\"lines<br/>core.pass\"]]
    charge[\"charge<br/>payment.charge<br/>else payment.queue\"]
    settled([\"settled<br/>wait for signal payment.settled\"])
    pause([\"pause<br/>wait 1m 30s\"])
    end_[\"end<br/>core.pass\"]
    validate --> reserve
    validate --> lines
    reserve --> charge
    lines --> charge
    charge --> settled
    charge --> pause
    settled --> end_
    pause --> end_
    subgraph finally_steps [finally]
        finally_audit[\"audit<br/>audit.record\"]
    end
    classDef conditional stroke-dasharray: 5 5
    class settled conditional
    classDef pivot stroke-width: 4px
    class charge pivot
";
    assert_eq!(draw::mermaid(&order(), &draw::Marks::default()), expected);
}

#[test]
fn dot() {
    let expected = "\
digraph \"order\" {
    rankdir=TB;
    node [shape=box];
    \"validate\" [label=\"validate\\norder.validate\"];
    \"reserve\" [label=\"reserve\\ninventory.reserve\"];
    \"lines\" [label=\"lines\\ncore.pass\", peripheries=2];
    \"charge\" [label=\"charge\\npayment.charge\\nelse payment.queue\", penwidth=3];
    \"settled\" [label=\"settled\\nwait for signal payment.settled\", shape=oval, style=dashed];
    \"pause\" [label=\"pause\\nwait 1m 30s\", shape=oval];
    \"end\" [label=\"end\\ncore.pass\"];
    \"validate\" -> \"reserve\";
    \"validate\" -> \"lines\";
    \"reserve\" -> \"charge\";
    \"lines\" -> \"charge\";
    \"charge\" -> \"settled\";
    \"charge\" -> \"pause\";
    \"settled\" -> \"end\";
    \"pause\" -> \"end\";
    subgraph cluster_finally {
        label=\"finally\";
        \"finally.audit\" [label=\"audit\\naudit.record\"];
    }
}
";
    assert_eq!(draw::dot(&order(), &draw::Marks::default()), expected);
}

/// A chain in reverse file order, so that nothing is found in the order in which it is written.
fn chain(length: usize) -> Loaded {
    let mut text = String::from("flowrun: 1\nname: chain\nsteps:\n");
    for i in (0..length).rev() {
        let with =
            if i == 0 { String::from("1") } else { format!("\"{{{{ steps.s{}.output.x | default(0) }}}}\"", i - 1) };
        let _ = writeln!(text, "  s{i}: {{ uses: core.pass, with: {{ x: {with} }} }}");
    }
    let mut limits = Limits::default();
    limits.set("steps", 100_000).expect("a limit");
    limits.set("definition_bytes", 1 << 26).expect("a limit");
    load(&text, &limits)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test measures")]
fn time_grows_with_the_length_of_a_chain_and_not_with_its_square() {
    let mut took = Vec::new();
    for length in [2_000, 8_000] {
        let loaded = chain(length);
        let start = std::time::Instant::now();
        assert!(check(&loaded, &contracts()).is_empty());
        took.push(start.elapsed());
        assert_eq!(plan::compile(&loaded, &contracts()).expect("it compiles").order.len(), length);
    }
    // Four times the steps take four times as long, or sixteen times if something is quadratic; a busy machine is allowed for.
    assert!(took[1] < took[0] * 10, "{took:?}");
}
