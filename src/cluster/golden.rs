//! Golden traces: what turns make of fixed messages, held to `tests/cases/cluster`.
//!
//! Restate replays a turn that was cut off and must see the same commands in the same order (RT0016 otherwise). So a
//! change of them is a change for every cluster with a turn under way; docs/cluster.md says how to bring it in.
//! `FLOWRUN_BLESS=1 cargo test --lib --features restate cluster::golden` writes the traces anew; read the difference first.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::life::{Order, Turned};
use super::life_tests::{AT, GUARDED, Kept};
use super::message::{Job, Message, Wish};
use crate::engine::executor::AttemptEnd;
use crate::failure::{ErrorKind, Failure};
use crate::machine::history;
use crate::machine::policy::breaker::Admission;
use crate::machine::state::CallIx;
use crate::payload::Payload;
use crate::store::format;

/// A run that is told one message after the other, and what its turns made of them.
struct Trace {
    run: Kept,
    text: String,
    /// Attempts that were ordered and have not ended.
    jobs: Vec<Job>,
    /// Calls that asked their service.
    asked: Vec<CallIx>,
    told: usize,
}

impl Trace {
    fn of(workflow: &str) -> Self {
        let (run, orders) = Kept::new(workflow);
        let mut trace = Self { run, text: String::new(), jobs: Vec::new(), asked: Vec::new(), told: 0 };
        trace.note("submit", &orders);
        trace
    }

    /// Writes down the new records and the orders of a turn.
    fn note(&mut self, title: &str, orders: &[Order]) {
        writeln!(self.text, "== {title}").expect("a text takes more");
        for (seq, record) in self.run.records.iter().enumerate().skip(self.told) {
            let entry = format::decode(record).expect("it can be read");
            writeln!(self.text, "set {}", history::to_json(seq as u64, &entry)).expect("a text takes more");
        }
        self.told = self.run.records.len();
        for order in orders {
            let line = self.order(order);
            writeln!(self.text, "{line}").expect("a text takes more");
        }
    }

    fn order(&mut self, order: &Order) -> String {
        let plan = &self.run.workflow.plan;
        let name = |call: CallIx| format!("{:?} {}", call.kind, call.id(plan).place);
        match order {
            Order::Attempt(job) => {
                self.jobs.push((**job).clone());
                let until = job.until.since(AT).as_millis();
                let (call, number, serial, key) = (name(job.call), job.attempt, job.serial, &job.key);
                format!(
                    "send attempt {number} of {call}: serial {serial}, until {until} ms, key {key}, {}",
                    job.input.text()
                )
            }
            Order::Stop(serials) => format!("set stops {serials:?}"),
            Order::Admit { service, call, .. } => {
                self.asked.push(*call);
                format!("send admit {} to {service}", name(*call))
            }
            Order::Leave { service, probe, health, .. } => format!("send leave {service}: probe {probe}, {health:?}"),
            Order::Wake(at) => format!("send wake at {} ms", at.since(AT).as_millis()),
        }
    }

    fn tell(&mut self, title: &str, message: Message, seconds: u64) {
        let Turned { orders, .. } = self.run.tell(message, Duration::from_secs(seconds));
        self.note(&format!("{seconds} s: {title}"), &orders);
    }

    /// Ends the oldest attempt.
    fn end(&mut self, result: Result<serde_json::Value, (&str, ErrorKind)>, seconds: u64) {
        let Job { call, attempt, serial, .. } = self.jobs.remove(0);
        let title = format!("serial {serial} ends: {result:?}");
        let result = result.map(Payload::of).map_err(|(code, kind)| Failure::new(code, kind, "so be it"));
        self.tell(&title, Message::Ended { call, attempt, serial, end: AttemptEnd::Returned(result) }, seconds);
    }

    /// Loses the oldest attempt.
    fn lose(&mut self, seconds: u64) {
        let Job { call, attempt, serial, .. } = self.jobs.remove(0);
        let message = Message::Lost { call, attempt, serial, worker: 9, died: true };
        self.tell(&format!("serial {serial} is lost"), message, seconds);
    }

    fn admit(&mut self, answer: Admission, seconds: u64) {
        let call = self.asked.remove(0);
        self.tell(&format!("{answer:?}"), Message::Admission { call, answer }, seconds);
    }

    fn holds(self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/cluster").join(format!("{name}.txt"));
        if std::env::var_os("FLOWRUN_BLESS").is_some() {
            std::fs::write(&path, &self.text).expect("the trace is written");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let differs = kept.lines().zip(self.text.lines()).find(|(kept, made)| kept != made);
        assert!(kept == self.text, "{} is not what turns make now; first: {differs:#?}", path.display());
    }
}

const SAGA: &str = "flowrun: 1
name: saga
defaults:
  payment.charge:
    timeout: 10s
    retry: { attempts: 2, delay: 1s, jitter: none }
    compensate: { uses: payment.refund, with: { order_id: P, key: '{{ key }}' } }
steps:
  first: { uses: payment.charge, with: { order_id: P, method: { type: card }, amount: 1 } }
  left: { needs: [first], uses: payment.charge, with: { order_id: P, method: { type: card }, amount: 2 } }
  right: { needs: [first], uses: core.pass, with: { a: 1 } }
  last: { needs: [left, right], uses: core.pass, with: {} }
finally:
  audit: { uses: core.pass, with: { status: '{{ run.status }}' } }
";

/// Retry, a lost worker, two branches, a failure, and undos in their order.
#[test]
fn a_saga_gives_the_same_commands() {
    let mut trace = Trace::of(SAGA);
    let charge = json!({ "payment_id": "PAY-1", "amount": 1, "status": "captured" });
    trace.end(Err(("payment.unavailable", ErrorKind::Retryable)), 1);
    trace.tell("wake", Message::Wake, 2);
    trace.end(Ok(charge.clone()), 3);
    trace.lose(4);
    trace.end(Ok(json!({ "a": 1 })), 5);
    trace.end(Ok(charge), 6);
    trace.end(Err(("core.down", ErrorKind::Permanent)), 7);
    while !trace.jobs.is_empty() {
        trace.end(Ok(json!({})), 8);
    }
    trace.holds("saga");
}

/// Places of a service, a refusal, and a cancel while a call asks for its place.
#[test]
fn a_guarded_call_gives_the_same_commands() {
    let mut trace = Trace::of(GUARDED);
    trace.admit(Admission::Pass, 0);
    trace.end(Ok(json!(1)), 1);
    trace.tell("cancel", Message::Wish(Wish::Cancel { reason: None, compensate: true }), 2);
    trace.admit(Admission::Probe, 3);
    trace.holds("guarded");
}

const WAITS: &str = "flowrun: 1
name: waits
deadline: 2h
steps:
  pause: { wait: { for: 5m } }
  go: { needs: [pause], wait: { signal: go, timeout: 1h } }
  done: { needs: [go], uses: core.pass, with: 1 }
";

/// Timers that are asked for once, and a signal that comes before it is wanted.
#[test]
fn waits_give_the_same_commands() {
    let mut trace = Trace::of(WAITS);
    let signal =
        Wish::Signal { id: Some("one".to_owned()), name: "go".to_owned(), data: Payload::of(json!({ "n": 1 })) };
    trace.tell("wake, too early", Message::Wake, 60);
    trace.tell("signal", Message::Wish(signal.clone()), 61);
    trace.tell("the same signal", Message::Wish(signal), 62);
    trace.tell("wake", Message::Wake, 300);
    trace.end(Ok(json!(1)), 301);
    trace.holds("waits");
}
