use serde_json::{Value, json};

use crate::definition::{Definition, Loaded, Overrides};
use crate::diag::Severity;
use crate::handlers::{Registry, StepCtx, StepError};
use crate::limits::Limits;
use crate::plan;
use crate::verify::sketch::{Act, Aspect, Failing, IfAbsent, Member, Read, Repeat, Sketch, StepEnding, Truth};

#[derive(serde::Serialize, schemars::JsonSchema)]
struct Paid {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

async fn any(_: StepCtx, input: Value) -> Result<Value, StepError> {
    Ok(input)
}

async fn pay(_: StepCtx, _: Value) -> Result<Paid, StepError> {
    Ok(Paid { id: "1".to_owned(), note: None })
}

fn registry() -> Registry {
    Registry::new()
        .handler("look", any)
        .errors(["look.down"])
        .handler("pay", pay)
        .effect("paid")
        .keyed()
        .retryable(["pay.down"])
        .permanent(["pay.no"])
        .handler("send", any)
        .effect("sent")
        .handler("repay", any)
        .undoes("paid", "repaid")
        .keyed()
        .if_absent_ok()
        .blocks_late()
        .handler("odd", any)
        .effect("odd")
        .safe()
        .any_error()
}

fn sketch_of(loaded: &Loaded, registry: &Registry) -> Sketch {
    let contracts = registry.contracts();
    let errors: Vec<_> =
        crate::check::check(loaded, &contracts).into_iter().filter(|f| f.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let plan = plan::compile(loaded, &contracts).expect("the settings fit");
    Sketch::of(&plan, &loaded.parsed.document)
}

fn sketch(body: &str) -> Sketch {
    let text = format!("flowrun: 1\nname: small\n{body}");
    let definition = Definition {
        path: "small.yaml".to_owned(),
        text,
        files: indexmap::IndexMap::new(),
        config: json!({ "on": true, "off": false }),
    };
    let (loaded, findings) = definition.reopen(&Limits::default());
    sketch_of(&loaded.unwrap_or_else(|| panic!("{findings:#?}")), &registry())
}

fn shipped() -> Sketch {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows/ecommerce-order.yaml");
    let (loaded, findings, _) = Definition::load_with_source(&path, &Overrides::default(), &Limits::default());
    sketch_of(&loaded.unwrap_or_else(|| panic!("{findings:#?}")), &crate::orders::registry())
}

fn when(sketch: &Sketch, step: &str) -> Truth {
    let step = sketch.steps.iter().find(|s| s.name == step).expect(step);
    step.when.as_ref().expect("a condition").truth.clone()
}

fn members<'s>(sketch: &'s Sketch, step: &str) -> &'s [Member] {
    match &sketch.steps.iter().find(|s| s.name == step).expect(step).act {
        Act::Call(members) => members,
        Act::Wait(_) => panic!("{step} waits"),
    }
}

fn place(sketch: &Sketch, step: &str) -> usize {
    sketch.steps.iter().position(|s| s.name == step).expect(step)
}

fn text_of<'s>(sketch: &'s Sketch, truth: &Truth) -> &'s str {
    let Truth::Free(condition) = truth else { panic!("{truth:?}") };
    &sketch.conditions[*condition]
}

fn short(endings: &[Failing]) -> Vec<String> {
    let one = |f: &Failing| {
        let clear = if f.clear { "clear" } else { "unclear" };
        format!("{} {clear}{} {:?}", f.code, if f.retried { " retried" } else { "" }, f.taken_by)
    };
    endings.iter().map(one).collect()
}

fn read(step: usize, what: Aspect, when: Truth) -> (usize, Aspect, Truth) {
    (step, what, when)
}

fn plain(reads: &[Read]) -> Vec<(usize, Aspect, Truth)> {
    reads.iter().map(|r| (r.step, r.what, r.when.clone())).collect()
}

#[test]
fn the_shipped_order_is_drawn_as_it_is_written() {
    let sketch = shipped();
    let at = |name| place(&sketch, name);
    let names: Vec<&str> = sketch.steps.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "validate",
            "stock",
            "reserve",
            "alternatives",
            "charge",
            "settled",
            "book",
            "take",
            "label",
            "notify",
            "finalize"
        ]
    );
    assert_eq!(
        sketch.effects,
        ["reserved", "charged", "payment_queued", "taken", "labelled", "handed_over", "mailed", "mail_queued"]
    );
    assert!(sketch.deadline);
    assert_eq!(sketch.invariants.len(), 4);
    assert_eq!(sketch.invariants[2].site.pointer, "/invariants/2/never");

    assert_eq!(text_of(&sketch, &when(&sketch, "alternatives")), "steps.reserve.output.short | length > 0");
    assert_eq!(when(&sketch, "settled"), Truth::Via(at("charge"), 2));
    assert_eq!(when(&sketch, "book"), Truth::Has(at("settled"), Aspect::Output), "paymentId is required of the signal");
    let settled = &sketch.steps[at("settled")];
    assert_eq!(
        plain(&settled.when.as_ref().expect("when").reads),
        [read(at("charge"), Aspect::Via, Truth::Const(true))]
    );
    let Act::Wait(wait) = &settled.act else { panic!("it waits") };
    assert!(wait.signal && wait.limited);
    assert_eq!(plain(&wait.reads), [read(at("reserve"), Aspect::Output, Truth::Const(true))]);

    let charge = members(&sketch, "charge");
    let [own, alternative, queue] = charge else { panic!("three members") };
    assert_eq!((own.attempts, own.repeat, own.repeatable, own.harmless), (3, Repeat::Keyed, true, false));
    assert_eq!(
        short(&own.endings),
        [
            "payment.declined clear [1]",
            "payment.refused clear []",
            "payment.unavailable clear retried [1, 2]",
            "timeout unclear retried [1, 2]",
            "bad_output unclear []",
            "breaker_open clear [1, 2]",
        ]
    );
    assert_eq!(own.cut_off.code, "crashed");
    assert!(own.cut_off.taken_by.is_empty() && own.refused.taken_by.is_empty() && own.refused.clear);
    assert_eq!(short(&alternative.endings)[1], "payment.unavailable clear retried [2]");
    let by = alternative.when.as_ref().expect("when");
    assert_eq!(text_of(&sketch, &by.truth), "input.alternativePayment is defined");
    assert_eq!(queue.when.as_ref().expect("when").truth, Truth::Const(true), "the configuration is known");
    assert_eq!(queue.attempts, 3);
    let undo = own.undo.as_ref().expect("an undo");
    assert_eq!(undo.site.pointer, "/defaults/payment.charge/compensate");
    assert_eq!((undo.undoes, undo.undone.as_deref(), undo.if_absent), (true, Some("refunded"), IfAbsent::Ok));
    assert!(undo.blocks_late && undo.reads.is_empty() && own.confirm.as_ref().is_some_and(|c| c.blocks_late));
    assert!(members(&sketch, "notify").iter().all(|m| m.harmless && m.undo.is_none()));

    // `steps.book.output.payment_id | default(steps.charge.output.payment_id)`
    let finalize = &members(&sketch, "finalize")[0];
    let absent = Truth::Not(Box::new(Truth::Has(at("book"), Aspect::Output)));
    assert!(plain(&finalize.reads).contains(&read(at("charge"), Aspect::Output, absent)), "{:#?}", finalize.reads);
    assert!(finalize.reads.iter().all(|r| r.step != at("alternatives")), "it has a default");
    let total = sketch.output.iter().find(|r| r.site.pointer == "/output/total").expect("it is read");
    assert_eq!((total.step, total.what), (at("reserve"), Aspect::Output));
    assert_eq!(total.site.within, Some((9, 16)), "the name of the step");
}

#[test]
fn presence_follows_from_what_a_handler_returns() {
    let s = sketch(
        "steps:
  a: { uses: pay, on_error: continue }
  id: { when: steps.a.output.id is defined, uses: look, on_skip: run }
  note: { when: steps.a.output.note is undefined, uses: look, on_skip: run }
  all: { when: steps.a.output is defined, uses: look, on_skip: run }
  why: { when: steps.a.error.code is defined, uses: look, on_skip: run }
  more: { when: steps.a.error.details is defined, uses: look, on_skip: run }
",
    );
    let has = Truth::Has(0, Aspect::Output);
    assert_eq!(when(&s, "id"), has);
    assert_eq!(when(&s, "all"), has);
    let note = Truth::All(vec![has, Truth::Free(0)]);
    assert_eq!(when(&s, "note"), Truth::Not(Box::new(note)));
    assert_eq!(s.conditions[0], "steps.a.output.note is defined");
    assert_eq!(when(&s, "why"), Truth::Has(0, Aspect::Error));
    assert_eq!(when(&s, "more"), Truth::All(vec![Truth::Has(0, Aspect::Error), Truth::Free(1)]));
}

#[test]
fn conditions_that_are_opposite_are_so_in_the_sketch() {
    let s = sketch(
        "steps:
  a: { uses: pay, on_error: continue, when: input.n != 3 }
  b: { uses: look, when: 3 == input.n }
  skipped: { uses: look, when: steps.a.status == 'skipped', on_skip: run }
  bad: { uses: look, when: \"steps.a.status in ['failed', 'unknown']\", on_skip: run }
  well: { uses: look, when: steps.a.status != 'failed' and steps.a.status != 'unknown', on_skip: run }
  via: { uses: look, when: steps.a.via == 'nobody', on_skip: run }
  never: { uses: look, when: config.off }
  both: { uses: look, when: input.n == 3 or not (input.n == 3) }
",
    );
    assert_eq!(when(&s, "a"), Truth::Not(Box::new(when(&s, "b"))));
    assert_eq!(when(&s, "skipped"), Truth::Ended(0, StepEnding::Skipped));
    let bad = Truth::Any(vec![Truth::Ended(0, StepEnding::Failed), Truth::Ended(0, StepEnding::Unknown)]);
    assert_eq!(when(&s, "bad"), bad);
    let well = [StepEnding::Failed, StepEnding::Unknown].map(|e| Truth::Not(Box::new(Truth::Ended(0, e))));
    assert_eq!(when(&s, "well"), Truth::All(well.to_vec()));
    assert_eq!(when(&s, "via"), Truth::Const(false), "there is no such member");
    assert_eq!(when(&s, "never"), Truth::Const(false));
    assert_eq!(when(&s, "both"), Truth::Const(true));
    assert_eq!(s.conditions, ["input.n == 3"]);
}

#[test]
fn what_depends_on_an_item_or_an_error_is_open() {
    let s = sketch(
        "steps:
  each:
    foreach: input.list
    as: thing
    concurrency: 1
    uses: look
    with: { n: \"{{ thing.n if thing.ok else steps.a.output.id }}\" }
    needs: [a]
    fallback: [{ name: other, when: error.code == 'look.down', uses: look, with: { f: \"{{ error.code }}\" } }]
  a: { uses: pay, compensate: { uses: repay, with: \"{{ output.id if output.note is defined else key }}\" } }
",
    );
    assert_eq!(s.order, [1, 0]);
    assert_eq!(s.steps[0].items.as_deref(), Some(&[][..]));
    assert_eq!(s.steps[0].concurrency, 1);
    let each = members(&s, "each");
    let open = Truth::Not(Box::new(Truth::Open));
    assert_eq!(plain(&each[0].reads), [read(1, Aspect::Output, open)]);
    assert_eq!(each[1].when.as_ref().expect("when").truth, Truth::Open);
    assert!(s.conditions.is_empty());
    let undo = members(&s, "a")[0].undo.as_ref().expect("an undo");
    let own = Truth::All(vec![Truth::Has(1, Aspect::OwnOutput), Truth::Open]);
    assert_eq!(plain(&undo.reads), [read(1, Aspect::OwnOutput, own)]);
    assert_eq!(undo.reads[0].site.pointer, "/steps/a/compensate/with");
    assert_eq!(undo.reads[0].site.within, Some((3, 9)));
}

#[test]
fn endings_are_grouped_by_what_follows() {
    let s = sketch(
        "services: { outside: { breaker: { failures: 1, within: 1s, cooldown: 1s } } }
steps:
  a: { uses: send, retry: { attempts: 9 } }
  b: { uses: pay, retry: { attempts: 2, except: [timeout] } }
  c: { uses: odd, service: outside, retry: { attempts: 2, errors: [x.y] }, fallback: [{ name: f, errors: [breaker_open], uses: look }] }
  d: { uses: look }
",
    );
    let of = |step: &str| short(&members(&s, step)[0].endings);
    let a = &members(&s, "a")[0];
    assert_eq!((a.attempts, a.repeatable), (3, false));
    // Without declared errors; and `once`, so that nothing unclear is repeated.
    assert_eq!(of("a"), ["timeout unclear []", "bad_input clear []"]);
    assert_eq!(
        of("b"),
        ["pay.down clear retried []", "pay.no clear []", "timeout unclear []", "bad_output unclear retried []"]
    );
    assert_eq!(
        of("c"),
        [
            "timeout unclear []",
            "other.error clear []",
            "x.y clear retried []",
            "x.y unclear retried []",
            "breaker_open clear [1]",
        ]
    );
    assert_eq!(of("d"), ["look.down clear []", "look.down unclear []"]);
    assert_eq!(members(&s, "d")[0].effect, None);
}

#[test]
fn what_a_service_has_to_let_in_is_told() {
    let s = sketch(
        "services:
  plain: {}
  places: { concurrency: 2 }
  fuse: { breaker: { failures: 1, within: 1s, cooldown: 1s } }
steps:
  nobody: { uses: look, foreach: input.list }
  nothing: { uses: look, service: plain, foreach: input.list }
  places: { uses: look, service: places, foreach: input.list }
  fuse: { uses: look, service: fuse, foreach: input.list }
  later: { uses: look, foreach: input.list, fallback: [{ name: other, uses: look, service: fuse }] }
  wait: { wait: { for: 1s } }
",
    );
    let let_in: Vec<&str> = s.steps.iter().filter(|step| step.let_in).map(|step| step.name.as_str()).collect();
    assert_eq!(let_in, ["places", "fuse"], "a service with a limit or a breaker, and the first call of an item");
}
