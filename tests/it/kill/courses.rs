//! The ways an order can go, how such a run is brought to its end, and what is promised of every end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub(super) use crate::batch::{effects_once, number_of};
use crate::program::{Place, Ran};

/// A way an order can go.
#[derive(Clone, Copy)]
pub(super) struct Course {
    pub(super) name: &'static str,
    /// The faults that make it go that way.
    pub(super) faults: &'static [&'static str],
    /// What is set besides.
    pub(super) args: &'static [&'static str],
    /// Whether the order has a second method of payment.
    pub(super) alternative: bool,
    /// The exit code.
    pub(super) code: i32,
}

pub(super) const HAPPY: Course = Course { name: "happy", faults: &[], args: &[], alternative: true, code: 0 };

pub(super) const UNDONE: Course = Course {
    name: "undone",
    faults: &["{ step: label, do: { error: shipping.unavailable, kind: permanent } }"],
    args: &["--set", "shipping.manual_fallback=false"],
    alternative: true,
    code: 4,
};

/// The charge is asked about, the payment settled later is booked; a person ships, and the mail is queued.
pub(super) const COURSES: [Course; 5] = [
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
pub(super) struct End {
    pub(super) code: Option<i32>,
    pub(super) report: Value,
    pub(super) effects: BTreeMap<String, usize>,
}

pub(super) const RUN: &str = "order-1";

impl Course {
    pub(super) fn place(&self) -> Place {
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

    pub(super) fn exec<'a>(&self, faults: &'a str) -> Vec<&'a str> {
        let mut args =
            vec!["exec", "--input", "order.json", "--id", RUN, "--no-wait", "-o", "json", "--faults", faults];
        args.extend(self.args);
        args
    }

    /// Goes on after `ran` until the run is final, and returns how it ended.
    pub(super) fn finish(&self, place: &Place, mut ran: Ran, mut faults: &str, deaths: &mut u32) -> End {
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
    pub(super) fn undisturbed(&self) -> (End, Vec<Value>) {
        let place = self.place();
        let ran = place.run(&self.exec("calm.yaml"));
        let end = self.finish(&place, ran, "calm.yaml", &mut 0);
        assert_eq!(end.code, Some(self.code), "{}: {end:#?}", self.name);
        (end, place.run(&["history", RUN, "-o", "jsonl"]).expect(0).lines())
    }
}

/// Returns how a run ended, and holds its journal and its effects to what is promised of every run.
#[track_caller]
pub(super) fn end(place: &Place, ran: &Ran) -> End {
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

/// Returns a rule for each call that a history has, without its action, and whether the handler was let act.
pub(super) fn calls(history: &[Value]) -> Vec<(String, bool)> {
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
pub(super) fn everywhere() -> bool {
    std::env::var_os("FLOWRUN_KILL_ROUNDS").is_some()
}

/// Does every piece of work, two at a time.
pub(super) fn two_at_a_time<T: Send>(work: Vec<T>, each: impl Fn(T) + Sync) {
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
