//! The real program is killed everywhere, and goes on to the same end with each effect once (RELIABILITY A06-A10, A12,
//! A15, B15; SPEC 6.6, 6.17, 10).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::program::{Place, Ran};

/// A way an order can go.
#[derive(Clone, Copy)]
struct Course {
    name: &'static str,
    /// The faults that make it go that way.
    faults: &'static [&'static str],
    /// What is set besides.
    args: &'static [&'static str],
    /// Whether the order has a second method of payment.
    alternative: bool,
    /// The exit code.
    code: i32,
}

const HAPPY: Course = Course { name: "happy", faults: &[], args: &[], alternative: true, code: 0 };

const UNDONE: Course = Course {
    name: "undone",
    faults: &["{ step: label, do: { error: shipping.unavailable, kind: permanent } }"],
    args: &["--set", "shipping.manual_fallback=false"],
    alternative: true,
    code: 4,
};

/// The charge is asked about, the payment settled later is booked; a person ships, and the mail is queued.
const COURSES: [Course; 5] = [
    HAPPY,
    UNDONE,
    Course {
        name: "asked",
        faults: &["{ step: charge, do: act_then_hang }"],
        args: &["--set", "payment.timeout=400ms", "--set", "payment.attempts=1"],
        alternative: true,
        code: 0,
    },
    Course {
        name: "queued",
        faults: &["{ step: charge, member: primary, do: { error: payment.unavailable, kind: permanent } }"],
        args: &[],
        alternative: false,
        code: 0,
    },
    Course {
        name: "by other means, then undone",
        faults: &[
            "{ step: charge, member: primary, do: { error: payment.declined, kind: permanent } }",
            "{ step: label, member: primary, do: { error: shipping.unavailable, kind: permanent } }",
            "{ step: notify, member: primary, do: { error: mail.unavailable, kind: permanent } }",
            "{ step: finalize, do: { error: core.failed, kind: permanent } }",
        ],
        args: &[],
        alternative: true,
        code: 4,
    },
];

/// What can be compared between two runs of the same course: everything but times, keys and counts of attempts.
#[derive(Debug, PartialEq)]
struct End {
    code: Option<i32>,
    report: Value,
    effects: BTreeMap<String, usize>,
}

const RUN: &str = "order-1";

impl Course {
    fn place(&self) -> Place {
        let place = Place::new();
        place.order("order.json", |order| {
            if !self.alternative {
                order.as_object_mut().expect("an order is an object").remove("alternativePayment");
            }
        });
        place.write("settled.json", r#"{ "paymentId": "PAY-77" }"#);
        place.faults("calm.yaml", self.faults);
        place
    }

    fn exec<'a>(&self, faults: &'a str) -> Vec<&'a str> {
        let mut args =
            vec!["exec", "--input", "order.json", "--id", RUN, "--no-wait", "-o", "json", "--faults", faults];
        args.extend(self.args);
        args
    }

    /// Goes on after `ran` until the run is final, and returns how it ended.
    fn finish(&self, place: &Place, mut ran: Ran, mut faults: &str, deaths: &mut u32) -> End {
        for _ in 0..8 {
            if ran.was_killed() {
                *deaths += 1;
                faults = "calm.yaml";
            } else if ran.code() == Some(7) {
                // The reservation is as good as the wait: the run stands until the signal is there.
                place.run(&["signal", RUN, "payment.settled", "--id", "settled", "--input", "settled.json"]).expect(0);
            } else {
                return end(place, &ran);
            }
            ran = place.run(&["resume", RUN, "--no-wait", "-o", "json", "--faults", faults]);
        }
        panic!("{}: no end in sight: {ran:#?}", self.name);
    }

    /// Runs the course with nobody killing it.
    fn undisturbed(&self) -> (End, Vec<Value>) {
        let place = self.place();
        let ran = place.run(&self.exec("calm.yaml"));
        let end = self.finish(&place, ran, "calm.yaml", &mut 0);
        assert_eq!(end.code, Some(self.code), "{}: {end:#?}", self.name);
        (end, place.run(&["history", RUN, "-o", "jsonl"]).expect(0).lines())
    }
}

/// Returns how a run ended, and holds its journal and its effects to what is promised of every run.
#[track_caller]
fn end(place: &Place, ran: &Ran) -> End {
    let mut report = ran.json();
    let known = report.as_object_mut().expect("a report is an object");
    for changing in ["run_id", "started_at", "finished_at"] {
        known.remove(changing);
    }
    if let Some(output) = known["output"].as_object_mut() {
        output.remove("payment_id");
        output.remove("tracking");
    }
    for step in known["steps"].as_object_mut().expect("steps are an object").values_mut() {
        step.as_object_mut().expect("a step is an object").remove("attempts");
    }
    let history = place.run(&["history", RUN, "-o", "jsonl"]).expect(0).lines();
    let mut recorded = BTreeSet::new();
    for event in &history {
        let kind = event["type"].as_str().expect("a type");
        if kind.ends_with("_succeeded") || kind == "run_finished" {
            assert!(recorded.insert((kind, event["step"].as_str())), "recorded twice: {event}");
        }
    }
    End { code: ran.code(), report, effects: effects_once(&place.ledger()) }
}

/// Counts the effects of each kind; no key may have the same effect twice. A note that a late call is to be refused is
/// no effect: it is made when an attempt was cut off before it acted.
#[track_caller]
fn effects_once(entries: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut keys = BTreeSet::new();
    for entry in entries {
        assert!(keys.insert((entry["effect"].to_string(), entry["key"].to_string())), "twice: {entry}");
        if entry["effect"] == "blocked" {
            continue;
        }
        *counts.entry(entry["effect"].as_str().expect("an effect").to_owned()).or_insert(0) += 1;
    }
    counts
}

/// Returns a rule for each call that a history has, without its action, and whether the handler was let act.
fn calls(history: &[Value]) -> Vec<(String, bool)> {
    let mut rules: Vec<(String, bool)> = Vec::new();
    let mut first = BTreeSet::new();
    for event in history {
        let call = match event["type"].as_str() {
            Some("step_started") => "forward",
            Some("compensation_started") => "undo",
            Some("confirm_started") => "confirm",
            Some("finally_started") => "finally",
            _ => continue,
        };
        let step = event["step"].as_str().expect("a call is of a step");
        let via = event["via"].as_str().expect("a call is of a member");
        let member = if call == "finally" { String::new() } else { format!("member: {via}, ") };
        let rule = format!("step: {step}, {member}call: {call}, attempts: 1");
        if first.insert(rule.clone()) {
            // A fault that stands for the answer keeps the handler from acting. Had it acted, the run would go another
            // way: it would find out, and go on.
            let failed = |e: &&Value| e["type"] == "attempt_failed" && e["step"] == step && call == "forward";
            let fallback = history.iter().filter(failed).count() > usize::from(via != "primary");
            rules.push((rule, !fallback));
        }
    }
    rules
}

/// Whether to be killed also where another course has already been killed.
fn everywhere() -> bool {
    std::env::var_os("FLOWRUN_KILL_ROUNDS").is_some()
}

/// Does every piece of work, two at a time.
fn two_at_a_time<T: Send>(work: Vec<T>, each: impl Fn(T) + Sync) {
    let queue = std::sync::Mutex::new(work.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("nobody panics with it").next();
                    match next {
                        Some(work) => each(work),
                        None => return,
                    }
                }
            });
        }
    });
}

/// A06, A07, A08, A10: before and after each handler acts, in each call that these courses make.
#[test]
fn killed_inside_every_step() {
    let mut known = BTreeSet::new();
    let mut work = Vec::new();
    for course in &COURSES {
        let (expected, history) = course.undisturbed();
        let expected = std::sync::Arc::new(expected);
        for (call, acts) in calls(&history) {
            // What comes before the courses part is the same in all of them; how a run ends is not.
            let once = if call.contains("finally") { format!("{call} {}", course.code) } else { call.clone() };
            if !known.insert(once) && !everywhere() {
                continue;
            }
            for when in ["kill_before", "kill_after"] {
                if !acts && when == "kill_after" {
                    continue;
                }
                work.push((course, std::sync::Arc::clone(&expected), format!("{{ {call}, do: {when} }}")));
            }
        }
    }
    println!("{} places to be killed at", work.len());
    assert!(work.len() >= 36, "the courses are too short to mean anything: {}", work.len());
    two_at_a_time(work, |(course, expected, kill)| {
        let place = course.place();
        let mut rules = vec![kill.as_str()];
        rules.extend(course.faults);
        place.faults("kill.yaml", &rules);
        let ran = place.run(&course.exec("kill.yaml"));
        let mut deaths = 0;
        let end = course.finish(&place, ran, "kill.yaml", &mut deaths);
        assert_eq!(deaths, 1, "{}: {kill} kills once", course.name);
        assert_eq!(end, *expected, "{}: {kill}", course.name);
    });
}

/// A06: as soon as each event is durable.
#[test]
fn killed_at_every_event() {
    let mut work = Vec::new();
    for course in [&HAPPY, &UNDONE] {
        let (expected, history) = course.undisturbed();
        let expected = std::sync::Arc::new(expected);
        // Up to the label both go the same way.
        let label = history.iter().position(|e| e["step"] == "label").expect("it comes to the label");
        let from = if course.name == "undone" && !everywhere() { label } else { 1 };
        work.extend((from..history.len()).map(|k| (course, std::sync::Arc::clone(&expected), k)));
    }
    println!("{} events to be killed at", work.len());
    let cut = std::sync::Mutex::new(BTreeSet::new());
    two_at_a_time(work, |(course, expected, k)| {
        let place = course.place();
        let mut running = place.start(&course.exec("calm.yaml"));
        for _ in 0..k {
            if running.line().is_none() {
                break;
            }
        }
        running.signal(Signal::KILL);
        let ran = running.end();
        if ran.was_killed() {
            let left = place.run(&["history", RUN, "-o", "jsonl"]).expect(0).lines();
            // What was shown had been recorded.
            assert!(left.len() >= k, "{}: {k} events were shown, {} are there", course.name, left.len());
            cut.lock().expect("nobody panics with it").insert((course.name, left.len()));
        }
        // The same command again is as good as `resume`.
        let ran = if k % 2 == 0 { ran } else { place.run(&course.exec("calm.yaml")) };
        let end = course.finish(&place, ran, "calm.yaml", &mut 0);
        assert_eq!(end, *expected, "{}: killed after {k} events", course.name);
    });
    let cut = cut.into_inner().expect("nobody panicked with it");
    println!("cut off at {} different lengths of the journal: {cut:?}", cut.len());
    assert!(cut.len() >= 10, "hardly anything was cut off: {cut:?}");
}

/// A small generator, so that a seed says everything.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

fn number_of(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// A06: many orders at once, at random times, over and over. FLOWRUN_KILL_ROUNDS and FLOWRUN_KILL_SEED say how often
/// and which.
#[test]
fn killed_at_random_times() {
    let rounds = number_of("FLOWRUN_KILL_ROUNDS", 5);
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    let seed = number_of("FLOWRUN_KILL_SEED", random);
    println!("FLOWRUN_KILL_ROUNDS={rounds} FLOWRUN_KILL_SEED={seed}");
    let mut deaths = 0;
    for round in 0..rounds {
        deaths += random_round(&mut Dice(seed.wrapping_add(round)), &format!("seed {seed}, round {round}"));
    }
    println!("{deaths} deaths in {rounds} rounds");
    assert!(deaths > 0, "nothing was killed in {rounds} rounds");
}

fn random_round(dice: &mut Dice, which: &str) -> u32 {
    const ORDERS: u64 = 20;
    let place = Place::new();
    let mut lines = String::new();
    let mut expected = BTreeMap::new();
    for n in 0..ORDERS {
        let id = format!("ORD-{n}");
        // Every fifth is declined twice and undone.
        let good = n % 5 != 4;
        place.order("one.json", |order| {
            order["orderId"] = json!(id);
            order["items"] = json!([{ "productId": "PROD-D4", "quantity": 1, "price": 10.5 }]);
            if !good {
                order["paymentMethod"]["token"] = json!("tok_declined");
                order["alternativePayment"]["token"] = json!("tok_declined");
            }
        });
        lines.push_str(&std::fs::read_to_string(place.path("one.json")).expect("it was just written"));
        lines.push('\n');
        let effects: &[&str] = match good {
            true => &["audited", "charged", "labelled", "mailed", "reserved", "taken"],
            false => &["audited", "released", "reserved"],
        };
        expected.insert(id, effects.iter().map(|e| ((*e).to_owned(), 1)).collect::<BTreeMap<_, _>>());
    }
    place.write("orders.jsonl", &lines);
    let exec = ["exec", "--input", "orders.jsonl", "--id", "{{ input.orderId }}", "--concurrency", "8"];
    let mut deaths = 0;
    let mut last = None;
    for attempt in 0..60 {
        // The later, the longer: the point is to be killed in the middle, not never to end.
        let most = 90 + 30 * attempt;
        let whole = dice.below(2) == 0;
        let mut running = place.start(if whole { &exec } else { &["resume"] });
        running.run_for(Duration::from_millis(dice.below(most)));
        running.signal(Signal::KILL);
        let ran = running.end();
        if ran.was_killed() {
            deaths += 1;
            continue;
        }
        // Three deaths in a row park a run that did nothing but be unlucky.
        assert!(matches!(ran.code(), Some(0 | 4 | 7)), "{which}: {ran:#?}");
        if whole {
            last = Some(ran);
            break;
        }
    }
    let last = last.unwrap_or_else(|| place.run(&exec));
    let parked = place.run(&["list", "--status", "parked", "-o", "json"]).expect(0).json();
    let parked: Vec<&str> =
        parked["runs"].as_array().expect("a list").iter().filter_map(|r| r["run_id"].as_str()).collect();
    for run in &parked {
        place.run(&["retry", run]);
    }
    let last = if parked.is_empty() { last } else { place.run(&exec) };
    assert_eq!(last.code(), Some(4), "{which}: {last:#?}");
    let listed = place.run(&["list", "-n", "1000", "-o", "json"]).expect(0).json();
    let statuses: BTreeMap<&str, &str> = listed["runs"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|run| (run["run_id"].as_str().expect("an id"), run["status"].as_str().expect("a status")))
        .collect();
    assert_eq!(statuses.len(), usize::try_from(ORDERS).expect("few"), "{which}: {statuses:?}");
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for entry in place.ledger() {
        found.entry(entry["order_id"].as_str().expect("an order").to_owned()).or_default().push(entry);
    }
    let found: BTreeMap<String, BTreeMap<String, usize>> =
        found.into_iter().map(|(order, entries)| (order, effects_once(&entries))).collect();
    assert_eq!(found, expected, "{which}");
    println!("{which}: {deaths} deaths, {} parked", parked.len());
    deaths
}

/// A12: once, in order; again and again without counting; at once when asked twice.
#[test]
fn interrupted_it_saves_its_state() {
    let place = Place::new();
    place.faults("hang.yaml", &["{ step: charge, do: hang }"]);
    let calm = Place::new().run(&["exec", "--input", "examples/order.json", "-o", "json"]).expect(0).json();
    for (n, (signal, code)) in
        [(Signal::TERM, 143), (Signal::INT, 130), (Signal::TERM, 143), (Signal::INT, 130), (Signal::TERM, 143)]
            .into_iter()
            .enumerate()
    {
        let exec = ["exec", "--input", "examples/order.json", "--id", RUN, "--grace", "50ms", "--faults", "hang.yaml"];
        let resume = ["resume", RUN, "--grace", "50ms", "--faults", "hang.yaml"];
        let mut running = place.start(if n == 0 { &exec } else { &resume });
        running.wait_for(if n == 0 { "charge        started" } else { "charge        attempt" });
        running.signal(signal);
        let ran = running.end().expect(code);
        assert!(ran.stderr.contains("next     flowrun resume order-1"), "{ran:#?}");
        assert!(!ran.stderr.contains("after a crash"), "{ran:#?}");
    }
    let ran = place.run(&["resume", RUN, "-o", "json"]).expect(0);
    assert_eq!(ran.json()["status"], calm["status"], "{ran:#?}");
    assert_eq!(effects_once(&place.ledger())["charged"], 1);
}

/// A12: the second signal does not wait for anybody.
#[test]
fn interrupted_twice_it_stops_at_once() {
    for signal in [Signal::INT, Signal::TERM] {
        let place = Place::new();
        place.faults("hang.yaml", &["{ step: charge, do: hang }"]);
        let args = ["exec", "--input", "examples/order.json", "--id", RUN, "--grace", "10m", "--faults", "hang.yaml"];
        let mut running = place.start(&args);
        running.wait_for("charge        started");
        running.signal(signal);
        running.wait_for("stopping");
        running.signal(signal);
        let code = if signal == Signal::INT { 130 } else { 143 };
        running.end().expect(code);
        place.run(&["resume", RUN]).expect(0);
        assert_eq!(effects_once(&place.ledger())["charged"], 1);
    }
}

/// A15: a handler that takes the process with it is not given it for ever.
#[test]
fn a_run_that_kills_the_process_is_parked() {
    let place = Place::new();
    place.faults("deadly.yaml", &["{ step: label, do: kill_before }"]);
    let exec = ["exec", "--input", "examples/order.json", "--id", RUN, "--faults", "deadly.yaml"];
    assert!(place.run(&exec).was_killed());
    // Another run of the same store, which stands where it cannot go on.
    place.write(
        "workflows/gate.yaml",
        "flowrun: 1\nname: gate\nsteps:\n  gate: { wait: { signal: open, timeout: 1h } }\n  after: { needs: [gate], uses: core.pass, with: { ok: true } }\n",
    );
    place.run(&["exec", "gate", "--id", "other", "--no-wait"]).expect(7);
    for _ in 0..2 {
        assert!(place.run(&["resume", RUN, "--faults", "deadly.yaml"]).was_killed());
    }
    place.run(&["signal", "other", "open"]).expect(0);
    let ran = place.run(&["resume", "--faults", "deadly.yaml"]).expect(7);
    assert!(ran.stderr.contains("other") && ran.stderr.contains("completed"), "{ran:#?}");
    let shown = place.run(&["show", RUN]).expect(0).stdout;
    for text in [
        "parked",
        "died 3 times in a row",
        "label, whose attempt 3 was cut off",
        "flowrun retry order-1",
        "flowrun cancel order-1",
    ] {
        assert!(shown.contains(text), "{text:?} is not in\n{shown}");
    }
    let other = place.run(&["show", "other", "-o", "json"]).expect(0).json();
    assert_eq!(other["status"], "completed");
    place.run(&["retry", RUN]).expect(0);
    assert_eq!(effects_once(&place.ledger())["labelled"], 1);
}

/// B14, B15, D01, D02: while one process has the store, others ask it for everything; once it is killed they need not.
#[test]
fn a_second_process_goes_through_the_first() {
    let place = Place::new();
    place.order("other.json", |order| order["orderId"] = json!("ORD-2"));
    place.write(
        "workflows/gate.yaml",
        "flowrun: 1\nname: gate\nsteps: { gate: { wait: { signal: open, timeout: 1h } } }\n",
    );
    let order = ["exec", "ecommerce-order", "--input", "examples/order.json", "--id", RUN];
    place.faults("hang.yaml", &["{ step: label, attempts: 1, do: hang }"]);
    let mut holder = place.start(&[&order[..], &["--faults", "hang.yaml", "--set", "shipping.timeout=1h"]].concat());
    holder.wait_for("label         started");
    let listed = place.run(&["list", "-o", "json"]).expect(0).json();
    assert_eq!(listed["runs"][0]["status"], "running");
    assert_eq!(place.run(&["show", RUN, "-o", "json"]).expect(0).json()["steps"]["label"]["status"], "running");
    assert!(place.run(&["history", RUN, "-o", "jsonl"]).expect(0).lines().len() > 10);
    assert_eq!(effects_once(&place.ledger())["charged"], 1);
    // Another run is carried out by the holder; the same id with another input is refused.
    let other = ["exec", "ecommerce-order", "--input", "other.json", "--id"];
    place.run(&[&other[..], &["order-2"]].concat()).expect(0);
    place.run(&[&other[..], &[RUN]].concat()).expect(9);
    place.run(&["exec", "gate", "--id", "gate", "--no-wait"]).expect(7);
    place.run(&["signal", "gate", "open"]).expect(0);
    place.run(&["resume", "gate"]).expect(0);
    place.run(&["exec", "gate", "--id", "gone", "--no-wait"]).expect(7);
    place.run(&["cancel", "gone"]).expect(6);
    let refused = place.run(&[&order[..], &["--faults", "hang.yaml"]].concat()).expect(9);
    assert!(refused.stderr.contains(&format!("process {}", holder.pid())), "{refused:#?}");
    // One that stays with the holder's run takes it over when the holder is killed.
    let mut guest = place.start(&[&order[..], &["--set", "shipping.timeout=1h", "-v"]].concat());
    guest.run_for(Duration::from_millis(300));
    holder.signal(Signal::KILL);
    assert!(holder.end().was_killed());
    guest.end().expect(0);
    let effects = effects_once(&place.ledger());
    assert_eq!((effects["charged"], effects["labelled"], effects["mailed"]), (2, 2, 2), "one for each order");
}

/// B14, B15: a holder that is stopped is named within about a second; what a killed one left behind is in nobody's way.
#[test]
fn a_holder_that_is_stopped_or_gone() {
    let place = Place::new();
    place.faults("hang.yaml", &["{ step: label, do: hang }"]);
    let order = ["exec", "--input", "examples/order.json", "--id", RUN];
    let mut holder = place.start(&[&order[..], &["--faults", "hang.yaml"]].concat());
    holder.wait_for("label         started");
    holder.signal(Signal::STOP);
    for verb in ["list", "show", "resume", "cancel"] {
        let args = if verb == "list" { vec![verb] } else { vec![verb, RUN] };
        let mut asking = place.start(&args);
        // Twice what it may take, for a machine that is busy.
        asking.run_for(Duration::from_secs(2));
        let ran = asking.end().expect(9);
        assert!(ran.stderr.contains(&format!("process {}, which does not answer", holder.pid())), "{ran:#?}");
    }
    holder.signal(Signal::KILL);
    assert!(holder.end().was_killed());
    assert!(place.path(".flowrun/flowrun.sock").exists(), "the killed holder left its socket");
    place.run(&["list"]).expect(0);
    place.run(&["resume", RUN]).expect(0);
    assert!(!place.path(".flowrun/flowrun.sock").exists());
    assert_eq!(effects_once(&place.ledger())["labelled"], 1);
}
