//! Turns without a server.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::life::{Birth, Head, Life, Order, Turned};
use super::message::{Job, Message, Wish};
use crate::definition::{Definition, Overrides};
use crate::engine::executor::AttemptEnd;
use crate::engine::{EngineError, Workflow};
use crate::limits::Limits;
use crate::machine::Refusal;
use crate::machine::event::Event;
use crate::machine::policy::breaker::{Admission, Health};
use crate::names::RunKey;
use crate::payload::Payload;
use crate::store::format;
use crate::time::Timestamp;

pub(super) const AT: Timestamp = Timestamp(1_000_000);

/// A run between two turns, as the cluster keeps it.
pub(super) struct Kept {
    pub(super) workflow: Workflow,
    head: Head,
    pub(super) records: Vec<Vec<u8>>,
}

fn workflow(text: &str) -> Workflow {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("test.yaml");
    std::fs::write(&path, text).expect("a file");
    let (loaded, findings) = Definition::load(&path, &Overrides::default(), &Limits::default());
    let contracts = crate::orders::registry().contracts();
    Workflow::compile(&loaded.unwrap_or_else(|| panic!("{findings:?}")), &contracts).expect("it is valid")
}

fn born(workflow: &Workflow) -> Life {
    let input = Payload::of(json!({}));
    let birth = Birth { id: "r".into(), run: RunKey(Uuid::from_u128(7)), salt: [3; 32], workflow, input };
    Life::begin(birth, &Limits::default(), AT).expect("it begins")
}

impl Kept {
    pub(super) fn new(text: &str) -> (Self, Vec<Order>) {
        let workflow = workflow(text);
        let Turned { head, records, orders, .. } = born(&workflow).end(AT);
        (Self { workflow, head, records }, orders)
    }

    fn life(&self) -> Life {
        let plan = Arc::clone(&self.workflow.plan);
        Life::take_up(self.head.clone(), plan, &self.records, &Limits::default()).expect("it can be taken up")
    }

    pub(super) fn tell(&mut self, message: Message, later: Duration) -> Turned {
        let now = AT.after(later);
        let mut life = self.life();
        life.take(message, now).expect("the message is taken");
        let turned = life.end(now);
        self.head = serde_json::from_value(serde_json::to_value(&turned.head).expect("JSON")).expect("it reads back");
        self.records.extend(turned.records.iter().cloned());
        turned
    }

    fn last(&self) -> Event {
        format::decode(self.records.last().expect("there are records")).expect("it can be read").event
    }
}

fn jobs(orders: &[Order]) -> Vec<&Job> {
    let mut jobs = Vec::new();
    for order in orders {
        if let Order::Attempt(job) = order {
            jobs.push(&**job);
        }
    }
    jobs
}

fn ended(job: &Job) -> Message {
    let end = AttemptEnd::Returned(Ok(Payload::of(json!(1))));
    Message::Ended { call: job.call, attempt: job.attempt, serial: job.serial, end }
}

fn lost(job: &Job, worker: u64) -> Message {
    Message::Lost { call: job.call, attempt: job.attempt, serial: job.serial, worker, died: true }
}

const TWO: &str = "flowrun: 1\nname: two\nsteps:\n  a: { uses: core.pass, with: 1 }\n  b: { uses: core.pass, with: 2 }\n  c: { needs: [a, b], uses: core.pass, with: 3 }\n";

#[test]
fn a_run_goes_on_from_what_is_kept_of_it() {
    let (mut run, orders) = Kept::new(TWO);
    let [a, b] = jobs(&orders)[..] else { panic!("two steps begin: {orders:?}") };
    let turned = run.tell(ended(b), Duration::ZERO);
    assert!(jobs(&turned.orders).is_empty() && !turned.row.standing.idle, "one is still under way");
    let turned = run.tell(ended(a), Duration::ZERO);
    let [c] = jobs(&turned.orders)[..] else { panic!("the third begins: {:?}", turned.orders) };
    let turned = run.tell(ended(c), Duration::ZERO);
    assert_eq!((turned.row.status.as_str(), turned.row.events), ("completed", run.records.len() as u64));
    assert!(run.life().is_final());
}

/// The same message twice changes nothing the second time: a late one is noted, one of a final run is not.
#[test]
fn an_attempt_ends_once() {
    let (mut run, orders) = Kept::new(TWO);
    let a = jobs(&orders)[0];
    run.tell(ended(a), Duration::ZERO);
    run.tell(ended(a), Duration::ZERO);
    assert!(matches!(run.last(), Event::LateResult { .. }), "{:?}", run.last());
}

/// A worker that dies with two attempts of a run has died once.
#[test]
fn the_death_of_a_worker_counts_once_for_all_attempts() {
    let (mut run, orders) = Kept::new(TWO);
    let [a, b] = jobs(&orders)[..] else { panic!("two steps begin: {orders:?}") };
    for (job, died) in [(a, true), (b, false)] {
        let before = run.records.len();
        let turned = run.tell(lost(job, 11), Duration::ZERO);
        let resumed = format::decode(&run.records[before]).expect("it can be read").event;
        assert_eq!(resumed, Event::RunResumed { clean: !died });
        assert_eq!(jobs(&turned.orders).len(), 1, "what is safe is done again");
    }
}

/// Three workers that died over a run, and nothing was heard of it between: a person has to look.
#[test]
fn a_run_that_brings_workers_down_is_parked() {
    let (mut run, orders) = Kept::new("flowrun: 1\nname: one\nsteps: { a: { uses: core.pass, with: 1 } }\n");
    let mut job = jobs(&orders)[0].clone();
    for worker in 0..2 {
        let turned = run.tell(lost(&job, worker), Duration::ZERO);
        job = jobs(&turned.orders)[0].clone();
    }
    let turned = run.tell(lost(&job, 2), Duration::ZERO);
    assert!(jobs(&turned.orders).is_empty() && turned.row.standing.parked);
    let turned = run.tell(Message::Wish(Wish::Retry { from: None }), Duration::ZERO);
    assert_eq!(jobs(&turned.orders).len(), 1, "a person lets it try again");
}

#[test]
fn a_wish_that_is_refused_leaves_the_run_as_it_was() {
    let (run, _) = Kept::new(TWO);
    let refused = run.life().take(Message::Wish(Wish::Retry { from: None }), AT);
    assert!(matches!(refused, Err(EngineError::Refused(Refusal::Conflict { .. }))), "{refused:?}");
}

pub(super) const GUARDED: &str = "flowrun: 1\nname: guarded\nservices: { shop: { concurrency: 1 } }\nsteps:\n  a: { uses: core.pass, service: shop, with: 1 }\n  b: { uses: core.pass, service: shop, with: 2 }\n";

/// A call that asks its service waits over any number of turns, and asks once.
#[test]
fn a_call_that_waits_for_its_place_begins_when_it_is_let_in() {
    let (mut run, orders) = Kept::new(GUARDED);
    let asked: Vec<_> =
        orders.iter().filter_map(|o| if let Order::Admit { call, .. } = o { Some(*call) } else { None }).collect();
    assert_eq!((asked.len(), jobs(&orders).len()), (2, 0));
    let turned = run.tell(Message::Admission { call: asked[0], answer: Admission::Pass }, Duration::ZERO);
    let [a] = jobs(&turned.orders)[..] else { panic!("it begins: {:?}", turned.orders) };
    let a = a.clone();
    let turned = run.tell(Message::Wake, Duration::from_secs(1));
    assert!(turned.orders.is_empty() && turned.records.is_empty(), "{:?}", turned.orders);
    let turned = run.tell(ended(&a), Duration::from_secs(1));
    assert!(
        matches!(turned.orders[..], [Order::Leave { probe: false, health: Health::Answered, .. }]),
        "{:?}",
        turned.orders
    );
    let turned = run.tell(Message::Admission { call: asked[1], answer: Admission::Pass }, Duration::from_secs(2));
    assert_eq!(jobs(&turned.orders).len(), 1);
}

/// A place that comes too late is given back.
#[test]
fn a_place_for_a_run_that_has_stopped_goes_to_the_next() {
    let (mut run, orders) = Kept::new(GUARDED);
    let Some(Order::Admit { call, .. }) = orders.first() else { panic!("it asks: {orders:?}") };
    run.tell(Message::Wish(Wish::Cancel { reason: None, compensate: true }), Duration::ZERO);
    let turned = run.tell(Message::Admission { call: *call, answer: Admission::Probe }, Duration::ZERO);
    assert!(
        matches!(turned.orders[..], [Order::Leave { probe: true, health: Health::Silent, .. }]),
        "{:?}",
        turned.orders
    );
}

/// All attempts of a run that stops are asked to end early, and none of those that have ended.
#[test]
fn attempts_of_a_run_that_stops_are_asked_to_end() {
    let (mut run, orders) = Kept::new(TWO);
    let [a, b] = jobs(&orders)[..] else { panic!("two steps begin: {orders:?}") };
    run.tell(ended(a), Duration::ZERO);
    let turned = run.tell(Message::Wish(Wish::Cancel { reason: None, compensate: true }), Duration::ZERO);
    let stops: Vec<_> = turned.orders.iter().filter(|order| matches!(order, Order::Stop(_))).collect();
    assert!(matches!(&stops[..], [Order::Stop(serials)] if *serials == [b.serial]), "{stops:?}");
    // It answers all the same; nothing of the run is done after it.
    let turned = run.tell(ended(b), Duration::from_secs(1));
    assert_eq!(turned.row.status, "cancelled");
}

/// One message is on its way for what is due next, however many turns come before it.
#[test]
fn a_time_is_asked_for_once() {
    let text = "flowrun: 1\nname: waits\nsteps: { w: { wait: { signal: go, timeout: 1h } } }\n";
    let (mut run, orders) = Kept::new(text);
    assert!(matches!(orders[..], [Order::Wake(at)] if at == AT.after(Duration::from_secs(3_600))), "{orders:?}");
    let early = run.tell(Message::Wake, Duration::from_secs(60));
    assert!(early.orders.is_empty() && early.records.is_empty(), "{:?}", early.orders);
    let turned = run.tell(Message::Wake, Duration::from_secs(3_600));
    assert_eq!(turned.row.status, "failed");
}

/// What an unfinished turn left behind is not part of the run, and what is missing is noticed.
#[test]
fn only_whole_turns_count() {
    let (run, _) = Kept::new(TWO);
    let mut more = run.records.clone();
    more.push(run.records[0].clone());
    assert_eq!(run.head.cut(more).expect("the rest is cut off"), run.records);
    let less = run.records[..run.records.len() - 1].to_vec();
    assert!(run.head.cut(less).is_err());
    let mut other = run.records.clone();
    other[0].push(0);
    assert!(run.head.cut(other).is_err());
}
